"""Laws of recordings: blocks called again with what was recorded say the same again."""

import pytest
import torch

from editing.memit.search.block_calls import recording
from editing.models.activations import hidden_state
from editing.models.token_rows import PromptBatch, pad_rows, tokenize_prompt
from tests.tiny import TEMPLATES, tiny_model, tiny_requests

FAMILIES = ("gpt2", "llama", "gptj", "bloom", "mpt", "falcon", "opt", "gemma3_text")


def batch_for(family: str) -> tuple[torch.nn.Module, PromptBatch]:
    """Make a model and rows of several lengths."""
    model = tiny_model(family, torch.float32)
    rows = [
        tokenize_prompt(model.tokenizer, template, request.prompt, request.subject)
        for template, request in zip(TEMPLATES, tiny_requests(), strict=False)
    ]
    return model.model, pad_rows(rows, model.device)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 2])
def test_blocks_say_again_what_they_said(family: str, layer: int) -> None:
    """Blocks that return tensors or tuples, called by position or by name."""
    model = tiny_model(family, torch.float32)
    whole, batch = batch_for(family)
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    with torch.no_grad():
        with recording(model, layer) as found:
            model.model(**given, use_cache=False)
        assert sorted(found.calls) == list(range(layer + 1, 4))
        (hidden,) = found.outputs
        for number, arguments in found.calls.items():
            hidden = hidden_state(model.block(number)(hidden, **arguments))
        said = model.logits(hidden)
        expected = whole(**given, use_cache=False).logits
    assert torch.equal(said, expected)


def test_hooks_are_gone_even_after_a_failure() -> None:
    """The model is unchanged afterwards."""
    model = tiny_model()
    beyond = torch.full((1, 65), 1)
    with pytest.raises((IndexError, RuntimeError)), recording(model, 1):
        model.model(input_ids=beyond)
    for module in model.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
