"""A pooled solution knows what each party adds, and what it is without it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.influence import (
    PooledSolution,
    expected_rounding,
    residual_left,
    solve_pooled,
)
from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics, pool
from tests.laws import assert_same, draw_pairs, draw_prior

WIDTH, OUT = 24, 4
SEEDS = st.integers(0, 2**16)
FORMS = ("rows", "sums", "mixed")


def draw(sizes: list[int], seed: int, form: str) -> tuple[list[LayerStatistics], Prior]:
    """Draw parties whose statistics are rows, sums or both."""
    parts = []
    for place, size in enumerate(sizes):
        rows = LayerStatistics.of_pairs(
            *draw_pairs(size, 100 * seed + place, WIDTH, OUT)
        )
        dense = form == "sums" or (form == "mixed" and place % 2 == 0)
        sums = LayerStatistics.of_sums(rows.gram, rows.cross, rows.count)
        parts.append(sums if dense else rows)
    return parts, Prior(draw_prior(seed, WIDTH), weight=3.0)


def system_of(parts: list[LayerStatistics], prior: Prior) -> Tensor:
    """``A``, by its definition."""
    return prior.matrix() + sum(part.gram for part in parts)


@pytest.mark.parametrize("form", FORMS)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=SEEDS)
def test_what_a_party_weighs_is_as_defined(
    form: str, sizes: list[int], seed: int
) -> None:
    """``tr(A⁻¹S)`` and ``‖BA⁻¹‖``; of all together, the layer's effective rank."""
    parts, prior = draw(sizes, seed, form)
    inverse = torch.linalg.inv(system_of(parts, prior))
    found = solve_pooled(parts, prior).influences()
    for part, influence in zip(parts, found, strict=True):
        assert influence.leverage == pytest.approx(
            float((inverse @ part.gram).trace()), rel=1e-9
        )
        assert influence.share == pytest.approx(
            float((part.cross @ inverse).norm()), rel=1e-9
        )
        assert 0 < influence.leverage <= part.count


@pytest.mark.parametrize("form", FORMS)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=SEEDS)
def test_without_a_party_is_what_the_others_solve(
    form: str, sizes: list[int], seed: int
) -> None:
    """To 1e-10, whether the statistics are few rows, many rows or sums."""
    parts, prior = draw(sizes, seed, form)
    solution = solve_pooled(parts, prior)
    assert_same(solution.delta, solve_delta(pool(parts), prior), 1e-10)
    deltas = list(solution.without_each())
    for place, delta in enumerate(deltas):
        others = parts[:place] + parts[place + 1 :]
        wanted = solve_delta(pool(others), prior) if others else torch.zeros_like(delta)
        assert (delta - wanted).norm() <= 1e-10 * solution.delta.norm()


def test_leaving_rows_out_solves_no_system_of_the_layers_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One factor of the prior serves all parties."""
    parts, prior = draw([1] * 6, 0, "rows")
    solution = solve_pooled(parts, prior)
    assert isinstance(solution, PooledSolution)
    assert solution.factor is None
    monkeypatch.setattr("editing.algebra.influence.solve_delta", None)
    monkeypatch.setattr("editing.algebra.influence.factorise", None)
    assert len(list(solution.without_each())) == 6


@pytest.mark.parametrize("form", ["rows", "sums"])
@given(size=st.integers(1, 5), seed=SEEDS)
def test_what_is_left_of_residuals_is_as_defined(
    form: str, size: int, seed: int
) -> None:
    """Alone with independent keys, a party has all of them within reach."""
    keys, residuals = draw_pairs(size, seed, WIDTH, OUT)
    (part,), prior = draw([size], 0, form)
    rows = LayerStatistics.of_pairs(keys, residuals)
    part = (
        rows
        if form == "rows"
        else LayerStatistics.of_sums(rows.gram, rows.cross, rows.count)
    )
    delta = solve_delta(part, prior)
    left = (residuals - keys @ delta.mT).norm() / residuals.norm()
    assert residual_left(part, delta) == pytest.approx(float(left), rel=1e-5)
    assert residual_left(part, 0 * delta) == pytest.approx(1.0, rel=1e-6)
    nothing = LayerStatistics.of_pairs(keys, 0 * residuals)
    assert residual_left(nothing, delta) == 0.0


@pytest.mark.parametrize("edits", [3, 40])
@pytest.mark.parametrize("weight", [0.1, 10.0])
def test_rounding_moves_a_delta_as_far_as_random_errors_do(
    edits: int, weight: float
) -> None:
    """The root mean square over draws of errors in all rows and in the system."""
    keys, residuals = draw_pairs(edits, 7, WIDTH, OUT)
    prior, epsilon = Prior(draw_prior(7, WIDTH), weight=weight), 1e-5
    own = LayerStatistics.of_pairs(keys, residuals)
    delta = solve_delta(own, prior)
    generator = torch.Generator().manual_seed(1)
    moved = []
    for _ in range(200):
        wrong = [
            each
            + epsilon
            * each.square().mean().sqrt()
            * torch.randn(each.shape, generator=generator, dtype=each.dtype)
            for each in (keys, residuals)
        ]
        other = solve_delta(LayerStatistics.of_pairs(*wrong), prior)
        moved.append(float((other - delta).norm() / delta.norm()) ** 2)
    expected = (sum(moved) / len(moved)) ** 0.5
    found = expected_rounding(own, prior, delta, epsilon, probes=500)
    assert found == pytest.approx(expected, rel=0.15)


def test_rounding_of_exact_rows_is_that_of_the_condition_number() -> None:
    """In float64 the system's own rounding is left: ``ε ‖A‖ ‖A⁻¹‖ / d_in``."""
    own = LayerStatistics.of_pairs(*draw_pairs(5, 3, WIDTH, OUT))
    prior = Prior(draw_prior(3, WIDTH), weight=3.0)
    system = system_of([own], prior)
    condition = float(system.norm() * torch.linalg.inv(system).norm()) / WIDTH
    delta = solve_delta(own, prior)
    found = expected_rounding(own, prior, delta, 0.0, probes=2000)
    precision = torch.finfo(torch.float64).eps
    assert found == pytest.approx(precision * condition, rel=0.1)


def test_rounding_is_unknown_without_rows_or_a_delta() -> None:
    """Sums alone do not say what is left of the residuals."""
    (own,), prior = draw([6], 5, "rows")
    (sums,), _ = draw([6], 5, "sums")
    delta = solve_delta(own, prior)
    assert expected_rounding(sums, prior, delta, 1e-7) is None
    assert expected_rounding(own, prior, torch.zeros_like(delta), 1e-7) is None
