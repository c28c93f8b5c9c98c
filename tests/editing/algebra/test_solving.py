"""Laws of the solve."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import editing.algebra.solving as solving
from editing.algebra.solving import (
    IllConditionedError,
    Prior,
    factorise,
    solve_delta,
    solve_each,
    solve_sum,
)
from editing.algebra.statistics import LayerStatistics, StatisticsError
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


WIDTH = 24


def draw_wide(edits: int, seed: int = 0) -> LayerStatistics:
    """Draw edits that are few for their width up to six."""
    return LayerStatistics.of_pairs(*draw_pairs(edits, seed, WIDTH))


def in_sums(statistics: LayerStatistics) -> LayerStatistics:
    """Forget the rows."""
    return LayerStatistics.of_sums(statistics.gram, statistics.cross, statistics.count)


def by_inverse(statistics: LayerStatistics, prior: Tensor) -> Tensor:
    """The definition."""
    return statistics.cross @ (prior + statistics.gram).inverse()


@given(edits=st.integers(0, 9), scale=st.sampled_from([1e-3, 1.0, 1e3]), seed=SEEDS)
def test_few_rows_are_solved_to_the_definition(
    edits: int, scale: float, seed: int
) -> None:
    """None, few, and more than are solved by themselves; as rows and as sums."""
    statistics, prior = draw_wide(edits, seed), scale * draw_prior(seed, WIDTH)
    expected = by_inverse(statistics, prior)
    assert statistics.few == (edits <= WIDTH // 4)
    assert_same(solve_delta(statistics, Prior(prior)), expected)
    assert_same(solve_delta(in_sums(statistics), Prior(prior)), expected)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=6),
    seed=SEEDS,
)
def test_every_party_is_solved_as_if_it_were_alone(
    sizes: list[tuple[int, bool]], seed: int
) -> None:
    """In their order, whatever each sends; and so are weighted sums of them."""
    parties = [
        draw_wide(size, seed + place)
        if rows
        else in_sums(draw_wide(size, seed + place))
        for place, (size, rows) in enumerate(sizes)
    ]
    prior = draw_prior(seed, WIDTH)
    expected = torch.stack([by_inverse(party, prior) for party in parties])
    assert_same(torch.stack([*solve_each(parties, Prior(prior))]), expected)
    weights = [0.5 + place for place in range(len(parties))]
    total = torch.einsum("p,poi->oi", torch.tensor(weights).double(), expected)
    assert_same(solve_sum(parties, Prior(prior), weights), total)


def test_a_prior_is_factorised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many parties and merges are solved against it."""
    widths: list[int] = []

    def count(system: Tensor) -> Tensor | None:
        widths.append(len(system))
        return factorise(system)

    monkeypatch.setattr(solving, "factorise", count)
    prior, parties = Prior(draw_prior(0, WIDTH)), [draw_wide(3, k) for k in range(4)]
    first = [*solve_each(parties, prior)]
    again = [*solve_each(parties, prior)]
    assert widths.count(WIDTH) == 1
    for ours, kept in zip(first, again, strict=True):
        assert torch.equal(ours, kept)


def test_one_delta_is_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that drops each holds no stack of them."""
    solved: list[int] = []

    def note(statistics: LayerStatistics, prior: Prior) -> Tensor:
        solved.append(statistics.count)
        return by_inverse(statistics, prior.matrix())

    monkeypatch.setattr(solving, "_solve_whole", note)
    deltas = solve_each(
        [in_sums(draw_wide(k)) for k in (1, 2)], Prior(torch.eye(WIDTH))
    )
    next(deltas)
    assert solved == [1]


@given(edits=st.integers(1, 3), seed=SEEDS)
def test_a_prior_that_the_edits_complete_carries_the_solve(
    edits: int, seed: int
) -> None:
    """By itself it is singular, where only the edits have an entry."""
    (keys, residuals), prior = draw_pairs(edits, seed, WIDTH), draw_prior(seed, WIDTH)
    keys[0, 3] = 1.0
    prior[3] = prior[:, 3] = 0.0
    statistics = LayerStatistics.of_pairs(keys, residuals)
    assert Prior(prior).factor is None
    delta = solve_delta(statistics, Prior(prior))
    assert_same(delta @ (prior + statistics.gram), statistics.cross)


def test_edits_beyond_all_precision_are_refused() -> None:
    """One twice, so long that the prior is less than their rounding."""
    keys, residuals = draw_pairs(1, d_in=WIDTH)
    twice = LayerStatistics.of_pairs(1e12 * keys.repeat(2, 1), residuals.repeat(2, 1))
    with pytest.raises(IllConditionedError, match="raise the prior weight"):
        solve_delta(twice, Prior(draw_prior(0, WIDTH)))


@pytest.mark.parametrize("width", [1, 5, 256, 257, 600])
def test_a_factor_times_its_transpose_is_the_system(width: int) -> None:
    """In one block, and in several."""
    system = draw_prior(width, width)
    factor = factorise(system.clone())
    assert factor is not None
    assert_same(factor.tril() @ factor.tril().mT, system)
    system[-1, -1] = -1.0
    assert factorise(system) is None


def test_a_prior_is_its_weighted_terms() -> None:
    """In float64, whatever their precision, and anew at each call."""
    covariance, grams = draw_prior(1).float(), draw_prior(2)
    prior = Prior(covariance, 3.0, grams, 0.5)
    assert torch.equal(prior.matrix(), 3.0 * covariance.double() + 0.5 * grams)
    prior.matrix().zero_()
    assert_same(prior.matrix(), 3.0 * covariance.double() + 0.5 * grams)


def test_no_party_is_an_error() -> None:
    """Before anything is solved."""
    for merge in (lambda: solve_each([], Prior(draw_prior())), no_sum):
        with pytest.raises(StatisticsError, match="at least one party"):
            merge()


def no_sum() -> Tensor:
    """Add up nothing."""
    return solve_sum([], Prior(draw_prior()), [])
