"""A key is good for one thing alone."""

import pytest

from strategies.secure.keys import (
    ForgedKeyError,
    agree,
    authenticate,
    context,
    derive,
    draw_secret,
    is_genuine,
    public_of,
    seal,
    unseal,
)

CONTEXTS = [
    context("a"),
    context("a", 1),
    context("a", "1"),
    context("a", "1", "2"),
    context("a", ("1", "2")),
    context("a", "12"),
    context("b"),
]


def test_no_two_contexts_have_one_name_or_one_key() -> None:
    """Whatever separates their parts."""
    assert len(set(CONTEXTS)) == len(CONTEXTS)
    assert len({derive(b"s" * 32, name) for name in CONTEXTS}) == len(CONTEXTS)


def test_two_parties_agree_on_what_a_third_does_not_have() -> None:
    """X25519; each knows the other's public key alone."""
    privates = [draw_secret() for _ in range(3)]
    one, two, three = privates
    shared = agree(one, public_of(two))
    assert shared == agree(two, public_of(one))
    assert shared not in {agree(three, public_of(one)), agree(three, public_of(two))}


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), b"short"])
def test_a_public_key_that_gives_all_the_same_secret_is_refused(public: bytes) -> None:
    """A server could send one in a party's place, or a party its own."""
    with pytest.raises(ForgedKeyError, match="of party 4 is none of X25519") as refused:
        agree(draw_secret(), public, 4)
    assert refused.value.party == 4


def test_a_tag_is_of_one_message_and_one_key() -> None:
    """It is not the key's own digest, which blind tokens use."""
    tag = authenticate(b"k" * 32, b"message")
    assert is_genuine(b"k" * 32, b"message", tag)
    assert not is_genuine(b"k" * 32, b"another", tag)
    assert not is_genuine(b"l" * 32, b"message", tag)


def test_what_is_sealed_is_opened_in_its_context_alone() -> None:
    """And differs each time it is sealed."""
    secret, plain = draw_secret(), b"a share of a key"
    sealed = seal(secret, CONTEXTS[0], plain)
    assert unseal(secret, CONTEXTS[0], sealed) == plain
    assert plain not in sealed
    assert sealed != seal(secret, CONTEXTS[0], plain)
    for other, name, text in (
        (draw_secret(), CONTEXTS[0], sealed),
        (secret, CONTEXTS[1], sealed),
        (secret, CONTEXTS[0], sealed[:-1]),
        (secret, CONTEXTS[0], b""),
    ):
        with pytest.raises(ForgedKeyError):
            unseal(other, name, text)
