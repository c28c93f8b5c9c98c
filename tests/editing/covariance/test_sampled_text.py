"""Text that a model writes: drawn from its probabilities, the same for one seed."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import editing.covariance.sampled_text
from editing.covariance.sampled_text import (
    SAMPLED_TOGETHER,
    name_samples,
    sample_documents,
)
from editing.models.loading import EditableModel
from tests.tiny import WORDS, tiny_model, tiny_tokenizer

ROWS = 2 * SAMPLED_TOGETHER + 3


def model_with(**special: str) -> EditableModel:
    """Make the tiny model with special tokens."""
    whole = tiny_model()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer().backend_tokenizer,
        unk_token="[UNK]",
        **special,
    )
    return EditableModel(whole.model, tokenizer, whole.architecture)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw rows of at most eight tokens."""
    monkeypatch.setattr(editing.covariance.sampled_text, "LONGEST_SAMPLE", 8)


def draw(model: EditableModel, seed: int = 0, start: int = 0) -> list[tuple[int, ...]]:
    """Draw some rows."""
    return list(islice(sample_documents(model, seed, start), ROWS))


def test_one_seed_gives_one_text_wherever_one_starts() -> None:
    """And another seed another one; the program's own generator is left alone."""
    model = tiny_model()
    state = torch.get_rng_state()
    whole = draw(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert draw(model) == whole
    assert draw(model, seed=1) != whole
    for start in (1, SAMPLED_TOGETHER, SAMPLED_TOGETHER + 5):
        assert draw(model, start=start)[: ROWS - start] == whole[start:]
    assert name_samples(model, 0) != name_samples(model, 1)


def test_rows_end_at_the_token_that_ends_a_text_and_hold_at_least_one() -> None:
    """Neither it nor the first token, which no text begins with, is among them."""
    model = model_with(bos_token=".", eos_token=".")
    end = model.tokenizer.eos_token_id
    rows = draw(model)
    assert all(end not in row and 1 <= len(row) <= 7 for row in rows)
    assert len({len(row) for row in rows}) > 2


def test_without_special_tokens_rows_begin_anywhere_and_are_full() -> None:
    """At a token drawn from all."""
    rows = draw(tiny_model())
    assert {len(row) for row in rows} == {8}
    assert len({row[0] for row in rows}) > 20
    assert all(0 <= token <= len(WORDS) for row in rows for token in row)


def test_tokens_are_drawn_with_the_model_s_probabilities() -> None:
    """At temperature 1: frequencies after the first token, against the model's."""
    model = model_with(bos_token="the")
    first = model.tokenizer.bos_token_id
    rows = islice(sample_documents(model, 0), 100 * SAMPLED_TOGETHER)
    drawn = torch.tensor([row[0] for row in rows])
    frequencies = drawn.bincount(minlength=len(WORDS) + 1) / len(drawn)
    with torch.no_grad():
        scores = model.model(input_ids=torch.tensor([[first]])).logits[0, -1]
    probabilities = scores.softmax(-1)
    # Three standard deviations of a count, for the likeliest tokens.
    likeliest = probabilities.topk(5).indices
    spread = 3 * (probabilities * (1 - probabilities) / len(drawn)).sqrt()
    assert float(probabilities[likeliest].sum()) > 0.2
    assert ((frequencies - probabilities).abs() < spread)[likeliest].all()


def test_the_cache_changes_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token is drawn after the whole row before it."""
    model = tiny_model()
    cached, forward = draw(model), model.model.forward

    def without_cache(
        input_ids: Tensor,
        attention_mask: Tensor,
        past_key_values: Tensor | None,
        use_cache: bool,
    ) -> SimpleNamespace:
        assert use_cache
        assert attention_mask.all()
        whole = (
            (input_ids,) if past_key_values is None else (past_key_values, input_ids)
        )
        ids = torch.cat(whole, dim=1)
        logits = forward(input_ids=ids, use_cache=False).logits
        return SimpleNamespace(logits=logits, past_key_values=ids)

    monkeypatch.setattr(model.model, "forward", without_cache)
    assert draw(model) == cached
