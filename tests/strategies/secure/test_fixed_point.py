"""Numbers come back from sums modulo 2⁶⁴ as they were added."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.secure.fixed_point import (
    COARSE_BITS,
    RANGE_BITS,
    BeyondBoundError,
    choose_bits,
    count_words,
    decode,
    encode,
)

SINGLE, DOUBLE = 2.0**-40, 2.0**-52


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20),
    parties=st.integers(1, 200),
)
def test_a_sum_is_read_within_a_rounding_a_party(
    values: list[float], parties: int
) -> None:
    """In one place and in two; the order of a sum does not matter to a bit."""
    own = np.array(values)
    plain = np.array([math.fsum([each] * parties) for each in values])
    for bits, rounding in ((40, SINGLE * parties), (None, DOUBLE)):
        words = encode("x", own, bits, parties)
        assert len(words) == count_words(len(values), bits)
        total = np.zeros_like(words)
        for _ in range(parties):
            total += words
        found = decode(total, bits, parties)
        assert (np.abs(found - plain) <= rounding * (1 + np.abs(plain))).all()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e10])
def test_two_places_keep_double_precision(scale: float) -> None:
    """Of numbers of any size that a run has."""
    values = scale * np.random.default_rng(0).standard_normal(50)
    found = decode(encode("x", values, None, 10), None, 10)
    assert np.abs(found - values).max() <= 1e-8 * scale
    if scale >= 1:
        assert np.abs(found - values).max() <= DOUBLE * np.abs(values).max()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e40])
@pytest.mark.parametrize("bits", [40, None])
def test_numbers_that_could_wrap_around_are_refused(
    value: float, bits: int | None
) -> None:
    """By the name of what they are, with what is allowed."""
    with pytest.raises(
        BeyondBoundError, match=r"secure sum of 9 parties holds `1\.keys`"
    ):
        encode("1.keys", np.array([0.0, value]), bits, 9)


@given(bound=st.floats(1e-9, 1e40), parties=st.integers(1, 100))
def test_whatever_keeps_its_bound_fits(bound: float, parties: int) -> None:
    """However many parties share it: no honest party is refused."""
    bits = choose_bits(bound)
    if bits is None:
        assert bound > 2.0**20
        return
    own = np.array([bound / parties, -bound / parties])
    assert parties * float(np.abs(own).max()) * 2.0**bits <= 2.0**RANGE_BITS * 1.001
    encode("x", own * 0.999, bits, parties)


def test_a_bound_that_nobody_knows_takes_two_places() -> None:
    """And one beyond all numbers does; the range is then that of a double's digits."""
    assert choose_bits(math.inf) is choose_bits(0.0) is choose_bits(1e30) is None
    encode("x", np.array([2.0 ** (RANGE_BITS - COARSE_BITS) / 3]), None, 3)
