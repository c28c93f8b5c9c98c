"""Laws of the solve."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.solving import IllConditionedError, Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from tests.laws import assert_same, draw_pairs, draw_prior, draw_statistics

SEEDS = st.integers(0, 2**16)


@given(edits=st.integers(1, 12), seed=SEEDS)
def test_solution_satisfies_the_normal_equations(edits: int, seed: int) -> None:
    """Check against the definition, not against another solver."""
    statistics, prior = draw_statistics(edits, seed), draw_prior(seed)
    delta = solve_delta(statistics, Prior(prior))
    assert_same(delta @ (prior + statistics.gram), statistics.cross)


@given(seed=SEEDS)
def test_solution_is_the_least_squares_delta(seed: int) -> None:
    """No step away from it lowers ``Σ‖delta k − r‖² + tr(delta prior deltaᵀ)``."""
    (keys, residuals), prior = draw_pairs(4, seed), draw_prior(seed)
    delta = solve_delta(LayerStatistics.of_pairs(keys, residuals), Prior(prior))
    delta.requires_grad_(True)
    misfit = (keys @ delta.mT - residuals).square().sum()
    (gradient,) = torch.autograd.grad(misfit + (delta @ prior * delta).sum(), delta)
    assert gradient.norm() < 1e-9


def test_repeated_edits_are_solved() -> None:
    """A singular gram is no obstacle, the prior carries the rest."""
    keys, residuals = draw_pairs(2)
    twice = LayerStatistics.of_pairs(keys.repeat(2, 1), residuals.repeat(2, 1))
    delta = solve_delta(twice, Prior(draw_prior()))
    assert_same(delta @ (draw_prior() + twice.gram), twice.cross)


def test_a_single_precision_prior_is_solved_in_double() -> None:
    """One cast at the border."""
    statistics, prior = draw_statistics(4), draw_prior().float()
    delta = solve_delta(statistics, Prior(prior))
    assert delta.dtype == torch.float64
    assert_same(delta @ (prior.double() + statistics.gram), statistics.cross)


def test_solving_changes_neither_side() -> None:
    """The prior is used again for the next party."""
    statistics, prior = draw_statistics(4), draw_prior()
    solve_delta(statistics, Prior(prior))
    assert torch.equal(prior, draw_prior())
    assert torch.equal(statistics.gram, draw_statistics(4).gram)


@given(edits=st.integers(1, 4), scale=st.sampled_from([1e-8, 1.0, 1e8]), seed=SEEDS)
def test_a_singular_system_names_the_cure(edits: int, scale: float, seed: int) -> None:
    """Rounding must not pass for a prior."""
    keys, residuals = draw_pairs(edits, seed)
    statistics = LayerStatistics.of_pairs(scale * keys, residuals)
    with pytest.raises(IllConditionedError, match="raise the prior weight"):
        solve_delta(statistics, Prior(torch.zeros(5, 5, dtype=torch.float64)))


def test_a_key_dimension_that_hardly_fires_is_no_obstacle() -> None:
    """Scales may differ by any amount; only directions that coincide are singular."""
    (keys, residuals), scale = draw_pairs(4), torch.tensor([1, 1, 1e-9, 1, 1e9])
    statistics = LayerStatistics.of_pairs(keys * scale, residuals)
    prior = scale[:, None] * draw_prior() * scale
    expected = solve_delta(
        LayerStatistics.of_pairs(keys, residuals), Prior(draw_prior())
    )
    assert_same(solve_delta(statistics, Prior(prior)) * scale, expected)


@pytest.mark.parametrize("bad", [-1.0, torch.nan])
def test_a_prior_that_is_no_covariance_is_refused(bad: float) -> None:
    """Negative directions and broken numbers have no solution to speak of."""
    prior = bad * torch.eye(5, dtype=torch.float64)
    with pytest.raises(IllConditionedError, match="not positive definite"):
        solve_delta(draw_statistics(2), Prior(prior))
