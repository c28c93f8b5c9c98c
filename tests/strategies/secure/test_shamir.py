"""Shares give the secret from the threshold on, and nothing before."""

import random

from hypothesis import given
from hypothesis import strategies as st

from strategies.secure.shamir import (
    PRIME,
    SECRET_BYTES,
    SHARE_BYTES,
    combine,
    split,
    weigh,
)

SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def test_the_modulus_is_prime_and_holds_every_secret() -> None:
    """By the test of Miller and Rabin for forty bases."""
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 42):
        value = pow(base, odd, PRIME)
        squares = [pow(value, 2**power, PRIME) for power in range(twos)]
        assert value == 1 or PRIME - 1 in squares
    assert 2 ** (8 * SECRET_BYTES) <= PRIME < 2 ** (8 * SHARE_BYTES)


@given(
    secret=SECRETS,
    holders=st.sets(st.integers(0, 10**6 - 1), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
def test_any_shares_of_the_threshold_give_the_secret(
    secret: bytes, holders: set[int], seed: int
) -> None:
    """Whoever holds them, in any order."""
    draw = random.Random(seed)
    threshold = draw.randint(1, len(holders))
    shares = split(secret, threshold, list(holders))
    chosen = draw.sample(sorted(holders), threshold)
    assert combine(shares, weigh(chosen)) == secret


@given(secret=SECRETS, other=SECRETS)
def test_fewer_shares_fit_every_secret_alike(secret: bytes, other: bytes) -> None:
    """For two of three holders, some third share gives any secret whatever."""
    shares = split(secret, 3, [0, 1, 2])
    weights = weigh([0, 1, 2])
    known = sum(weights[i] * int.from_bytes(shares[i], "big") for i in (0, 1))
    wanted = int.from_bytes(other, "big") - known
    third = wanted * pow(weights[2], -1, PRIME) % PRIME
    made = {**shares, 2: third.to_bytes(SHARE_BYTES, "big")}
    assert combine(made, weights) == other


def test_shares_differ_each_time_and_false_ones_give_another_secret() -> None:
    """Polynomials are drawn anew."""
    secret = bytes(range(SECRET_BYTES))
    first, second = (split(secret, 2, [0, 1, 2]) for _ in range(2))
    assert first != second
    assert combine({0: first[0], 1: second[1]}, weigh([0, 1])) != secret
    beyond = (PRIME - 1).to_bytes(SHARE_BYTES, "big")  # no secret of 32 bytes
    assert combine({0: beyond}, weigh([0])) is None
