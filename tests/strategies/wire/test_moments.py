"""Second moments survive the wire, and what is not of the protocol is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, RecordDict

from editing.algebra.second_moments import TextMoment
from editing.algebra.statistics import StatisticsError
from strategies.wire.moments import read_moments, write_moments
from tests.laws import D_IN, assert_same, draw_pairs
from tests.strategies.transport import over_the_wire

WIDTHS = {1: D_IN, 11: D_IN}


def moments_of(tokens: int) -> dict[int, TextMoment]:
    """Draw the moments of a text, other ones each layer."""
    keys = {layer: draw_pairs(tokens, seed=layer)[0] for layer in WIDTHS}
    return {k: TextMoment(each.mT @ each, tokens) for k, each in keys.items()}


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 3, 40])
def test_moments_survive_the_wire(tokens: int, single: bool) -> None:
    """As a factor and as half a matrix; layer 1 is not mistaken for layer 11."""
    sent = {
        layer: TextMoment(moment.total, tokens, single)
        for layer, moment in moments_of(tokens).items()
    }
    found = read_moments(over_the_wire(write_moments(sent)).content, WIDTHS)
    assert tuple(found) == tuple(WIDTHS)
    for layer, moment in found.items():
        assert_same(moment.total, sent[layer].total)
        assert (moment.tokens, moment.single) == (tokens, single)


def test_a_party_without_a_text_sends_a_zero_and_is_read_as_such() -> None:
    """It is no fault to have none."""
    assert read_moments(over_the_wire(write_moments({})).content, WIDTHS) == {}


def state(name: str, value: float | str | bool) -> Callable[[RecordDict], None]:
    """Put a fact in the place of an honest one."""

    def change(content: RecordDict) -> None:
        content.config_records["facts"][name] = value

    return change


def put(name: str, array: Array) -> Callable[[RecordDict], None]:
    """Put an array in the place of an honest one."""

    def change(content: RecordDict) -> None:
        content.array_records["moments"][name] = array

    return change


def triangle(value: float) -> Array:
    """Half of a matrix of one number."""
    return Array(np.full(D_IN * (D_IN + 1) // 2, value))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content.config_records.clear(), "does not hold"),
        (lambda content: content.array_records.clear(), "does not hold"),
        (lambda content: content.config_records["facts"].pop("tokens"), "not hold"),
        (lambda content: content.config_records["facts"].pop("single"), "not hold"),
        (put("1.triangle", Array("float64", (15,), "numpy.ndarray", b"")), "not hold"),
        (state("tokens", 1.5), "no whole number"),
        (state("tokens", True), "no whole number"),
        (state("tokens", 0), "at least one token"),
        (state("tokens", -40), "at least one token"),
        (put("3.triangle", triangle(1.0)), "others or not all"),
        (lambda content: content.array_records["moments"].pop("1.triangle"), "not all"),
        (put("1.more", triangle(1.0)), "2 tensors"),
        (put("1.triangle", Array(np.zeros(15, dtype=complex))), "no real numbers"),
        (put("1.triangle", Array(np.zeros(15, dtype=np.int64))), "no real numbers"),
        (put("1.triangle", Array(np.zeros(14))), "of shape"),
        (put("1.triangle", triangle(float("nan"))), "finite"),
        (put("1.triangle", triangle(float("inf"))), "finite"),
        (put("1.triangle", triangle(-1.0)), "negative eigenvalue"),
    ],
)
def test_moments_that_are_not_of_the_protocol_are_refused(
    change: Callable[[RecordDict], None], reason: str
) -> None:
    """Whatever bytes a party sends, the server raises one kind of error."""
    content = write_moments(moments_of(40))
    change(content)
    with pytest.raises(StatisticsError, match=reason):
        read_moments(content, WIDTHS)
