"""Moments of keys and gradients on the wire."""

import pytest
import torch
from flwr.app import Array, RecordDict

from editing.algebra.statistics import StatisticsError
from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from strategies.wire.answers import ANSWERS, read_moments, write_moments
from tests.laws import D_IN, D_OUT, draw_pairs

SHAPE = (D_OUT, D_IN)


@pytest.mark.parametrize("products", [False, True])
def test_moments_come_back_bit_for_bit(products: bool) -> None:
    """Of several shapes, up and down alike."""
    own = Moments.of_pairs(AnswerPairs(*draw_pairs(4)), products=products)
    none = Moments.zero((2, 7), products=products)
    content = write_moments({SHAPE: own, (2, 7): none})
    found = read_moments(content, [SHAPE, (2, 7)], products=products)
    assert found[2, 7].count == 0
    assert found[SHAPE].count == 4
    assert torch.equal(found[SHAPE].total, own.total)
    assert torch.equal(found[SHAPE].squares, own.squares)
    if products:
        assert found[SHAPE].products is not None
        assert torch.equal(found[SHAPE].products.triu(), own.products.triu())  # type: ignore[union-attr]


def test_what_is_no_moments_is_refused() -> None:
    """Without a record, with bytes of nothing, or of other layers."""
    with pytest.raises(StatisticsError, match=r"does not hold them \(KeyError\)"):
        read_moments(RecordDict(), [SHAPE], products=False)
    broken = write_moments({SHAPE: Moments.zero(SHAPE)})
    record = broken.array_records[ANSWERS]
    record["3x5.total"] = Array(dtype="x", shape=(8,), stype="?", data=b"no")
    with pytest.raises(StatisticsError, match="does not hold them"):
        read_moments(broken, [SHAPE], products=False)
    other = write_moments({(2, 7): Moments.zero((2, 7))})
    with pytest.raises(StatisticsError, match=r"`3x5\.count` of 1 numbers was wanted"):
        read_moments(other, [SHAPE], products=False)
