"""Tests of guesses hold for every edited key, and fail where they are said to."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from sims.audit.scores import (
    Directions,
    Verdict,
    area_under_curve,
    measure,
    score_leverage,
    score_movement,
    score_span,
)
from tests.laws import draw_pairs

WIDE = 40


def keys_of(edits: int, seed: int = 0) -> Tensor:
    """Draw keys of a layer."""
    return draw_pairs(edits, seed, WIDE, 4)[0]


def accepts(verdict: Verdict) -> int:
    """Count the guesses that are accepted."""
    assert verdict.accepted is not None
    return int(verdict.accepted.sum())


@given(st.integers(1, 3 * WIDE), st.integers(0, 20))
def test_every_edited_key_passes_both_tests(edits: int, seed: int) -> None:
    """However many edits there are."""
    keys = keys_of(edits, seed)
    found = Directions.of_gram(keys.mT @ keys)
    assert accepts(score_leverage(keys, found)) == edits
    assert accepts(score_span(keys, found.span)) == edits


@given(st.integers(1, WIDE // 2), st.integers(0, 20))
def test_no_other_key_passes_while_the_layer_is_wider_than_the_edits(
    edits: int, seed: int
) -> None:
    """It does not lie in their span."""
    keys, others = keys_of(edits, seed), keys_of(9, seed + 100)
    found = Directions.of_gram(keys.mT @ keys)
    assert accepts(score_leverage(others, found)) == 0
    assert accepts(score_span(others, found.span)) == 0


def test_leverage_tells_more_edits_than_the_layer_is_wide() -> None:
    """Where the span of the keys is everything; other keys have about 1 / 0.3."""
    wide = 400
    keys = draw_pairs(2 * int(1.3 * wide), 0, wide, 4)[0]
    edited = torch.arange(len(keys)) < len(keys) // 2
    found = Directions.of_gram(keys[edited].mT @ keys[edited])
    span = measure(score_span(keys, found.span), edited)
    leverage = measure(score_leverage(keys, found), edited)
    assert (span.recall, span.false_alarms) == (1, 1)
    assert leverage.recall == 1
    assert leverage.false_alarms is not None
    assert leverage.false_alarms < 0.02
    assert leverage.auc is not None
    assert leverage.auc > 0.98


def test_leverage_is_the_naive_quadratic_form() -> None:
    """``kᵀG⁻¹k``."""
    keys, others = keys_of(2 * WIDE), keys_of(5, 7)
    gram = keys.mT @ keys
    naive = torch.stack([k @ torch.linalg.inv(gram) @ k for k in others])
    assert torch.allclose(
        score_leverage(others, Directions.of_gram(gram)).scores, naive
    )


@pytest.mark.parametrize("edits", [3, WIDE])
def test_rows_and_their_gram_are_taken_apart_alike(edits: int) -> None:
    """Of few rows no gram is formed."""
    part = LayerStatistics.of_pairs(*draw_pairs(edits, 0, WIDE, 4))
    rows, gram = Directions.of(part), Directions.of_gram(part.gram)
    assert torch.allclose(rows.values.sort().values, gram.values.sort().values)
    assert torch.allclose(rows.span @ rows.span.mT, gram.span @ gram.span.mT)


def test_an_update_moves_the_keys_that_it_was_made_for() -> None:
    """More than others, so it ranks them first; no limit is known."""
    keys, residuals = draw_pairs(6, 0, WIDE, WIDE)
    others = keys_of(6, 5)
    system = torch.eye(WIDE, dtype=torch.float64) + keys.mT @ keys
    update = torch.linalg.solve(system, residuals.mT @ keys, left=False)
    verdict = score_movement(torch.cat([keys, others]), update)
    found = measure(verdict, torch.arange(12) < 6)
    assert verdict.accepted is None
    assert (found.recall, found.false_alarms) == (None, None)
    assert found.auc == 1


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
)
def test_the_area_is_the_share_of_pairs_in_order(
    right: list[int], wrong: list[int]
) -> None:
    """Equal scores count half."""
    pairs = [(r < w) + 0.5 * (r == w) for r in right for w in wrong]
    scores = torch.tensor([*right, *wrong], dtype=torch.float64)
    edited = torch.arange(len(scores)) < len(right)
    assert area_under_curve(scores, edited) == pytest.approx(sum(pairs) / len(pairs))


def test_without_a_right_or_a_wrong_guess_there_is_no_area() -> None:
    """Nor a share of what is not there."""
    verdict = Verdict("span", torch.zeros(3), 1.0)
    found = measure(verdict, torch.ones(3, dtype=torch.bool))
    assert (found.recall, found.false_alarms, found.auc) == (1, None, None)
