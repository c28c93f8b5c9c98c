"""Laws of the frozen prefix: the rest of the pass comes out as in a whole one."""

import pytest
import torch
from torch import Tensor, nn

from editing.memit.search.prefix_cache import FrozenPrefix, run_prefix
from editing.models.loading import EditableModel
from editing.models.token_rows import PromptBatch, pad_rows, tokenize_prompt
from tests.editing.models.test_activations import ROUNDING
from tests.families import WINDOW
from tests.laws import assert_same
from tests.tiny import TEMPLATES, tiny_model, tiny_model_of_tuples, tiny_requests

SINGLE = 1e-5
"""Parts of some families are in single precision, whatever the model's is."""

MODELS = {
    "gpt2": (tiny_model(), ROUNDING),
    "llama": (tiny_model("llama"), ROUNDING),
    "gptj": (tiny_model("gptj"), SINGLE),
    "tuples": (tiny_model_of_tuples(), ROUNDING),
    "mistral": (tiny_model("mistral"), SINGLE),
    "gemma3": (tiny_model("gemma3_text, uncapped"), SINGLE),
}


def batch_of(model: EditableModel) -> PromptBatch:
    """Rows whose subjects and lengths differ."""
    rows = [
        tokenize_prompt(model.tokenizer, template, request.prompt, request.subject)
        for request in tiny_requests()
        for template in TEMPLATES
    ]
    return pad_rows(rows, model.device)


def shifts_for(batch: PromptBatch, seed: int = 0) -> Tensor:
    """Draw a shift for each row."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(batch.input_ids), 16)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def whole_pass(
    model: EditableModel, batch: PromptBatch, layer: int, shift: Tensor, read: int
) -> Tensor:
    """Run everything, with the shift added after `layer`; return a block's output."""
    seen: list[Tensor] = []

    def add(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> object:
        hidden = (output if isinstance(output, Tensor) else output[0]).clone()
        hidden[torch.arange(len(hidden)), batch.subjects] += shift
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        seen.append(output if isinstance(output, Tensor) else output[0])

    handles = [
        model.block(layer).register_forward_hook(add),
        model.block(read).register_forward_hook(keep),
    ]
    with torch.no_grad():
        model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    for handle in handles:
        handle.remove()
    return seen[0]


def assert_windows_same(
    batch: PromptBatch, window: Tensor, whole: Tensor, tolerance: float
) -> None:
    """Compare each row from its subject's last token to its end."""
    for row, (subject, length) in enumerate(
        zip(batch.subjects.tolist(), batch.lengths.tolist(), strict=True)
    ):
        assert_same(
            window[row, : length - subject], whole[row, subject:length], tolerance
        )


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_a_shifted_window_is_that_of_a_whole_pass(name: str, layer: int) -> None:
    """After any block, the last one included, and for other kinds of positions."""
    model, tolerance = MODELS[name]
    batch = batch_of(model)
    prefix = run_prefix(model, batch, layer)
    for seed in (0, 1):
        shift = shifts_for(batch, seed)
        final, read = prefix.run(model, prefix.shifted(shift))
        expected = whole_pass(model, batch, layer, shift, 3)
        assert torch.equal(read, final)
        assert_windows_same(batch, final, expected, tolerance)


@pytest.mark.parametrize("early", [0, 1, 2, 3])
def test_an_earlier_block_can_be_read(early: int) -> None:
    """No earlier than the shifted one."""
    model, _ = MODELS["gpt2"]
    batch = batch_of(model)
    shift = shifts_for(batch)
    prefix = run_prefix(model, batch, 1)
    final, read = prefix.run(model, prefix.shifted(shift), early)
    expected = (
        whole_pass(model, batch, 1, shift, early)
        if early > 1
        else whole_pass(model, batch, 0, torch.zeros_like(shift), 1)
    )
    if early <= 1:
        expected[torch.arange(len(expected)), batch.subjects] += shift
    assert_windows_same(batch, read, expected, ROUNDING)
    last = whole_pass(model, batch, 1, shift, 3)
    assert_windows_same(batch, final, last, ROUNDING)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_rows_can_be_dropped(name: str) -> None:
    """Those that stay come out as before, in their new order."""
    model, _ = MODELS[name]
    batch = batch_of(model)
    shift, kept = shifts_for(batch), torch.tensor([20, 3, 7])
    prefix = run_prefix(model, batch, 1)
    final, _ = prefix.run(model, prefix.shifted(shift))
    few = prefix.among(kept)
    again, _ = few.run(model, few.shifted(shift[kept]))
    remaining = PromptBatch(
        batch.input_ids[kept], batch.attention_mask[kept], batch.subjects[kept]
    )
    for row, index in enumerate(kept.tolist()):
        size = int(remaining.lengths[row] - remaining.subjects[row])
        assert_same(again[row, :size], final[index, :size], ROUNDING)


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_sliding_attention_slides_in_windows_too(name: str) -> None:
    """What no row of the mask allows is not seen, though all keys are kept."""
    model, _ = MODELS[name]
    batch = batch_of(model)
    prefix = run_prefix(model, batch, 1)
    assert isinstance(prefix, FrozenPrefix)
    masks = {layer: call["attention_mask"] for layer, call in prefix.calls.items()}
    seen = (masks[2][:, 0, 0] == 0).sum(dim=1)
    assert torch.equal(seen, (batch.subjects + 1).clamp(max=WINDOW))
    assert bool((batch.subjects + 1 > WINDOW).any())
    all_seen = (masks[3][:, 0, 0] == 0).sum(dim=1)
    expected = seen if name == "mistral" else batch.subjects + 1
    assert torch.equal(all_seen, expected)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"tuples"}))
def test_no_query_sees_nothing(name: str) -> None:
    """Nor after its row's end, which has the end's own mask."""
    model, _ = MODELS[name]
    batch = batch_of(model)
    spans = batch.lengths - batch.subjects
    assert bool((spans < spans.max()).any())
    prefix = run_prefix(model, batch, 1)
    assert isinstance(prefix, FrozenPrefix)
    for call in prefix.calls.values():
        seen = call["attention_mask"] == 0
        assert seen.shape[2] == spans.max()
        assert bool(seen.any(dim=3).all())


def test_blocks_with_the_same_arguments_share_them() -> None:
    """A mask a kind of attention, also when rows were dropped."""
    model, _ = MODELS["gpt2"]
    prefix = run_prefix(model, batch_of(model), 0)
    for each in (prefix, prefix.among(torch.tensor([3, 1]))):
        assert isinstance(each, FrozenPrefix)
        assert len({id(call["attention_mask"]) for call in each.calls.values()}) == 1


def test_a_shift_has_a_gradient_and_the_prefix_has_none() -> None:
    """What a step cannot change is not differentiated."""
    model, _ = MODELS["gpt2"]
    batch = batch_of(model)
    prefix = run_prefix(model, batch, 1)
    assert not prefix.hidden.requires_grad
    shift = shifts_for(batch).requires_grad_()
    final, _ = prefix.run(model, prefix.shifted(shift))
    final[:, 0].sum().backward()
    assert shift.grad is not None
    assert bool((shift.grad != 0).any(dim=1).all())


def test_running_again_changes_nothing() -> None:
    """A step stores no keys for the next one."""
    model, _ = MODELS["gptj"]
    batch = batch_of(model)
    prefix = run_prefix(model, batch, 1)
    shifted = prefix.shifted(shifts_for(batch))
    first, _ = prefix.run(model, shifted)
    second, _ = prefix.run(model, shifted)
    assert torch.equal(first, second)


def test_hooks_are_gone_even_after_a_failure() -> None:
    """The model is unchanged afterwards."""
    model = tiny_model()
    batch = pad_rows(
        [tokenize_prompt(model.tokenizer, "{}", "{}", "the " * 70)], model.device
    )
    with pytest.raises((IndexError, RuntimeError)):
        run_prefix(model, batch, 1)
    for module in model.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
