"""Real numbers as whole ones modulo 2⁶⁴, so that masks cancel to the last bit.

A number ``x`` becomes ``round(x · 2ᵇ)``. Sums of such numbers do not depend on their
order, and a uniform mask added modulo 2⁶⁴ leaves nothing of them. Where no useful bound
is known, a number takes two places: ``2¹⁰`` ths of it, and what rounding left.
"""

import math

import numpy as np
from numpy.typing import NDArray

from editing.base.errors import InputError

Words = NDArray[np.uint64]
Reals = NDArray[np.float64]

RANGE_BITS = 62
"""A sum has to stay below ``2⁶²``: one bit is the sign, and one is to spare."""

LEAST_BITS, MOST_BITS = 40, 60
"""Fraction bits below which a number takes two places, and the most of one place."""

COARSE_BITS = 10
"""Fraction bits of the first of two places; a sum has to stay below ``2⁵²``."""


class BeyondBoundError(InputError):
    """A number that is longer than the run's bounds let a secure sum hold."""


def choose_bits(bound: float) -> int | None:
    """Return the fraction bits of sums within a bound; None if they take two places.

    Args:
        bound: Upper bound of the absolute value of the whole sum.
    """
    if not 0 < bound < 2.0**RANGE_BITS:
        return None
    bits = min(RANGE_BITS - math.ceil(math.log2(bound)), MOST_BITS)
    return bits if bits >= LEAST_BITS else None


def encode(name: str, values: Reals, bits: int | None, parties: int) -> Words:
    """Write numbers as whole ones modulo 2⁶⁴; `decode` reads their sum.

    Args:
        name: What they are, for the message.
        values: The numbers.
        bits: Fraction bits, from `choose_bits`.
        parties: How many parties' numbers are added.

    A number that is not finite, or so large that a sum could wrap around, is an
    `BeyondBoundError`.
    """
    if bits is not None:
        return _to_words(name, values, bits, parties)
    coarse = _to_words(name, values, COARSE_BITS, parties)
    rest = values - _to_reals(coarse, COARSE_BITS)
    return np.concatenate([coarse, _to_words(name, rest, _fine_bits(parties), parties)])


def decode(words: Words, bits: int | None, parties: int) -> Reals:
    """Read a sum of numbers; `encode` has the arguments."""
    if bits is not None:
        return _to_reals(words, bits)
    coarse, rest = np.split(words, 2)
    return _to_reals(coarse, COARSE_BITS) + _to_reals(rest, _fine_bits(parties))


def count_words(numbers: int, bits: int | None) -> int:
    """Return how many places some numbers take."""
    return numbers if bits is not None else 2 * numbers


def _fine_bits(parties: int) -> int:
    """Return the bits of what rounding left, at most ``2⁻¹¹`` for each party."""
    return RANGE_BITS + COARSE_BITS + 1 - math.ceil(math.log2(max(parties, 1)))


def _to_words(name: str, values: Reals, bits: int, parties: int) -> Words:
    most = 2.0 ** (RANGE_BITS - bits) / max(parties, 1)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= most:
        raise BeyondBoundError(
            f"A secure sum of {parties} parties holds `{name}` up to {most:.3g} at "
            f"each, got {largest:.3g}. Are the requests and the model right? If they "
            "are, raise the bound (`run.max-key-ratio`, `run.max-residual-ratio`, "
            "`run.max-residual-norm`)."
        )
    return np.rint(values * 2.0**bits).astype(np.int64).view(np.uint64)


def _to_reals(words: Words, bits: int) -> Reals:
    return words.view(np.int64).astype(np.float64) * 2.0**-bits
