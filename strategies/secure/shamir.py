"""Shamir's secret sharing: any `threshold` shares give the secret, fewer say nothing.

The secret is the value at 0 of a random polynomial of degree ``threshold − 1`` over the
integers modulo ``2²⁵⁶ + 297``, a prime; the share of holder ``x`` is its value at
``x + 1`` (Shamir 1979). Flower's own are not in its public interface, and take a
thousand times as long.
"""

import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, holders: Sequence[int]) -> dict[int, bytes]:
    """Share a secret of 32 bytes out.

    Args:
        secret: The secret.
        threshold: How many shares give it.
        holders: Different numbers from 0 on, at least as many.

    Returns:
        The share of each holder.
    """
    assert len(secret) == SECRET_BYTES
    assert 1 <= threshold <= len(set(holders)) == len(holders)
    value = int.from_bytes(secret, "big")
    coefficients = [*(secrets.randbelow(PRIME) for _ in range(threshold - 1)), value]
    shares = {}
    for holder in holders:
        point = 0
        for coefficient in coefficients:
            point = (point * (holder + 1) + coefficient) % PRIME
        shares[holder] = point.to_bytes(SHARE_BYTES, "big")
    return shares


def weigh(holders: Sequence[int]) -> dict[int, int]:
    """Return the weights with which these holders' shares add up to any secret."""
    weights = {}
    for holder in holders:
        above, below = 1, 1
        for other in holders:
            if other != holder:
                above = above * (other + 1) % PRIME
                below = below * (other - holder) % PRIME
        weights[holder] = above * pow(below, -1, PRIME) % PRIME
    return weights


def combine(shares: Mapping[int, bytes], weights: Mapping[int, int]) -> bytes | None:
    """Add up a secret from the shares of as many holders as its threshold.

    Returns:
        The secret; None if these are no shares of 32 bytes.
    """
    terms = (
        weight * int.from_bytes(shares[holder], "big")
        for holder, weight in weights.items()
    )
    value = sum(terms) % PRIME
    if value.bit_length() > 8 * SECRET_BYTES:
        return None
    return value.to_bytes(SECRET_BYTES, "big")
