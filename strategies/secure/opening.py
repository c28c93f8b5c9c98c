"""How the server takes the masks off a sum, and learns the sum alone.

Every survivor's own mask goes, by its seed, and every pairwise mask of a member that
was lost, by its key: both are put together from shares. Of no party the server gets
both.
"""

from collections.abc import Mapping, Sequence

from flwr.serverapp.exception import AggregationError

from strategies.secure.fixed_point import Words
from strategies.secure.keys import agree, public_of
from strategies.secure.masks import Masking
from strategies.secure.records import PublicKeys
from strategies.secure.shamir import combine, weigh

Answers = Mapping[int, Mapping[int, bytes]]
"""By holder, one share of each member's seed or key."""


class UnopenedSumError(AggregationError):
    """A sum whose masks cannot be taken off; nothing of it is used."""


def open_sum(
    totals: Mapping[str, Words],
    masking: Masking,
    survivors: Sequence[int],
    keys: Mapping[int, PublicKeys],
    answers: Answers,
    threshold: int,
) -> None:
    """Take all masks off the sums of vectors, in place.

    Args:
        totals: Sums of the survivors' masked numbers, by vector.
        masking: Names the sum, and its members.
        survivors: Members whose numbers are in it.
        keys: The public keys of all members.
        answers: What the survivors sent to unmask it.
        threshold: How many shares give a secret.

    Raises:
        UnopenedSumError: If there are too few answers, or they are not of these keys.
    """
    if len(answers) < threshold:
        raise UnopenedSumError(
            f"The sum `{masking.name.sum}` of round {masking.name.round} stays masked: "
            f"{threshold} parties have to help to take its masks off, and "
            f"{len(answers)} did. Nothing of it is used."
        )
    holders = sorted(answers)[:threshold]
    weights = weigh(holders)
    for member in masking.members:
        shares = {holder: answers[holder][member] for holder in holders}
        secret = combine(shares, weights)
        if member in survivors and secret is not None:
            for vector, words in totals.items():
                masking.remove_own(words, vector, member, secret)
        else:
            _remove_lost(totals, masking, member, survivors, keys, secret)


def _remove_lost(
    totals: Mapping[str, Words],
    masking: Masking,
    lost: int,
    survivors: Sequence[int],
    keys: Mapping[int, PublicKeys],
    private: bytes | None,
) -> None:
    """Add a lost member's pairwise masks, which cancel those of the survivors.

    Raises:
        UnopenedSumError: If the key is not the one that its party announced.
    """
    name = masking.name.sum
    if private is None or public_of(private).hex() != keys[lost].sums[name]:
        raise UnopenedSumError(
            f"The sum `{name}` of round {masking.name.round} stays masked: the shares "
            f"of party {lost} do not fit its key, so it or a holder sent false ones. "
            "Nothing of it is used; run without the party at fault."
        )
    pairs = {
        other: agree(private, bytes.fromhex(keys[other].sums[name]), other)
        for other in survivors
    }
    for vector, words in totals.items():
        masking.add_pairs(words, vector, lost, pairs)
