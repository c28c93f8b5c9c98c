"""Moments as vectors: they come back, they add, and impossible ones are refused."""

from dataclasses import replace

import pytest
import torch

from editing.algebra.statistics import StatisticsError
from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from editing.answers.vectors import (
    check_moments,
    read_vectors,
    vector_lengths,
    write_vectors,
)
from tests.laws import D_IN, D_OUT, assert_same, draw_pairs

SHAPE = (D_OUT, D_IN)


def draw(seed: int, *, products: bool = True) -> Moments:
    """Draw the moments of six rows."""
    return Moments.of_pairs(AnswerPairs(*draw_pairs(6, seed)), products=products)


@pytest.mark.parametrize("products", [False, True])
def test_vectors_add_up_as_moments_do(products: bool) -> None:
    """So they can be summed under masks."""
    first, second = (draw(seed, products=products) for seed in (1, 2))
    vectors = [write_vectors({SHAPE: each}) for each in (first, second)]
    lengths = vector_lengths([SHAPE], products=products)
    assert {k: len(v) for k, v in vectors[0].items()} == lengths
    total = {name: vectors[0][name] + vectors[1][name] for name in lengths}
    found = read_vectors(total, [SHAPE], products=products)[SHAPE]
    whole = first + second
    assert found.count == whole.count
    assert_same(found.total, whole.total)
    assert_same(found.squares, whole.squares)
    if products:
        assert_same(found.scatter, whole.scatter)
    else:
        assert found.products is None
    check_moments(found, SHAPE, 12.0, 100.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("3x5.total", None, "`3x5.total` of 8 numbers was wanted, and .* none"),
        ("3x5.total", torch.zeros(7), "`3x5.total` of 8 numbers .* others"),
        ("3x5.squares", torch.full((8,), torch.nan), "must be of finite numbers"),
        ("3x5.squares", torch.zeros(8, dtype=torch.int64), "must be of finite"),
        ("3x5.count", torch.tensor([2.5]), "count of answer tokens is 2.5"),
        ("3x5.count", torch.tensor([-1.0]), "count of answer tokens is -1"),
        ("3x5.products", torch.zeros(3, 3), "`3x5.products` of 6 numbers"),
    ],
)
def test_broken_vectors_are_refused(
    name: str, value: torch.Tensor | None, message: str
) -> None:
    """By the name of the vector."""
    vectors = write_vectors({SHAPE: draw(1)})
    changed = {k: v for k, v in vectors.items() if k != name}
    changed |= {} if value is None else {name: value}
    with pytest.raises(StatisticsError, match=message):
        read_vectors(changed, [SHAPE], products=True)


def test_moments_that_no_rows_can_have_are_refused() -> None:
    """Each check by itself; the moments as they are pass."""
    own = draw(3)
    assert own.products is not None
    check_moments(own, SHAPE, 6.0, 100.0)
    check_moments(Moments.zero(SHAPE, products=True), SHAPE, 0.0, 0.0)
    skew = own.products - 100 * torch.eye(D_OUT, dtype=torch.float64)
    other = own.products + torch.eye(D_OUT, dtype=torch.float64)
    for wrong, rows, key, message in (
        (own, 5.0, 100.0, "Moments of 6 answer tokens .* 5 are the most"),
        (own, 6.0, 0.1, "Keys are longer"),
        (replace(own, total=own.total + 100), 6.0, 100.0, "square of a mean"),
        (replace(own, squares=own.squares + 1e308), 6.0, 100.0, "square of a mean"),
        (replace(own, squares=-own.squares), 6.0, 100.0, "square of a mean"),
        (replace(own, products=skew), 6.0, 100.0, "no negative eigenvalue"),
        (replace(own, products=other), 6.0, 100.0, "do not go with their squares"),
    ):
        with pytest.raises(StatisticsError, match=message):
            check_moments(wrong, SHAPE, rows, key)
