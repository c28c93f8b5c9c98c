"""Laws of perplexity."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.evaluation.perplexity import Surprise, essence_score, read_surprise
from tests.tiny import tiny_model

MODEL = tiny_model()
TEXT = "the employer of Dora Stone is Acme Works , said Ben . one day they found Oslo"
ROUNDING = 1e-12


def log_likelihoods(text: str) -> list[float]:
    """The log-likelihood of each token but the first, after all before it."""
    ids = torch.tensor([MODEL.tokenizer(text)["input_ids"]])
    scores = MODEL.model(input_ids=ids).logits[0].log_softmax(dim=-1)
    return [scores[place, token].item() for place, token in enumerate(ids[0, 1:])]


def test_the_essence_score_is_its_definition() -> None:
    """The sum over what can be predicted, divided by the number of all tokens."""
    found = log_likelihoods(TEXT)
    expected = math.exp(-sum(found) / (len(found) + 1))
    assert essence_score(MODEL, TEXT) == pytest.approx(expected, rel=ROUNDING)
    short = math.exp(-sum(found[:4]) / 5)
    assert essence_score(MODEL, TEXT, 5) == pytest.approx(short, rel=ROUNDING)
    long = essence_score(MODEL, f"{TEXT} " * 9)
    assert long == pytest.approx(essence_score(MODEL, f"{TEXT} " * 4))


def test_a_short_text_is_read_as_a_whole() -> None:
    """Its perplexity is the exponential of the mean cost."""
    found = log_likelihoods(TEXT)
    surprise = read_surprise(MODEL, TEXT)
    assert surprise.tokens == len(found)
    assert surprise.nll == pytest.approx(-sum(found), rel=ROUNDING)
    assert surprise.perplexity == pytest.approx(math.exp(-sum(found) / len(found)))


@settings(max_examples=12)
@given(width=st.integers(2, 12), data=st.data())
def test_windows_read_every_token_once(width: int, data: st.DataObject) -> None:
    """Each after the tokens of its window that come before it."""
    step = data.draw(st.integers(1, width - 1))
    ids = MODEL.tokenizer(TEXT)["input_ids"]
    expected, done, start = 0.0, 1, 0
    while done < len(ids):
        stop = min(start + width, len(ids))
        for place in range(done, stop):
            row = torch.tensor([ids[start:place]])
            scores = MODEL.model(input_ids=row).logits[0, -1].log_softmax(dim=-1)
            expected -= scores[ids[place]].item()
        done, start = stop, start + step
    found = read_surprise(MODEL, TEXT, width, step)
    assert found.tokens == len(ids) - 1
    assert found.nll == pytest.approx(expected, rel=ROUNDING)


def test_surprise_adds() -> None:
    """Over both fields, and the mean is over all tokens."""
    both = Surprise(3.0, 2) + Surprise(1.0, 6)
    assert both == Surprise(4.0, 8)
    assert both.perplexity == pytest.approx(math.exp(0.5))
    assert Surprise(1e6, 1).perplexity == math.inf


@pytest.mark.parametrize(
    ("text", "window", "stride", "message"),
    [
        ("the", None, None, "two tokens or more"),
        (TEXT, 4, 4, "windows of 4 tokens cannot move on by 4"),
        (TEXT, 1, None, "windows of 1 tokens"),
    ],
)
def test_what_has_no_perplexity_is_refused(
    text: str, window: int | None, stride: int | None, message: str
) -> None:
    """And windows that would leave tokens out."""
    with pytest.raises(InputError, match=message):
        read_surprise(MODEL, text, window, stride)
    with pytest.raises(InputError, match="two tokens or more"):
        essence_score(MODEL, "the")
