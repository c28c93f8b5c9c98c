"""Laws of residuals: shares of the way from the hidden state to the target."""

import pytest
import torch

from editing.memit.residuals import compute_residuals, read_hidden
from editing.models.token_rows import BARE, tokenize_prompt
from tests.editing.models.test_activations import ROUNDING, naive_reading
from tests.laws import assert_same, draw_pairs
from tests.tiny import LAYERS, tiny_model, tiny_model_of_tuples, tiny_requests

MODEL = tiny_model()


@pytest.mark.parametrize("layer", [0, *LAYERS])
def test_hidden_states_are_those_of_the_bare_prompt(layer: int) -> None:
    """At the subject's last token, one prompt at a time."""
    found = read_hidden(MODEL, tiny_requests(), layer)
    for request, hidden in zip(tiny_requests(), found, strict=True):
        row = tokenize_prompt(MODEL.tokenizer, BARE, request.prompt, request.subject)
        assert_same(hidden, naive_reading(MODEL, row, layer)[1], ROUNDING)


def test_blocks_may_return_tuples() -> None:
    """The same hidden states."""
    plain = read_hidden(MODEL, tiny_requests(), 2)
    assert_same(read_hidden(tiny_model_of_tuples(), tiny_requests(), 2), plain)


@pytest.mark.parametrize("share", [1.0, 0.5, 1 / 3])
def test_a_residual_is_a_share_of_what_is_missing(share: float) -> None:
    """Added as many times as the share asks, it reaches the target."""
    hidden, _ = draw_pairs(4, 1)
    targets, _ = draw_pairs(4, 2)
    residual = compute_residuals(targets, hidden, share)
    assert_same(hidden + residual / share, targets)


def test_residuals_of_single_precision_are_taken_in_double() -> None:
    """A small way between large states is not lost."""
    hidden, _ = draw_pairs(4, 1)
    targets = (hidden.float() + 1e-6).float()
    ours = compute_residuals(targets, hidden.float(), 0.5)
    assert ours.dtype == torch.float64
    assert_same(ours, 0.5 * (targets.double() - hidden.float().double()))


def test_hidden_states_are_given_in_double() -> None:
    """Whatever the model's precision."""
    model = tiny_model(dtype=torch.float32)
    assert read_hidden(model, tiny_requests(2), 1).dtype == torch.float64
