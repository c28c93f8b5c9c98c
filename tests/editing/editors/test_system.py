"""The one system: what one machine solves, parties together solve."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics, pool
from editing.editors.system import System, project
from tests.laws import ALGEBRA, assert_same, draw_pairs, draw_parties, draw_prior

SEEDS = st.integers(0, 2**16)
CROSS = torch.arange(15.0, dtype=torch.float64).reshape(3, 5) / 7


def draw_system(seed: int, rank: int) -> System:
    """Draw a system with a basis, and something added to the cross term."""
    basis = torch.linalg.qr(draw_prior(seed)).Q[:, :rank]
    return System(Prior(draw_prior(seed, rank), 2.0), basis, CROSS)


@given(seed=SEEDS, rank=st.integers(1, 5))
def test_it_is_its_definition(seed: int, rank: int) -> None:
    """``(B + B₀) U (Uᵀ S U + A)⁻¹ Uᵀ``."""
    system, (part,) = draw_system(seed, rank), draw_parties([3], seed)
    assert system.basis is not None
    inner = system.basis.mT @ part.gram @ system.basis + 2.0 * draw_prior(seed, rank)
    expected = (part.cross + CROSS) @ system.basis @ inner.inverse() @ system.basis.mT
    assert_same(system.solve(part), expected, ALGEBRA)


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=SEEDS)
def test_parties_together_are_one_machine(sizes: list[int], seed: int) -> None:
    """Rows or sums, however the edits are split; a party may have none."""
    system, parties = draw_system(seed, 3), draw_parties(sizes, seed)
    union = LayerStatistics.of_pairs(*draw_pairs(sum(sizes), seed))
    sums = [LayerStatistics.of_sums(p.gram, p.cross, p.count) for p in parties]
    expected = system.solve(union)
    assert_same(system.solve(pool(parties)), expected, ALGEBRA)
    assert_same(system.solve(pool(sums)), expected, ALGEBRA)
    assert_same(system.solve(pool([*sums[:1], *parties[1:]])), expected, ALGEBRA)


@given(seed=SEEDS)
def test_a_sum_of_solutions_is_the_sum(seed: int) -> None:
    """With weights, and each party solved as if it were alone."""
    system, parties = draw_system(seed, 2), draw_parties([1, 2, 3], seed)
    alone = [system.solve(part) for part in parties]
    assert_same(torch.stack([*system.solve_each(parties)]), torch.stack(alone), ALGEBRA)
    weights = [0.5, 2.0, 1.0]
    expected = sum(w * one for w, one in zip(weights, alone, strict=True))
    assert isinstance(expected, torch.Tensor)
    assert_same(system.solve_sum(parties, weights), expected, ALGEBRA)


@given(seed=SEEDS)
def test_a_projection_of_statistics_is_that_of_their_sums(seed: int) -> None:
    """Of rows and of sums alike."""
    basis = torch.linalg.qr(draw_prior(seed)).Q[:, :2]
    (part,) = draw_parties([4], seed)
    sums = LayerStatistics.of_sums(part.gram, part.cross, part.count)
    for one in (part, sums, part + sums):
        found = project(one, basis)
        assert_same(found.gram, basis.mT @ one.gram @ basis, ALGEBRA)
        assert_same(found.cross, one.cross @ basis, ALGEBRA)
        assert found.count == one.count
