"""Laws of the statistics: a commutative monoid, and what cannot be an element of it."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.statistics import (
    SHARE,
    LayerStatistics,
    NormBounds,
    StatisticsError,
    Total,
    check_count,
    check_matrix,
    check_norms,
    check_semidefinite,
    pool,
)
from tests.laws import (
    D_IN,
    D_OUT,
    assert_same,
    assert_same_statistics,
    draw_pairs,
    draw_statistics,
)

SEEDS = st.integers(0, 2**16)
FEW = ((0, 2), (2, 6), (6, 7))


def test_statistics_are_the_sums_over_edits() -> None:
    """The definition, one edit at a time."""
    keys, residuals = draw_pairs(4)
    gram = sum(torch.outer(key, key) for key in keys)
    cross = sum(torch.outer(r, k) for r, k in zip(residuals, keys, strict=True))
    assert isinstance(gram, torch.Tensor)
    assert isinstance(cross, torch.Tensor)
    ours = LayerStatistics.of_pairs(keys, residuals)
    assert_same_statistics(ours, LayerStatistics.of_sums(gram, cross, 4))


def test_half_precision_pairs_are_summed_in_double() -> None:
    """One cast at the border, before the product and not after it."""
    keys, residuals = (side.bfloat16() for side in draw_pairs(4))
    ours = LayerStatistics.of_pairs(keys, residuals)
    expected = LayerStatistics.of_pairs(keys.double(), residuals.double())
    assert_same_statistics(ours, expected)


def in_sums(statistics: LayerStatistics) -> LayerStatistics:
    """Forget the rows."""
    return LayerStatistics.of_sums(statistics.gram, statistics.cross, statistics.count)


@given(cuts=st.sets(st.integers(0, 10)), seed=SEEDS)
def test_statistics_of_a_union_are_the_sum(cuts: set[int], seed: int) -> None:
    """However ten edits are split, empty parts included, every field adds up."""
    keys, residuals = draw_pairs(10, seed)
    bounds = [0, *sorted(cuts), 10]
    parts = [
        LayerStatistics.of_pairs(keys[a:b], residuals[a:b]) for a, b in pairwise(bounds)
    ]
    whole = LayerStatistics.of_pairs(keys, residuals)
    assert_same_statistics(pool(parts), whole)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6),
    width=st.sampled_from([5, 24]),
    seed=SEEDS,
)
def test_rows_and_sums_add_up_and_stay_bounded(
    sizes: list[tuple[int, bool]], width: int, seed: int
) -> None:
    """Some parties by rows and others by sums, and never many rows at a time."""
    parts = [
        LayerStatistics.of_pairs(*draw_pairs(size, seed + place, width))
        for place, (size, _) in enumerate(sizes)
    ]
    total = Total()
    for part, (_, rows) in zip(parts, sizes, strict=True):
        total.add(part if rows else in_sums(part))
        assert SHARE * len(total.statistics().keys) <= width
    found = total.statistics()
    assert_same(found.gram, sum((part.gram for part in parts), torch.zeros(())))
    assert_same(found.cross, sum((part.cross for part in parts), torch.zeros(())))
    assert found.count == sum(size for size, _ in sizes)


def test_rows_are_held_while_they_are_few() -> None:
    """They are smaller than their sums, and solve faster."""
    keys, residuals = draw_pairs(7, d_in=24)
    parts = [LayerStatistics.of_pairs(keys[a:b], residuals[a:b]) for a, b in FEW]
    few, many = pool(parts[:2]), pool(parts)
    assert few.few
    assert torch.equal(few.keys, keys[:6])
    assert torch.equal(few.residuals, residuals[:6])
    assert not many.few
    assert len(many.keys) == 0


def test_a_sum_that_was_taken_does_not_grow() -> None:
    """What is added later changes a copy."""
    total, part = Total(), in_sums(draw_statistics(3))
    total.add(part)
    total.add(part)
    before = total.statistics()
    gram = before.gram.clone()
    total.add(part)
    assert torch.equal(before.gram, gram)
    assert_same(total.statistics().gram, 3 * part.gram)


@given(seed=SEEDS)
def test_addition_is_associative_and_commutative(seed: int) -> None:
    """So replies may be added as they arrive, to rounding."""
    a, b, c = (draw_statistics(n, seed + n) for n in (1, 2, 6))
    assert_same_statistics((a + b) + c, a + (b + c))
    assert_same_statistics(a + b, b + a)


def test_no_edits_are_the_zero() -> None:
    """The monoid's neutral element."""
    some, none = draw_statistics(3), draw_statistics(0)
    assert_same_statistics(some + none, some)
    assert_same_statistics(none + some, some)


def test_pooling_changes_no_part() -> None:
    """What travels is a value."""
    for form in (in_sums, lambda part: part):
        first, second = form(draw_statistics(2, 1)), form(draw_statistics(3, 2))
        pool([first, second, second])
        assert_same_statistics(first, draw_statistics(2, 1))


def test_pool_reads_replies_one_at_a_time() -> None:
    """So a server need not keep them all in memory."""
    replies = iter([draw_statistics(2, seed) for seed in range(3)])
    assert pool(replies).count == 6
    assert next(replies, None) is None


def test_nothing_to_pool_is_an_error() -> None:
    """The error names what was wanted."""
    with pytest.raises(StatisticsError, match="at least one party"):
        pool([])


def test_different_widths_do_not_pool() -> None:
    """The error names the shapes."""
    narrow = LayerStatistics.of_pairs(torch.randn(2, 4), torch.randn(2, 3))
    with pytest.raises(
        StatisticsError, match=r"\(3, 4\) and \(3, 5\).*same base model"
    ):
        _ = narrow + draw_statistics(2)


@pytest.mark.parametrize("count", [0, -3])
def test_a_batch_without_edits_is_refused(count: int) -> None:
    """The error names the count."""
    with pytest.raises(StatisticsError, match=f"got a count of {count}"):
        check_count(count)


def test_one_edit_is_enough() -> None:
    """The smallest batch there is."""
    check_count(1)
    check_matrix("gram", draw_statistics(1).gram, (5, 5))
    check_semidefinite(draw_statistics(1).gram)


def test_a_matrix_of_another_layer_is_refused() -> None:
    """The error names both shapes."""
    with pytest.raises(StatisticsError, match=r"`cross` of shape \(5, 3\).*\(3, 5\)"):
        check_matrix("cross", torch.zeros(3, 5), (5, 3))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_refused(bad: float) -> None:
    """The error names their number."""
    matrix = torch.zeros(3, 5)
    matrix[1, 2] = bad
    with pytest.raises(StatisticsError, match="1 of 15 entries NaN or infinite"):
        check_matrix("cross", matrix, (3, 5))


@given(edits=st.integers(0, 12), scale=st.sampled_from([1e-6, 1.0, 1e6]), seed=SEEDS)
def test_every_honest_gram_is_semidefinite(edits: int, scale: float, seed: int) -> None:
    """Singular ones too, at any scale."""
    keys, residuals = draw_pairs(edits, seed)
    check_semidefinite(LayerStatistics.of_pairs(scale * keys, residuals).gram)


def test_a_gram_that_is_not_symmetric_is_refused() -> None:
    """Even if its lower triangle, all that Cholesky reads, is well."""
    gram = draw_statistics(8).gram
    gram[0, 3] += 1e-3
    with pytest.raises(StatisticsError, match="symmetric"):
        check_semidefinite(gram)


@pytest.mark.parametrize("entry", [1e160, -1e300])
def test_entries_whose_squares_are_no_numbers_are_refused(entry: float) -> None:
    """No rounding is a share of their norm, so nothing would be too far off."""
    gram = draw_statistics(8).gram
    gram[0, 3] = gram[3, 0] = entry
    with pytest.raises(StatisticsError, match="norm that is a number"):
        check_semidefinite(gram)


@given(depth=st.sampled_from([1e-6, 1e-3, 1.0]), edits=st.integers(1, 8), seed=SEEDS)
def test_a_negative_eigenvalue_is_refused(depth: float, edits: int, seed: int) -> None:
    """Beyond rounding, however small next to the others, and as large as they."""
    values, vectors = torch.linalg.eigh(draw_statistics(edits, seed).gram)
    values[0] = -depth * values.sum()
    with pytest.raises(StatisticsError, match="no negative eigenvalue"):
        check_semidefinite(vectors @ values.diag() @ vectors.mT)


def norms_of(
    edits: int, scale: float, seed: int
) -> tuple[list[LayerStatistics], NormBounds]:
    """Draw statistics as rows and as sums, and the root mean squares of their edits."""
    keys, residuals = draw_pairs(edits, seed)
    keys = scale * keys
    rows = LayerStatistics.of_pairs(keys, residuals)
    return [rows, in_sums(rows)], NormBounds(
        *(float(side.square().sum(dim=1).mean()) ** 0.5 for side in (keys, residuals))
    )


@given(edits=st.integers(1, 12), scale=st.sampled_from([1e-6, 1.0, 1e6]), seed=SEEDS)
def test_no_honest_edit_is_beyond_its_own_norms(
    edits: int, scale: float, seed: int
) -> None:
    """The inequality is no guess: bounds just above the truth refuse no statistics."""
    forms, exact = norms_of(edits, scale, seed)
    for statistics in forms:
        check_norms(statistics, NormBounds(1.001 * exact.key, 1.001 * exact.residual))
        check_norms(statistics, NormBounds())


@given(edits=st.integers(1, 12), factor=st.floats(1.01, 1e6), seed=SEEDS)
def test_keys_beyond_their_bound_are_refused(
    edits: int, factor: float, seed: int
) -> None:
    """The trace of the gram is their mean square exactly."""
    forms, exact = norms_of(edits, 1.0, seed)
    for statistics in forms:
        with pytest.raises(StatisticsError, match=r"run\.max-key-ratio"):
            check_norms(statistics, NormBounds(key=exact.key / factor))


@given(seed=SEEDS)
def test_residuals_of_one_edit_are_known_exactly(seed: int) -> None:
    """Cauchy and Schwarz hold with equality there, so no slack is left."""
    forms, exact = norms_of(1, 1.0, seed)
    for statistics in forms:
        with pytest.raises(StatisticsError, match=r"run\.max-residual-ratio"):
            check_norms(statistics, NormBounds(residual=0.999 * exact.residual))


@given(edits=st.integers(1, 12), seed=SEEDS)
def test_residuals_of_rows_are_known_exactly(edits: int, seed: int) -> None:
    """Of any number of edits, so that no short residual makes up for a long one."""
    (rows, _), exact = norms_of(edits, 1.0, seed)
    with pytest.raises(StatisticsError, match=r"run\.max-residual-ratio"):
        check_norms(rows, NormBounds(residual=0.999 * exact.residual))


@pytest.mark.parametrize(
    ("keys", "residuals", "named"), [(1e155, 1.0, "gram"), (1.0, 1e300, "cross")]
)
def test_rows_whose_products_are_no_numbers_are_refused_without_any_bound(
    keys: float, residuals: float, named: str
) -> None:
    """Their entries are all finite."""
    honest = draw_statistics(3)
    rows = LayerStatistics.of_pairs(keys * honest.keys, residuals * honest.residuals)
    with pytest.raises(StatisticsError, match=f"`{named}` must be finite"):
        check_norms(rows, NormBounds())


@given(edits=st.integers(2, 12), seed=SEEDS)
def test_an_absurd_cross_is_refused_with_any_gram(edits: int, seed: int) -> None:
    """However many edits share it."""
    (_, statistics), exact = norms_of(edits, 1.0, seed)
    bound = NormBounds(residual=10 * exact.residual)
    check_norms(statistics, bound)
    absurd = LayerStatistics.of_sums(statistics.gram, 1e4 * statistics.cross, edits)
    with pytest.raises(StatisticsError, match="residuals of norm"):
        check_norms(absurd, bound)


def test_a_cross_whose_squares_are_no_numbers_is_refused() -> None:
    """Each column has a norm, and all of them together have none."""
    keys = torch.eye(200, dtype=torch.float64)
    honest = LayerStatistics.of_pairs(keys, torch.ones(200, 3, dtype=torch.float64))
    check_norms(honest, NormBounds(2.0, 2.0))
    absurd = LayerStatistics.of_sums(honest.gram, 1e153 * honest.cross, 200)
    with pytest.raises(StatisticsError, match="residuals of norm"):
        check_norms(absurd, NormBounds(2.0, 2.0))


def test_a_cross_where_no_key_has_an_entry_is_refused_without_any_bound() -> None:
    """A gram of zeros, which would leave the weight to the cross alone, included."""
    keys, residuals = draw_pairs(3)
    keys[:, 2] = 0
    honest = LayerStatistics.of_pairs(keys, residuals)
    check_norms(honest, NormBounds())
    for gram, column in ((honest.gram, 2), (torch.zeros_like(honest.gram), 0)):
        cross = honest.cross.clone()
        cross[:, column] = 1.0
        with pytest.raises(StatisticsError, match="the same edits as `gram`"):
            check_norms(LayerStatistics.of_sums(gram, cross, 3), NormBounds())


@given(edits=st.integers(1, 9), scale=st.sampled_from([1e-6, 1.0, 1e6]), seed=SEEDS)
def test_sums_are_held_to_the_residuals_that_they_imply(
    edits: int, scale: float, seed: int
) -> None:
    """``tr(C G⁺ Cᵀ)``, by its definition, is the least that ``‖R‖²`` can be."""
    keys, residuals = draw_pairs(edits, seed)
    sums = in_sums(LayerStatistics.of_pairs(scale * keys, residuals))
    inverse = torch.linalg.pinv(sums.gram, rtol=1e-9, hermitian=True)
    least = float((sums.cross @ inverse @ sums.cross.mT).trace() / edits) ** 0.5
    check_norms(sums, NormBounds(residual=1.001 * least))
    with pytest.raises(StatisticsError, match=r"run\.max-residual-ratio"):
        check_norms(sums, NormBounds(residual=0.999 * least))


def test_no_column_makes_up_for_the_others() -> None:
    """Each within its own bound, they have ``d_in`` times the energy together."""
    edits = D_IN
    keys = torch.eye(D_IN, dtype=torch.float64)
    cross = torch.zeros(D_OUT, D_IN, dtype=torch.float64)
    cross[0] = edits**0.5 * 0.99  # ‖R‖ · √gram_jj bounds each column
    sums = LayerStatistics.of_sums(keys, cross, edits)
    with pytest.raises(StatisticsError, match=r"residuals of norm 2\.21"):
        check_norms(sums, NormBounds(residual=1.0))


@given(edits=st.integers(1, D_IN - 1), depth=st.sampled_from([1e-3, 1.0]))
def test_a_gram_has_no_higher_rank_than_its_edits(edits: int, depth: float) -> None:
    """One direction more, however weak, is of an edit that is not counted."""
    keys, residuals = draw_pairs(edits + 1, edits)
    keys[-1] *= depth
    honest = in_sums(LayerStatistics.of_pairs(keys, residuals))
    check_norms(honest, NormBounds())
    with pytest.raises(StatisticsError, match=f"rank of {edits} at most"):
        check_norms(
            LayerStatistics.of_sums(honest.gram, honest.cross, edits), NormBounds()
        )
