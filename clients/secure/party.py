"""A party of secure sums: what it answers to each message, and what it refuses.

The server is not believed: keys must carry the parties' own tag, a sum is masked once,
and it is unmasked once, for members that are named on disk before the answer leaves.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from clients.secure.state import OwnSession, OwnSum, SecretFiles
from editing.base.errors import InputError
from strategies.secure.fixed_point import Reals, Words, encode
from strategies.secure.keys import (
    ForgedKeyError,
    agree,
    authenticate,
    context,
    draw_secret,
    is_genuine,
    public_of,
    seal,
    unseal,
)
from strategies.secure.masks import Masking
from strategies.secure.records import (
    LEAST_MEMBERS,
    MaskedRequest,
    MembersRequest,
    PublicKeys,
    Session,
    UnmaskRequest,
    threshold_of,
)
from strategies.secure.shamir import SHARE_BYTES, split

UNTAGGED = "0" * 64


class RefusedSumError(InputError):
    """A sum, or an answer about one, that a party does not give."""


@dataclass(frozen=True, slots=True)
class SummingParty:
    """One party of the secure sums of a part of the run.

    Attributes:
        party: Its number.
        files: What it keeps.
        key: The parties' common key.
    """

    party: int
    files: SecretFiles
    key: bytes

    def open(self, session: Session) -> PublicKeys:
        """Draw fresh keys for each sum of a session, and tag the public ones.

        Raises:
            RefusedSumError: If the session, or a later one, was opened before.
        """
        given = self.files.find_given()
        if session.attempt <= given.attempts.get(session.run, -1):
            raise RefusedSumError(
                f"The server begins round {session.round} of `{session.label}` with "
                "the names of keys that this party has had before. Nothing is sent; "
                "start the run again."
            )
        attempts = {**given.attempts, session.run: session.attempt}
        self.files.keep_given(given.model_copy(update={"attempts": attempts}))
        own = {
            name: OwnSum(private=draw_secret().hex(), seed=draw_secret().hex())
            for name in session.sums
        }
        sharing = draw_secret()
        self.files.keep_session(
            OwnSession(session=session, sharing=sharing.hex(), sums=own)
        )
        keys = PublicKeys(
            party=self.party,
            sharing=public_of(sharing).hex(),
            sums={name: _public(each.private) for name, each in own.items()},
            tag=UNTAGGED,
        )
        tag = authenticate(self.key, keys.message(session)).hex()
        return keys.model_copy(update={"tag": tag})

    def share(self, request: MembersRequest) -> dict[str, dict[int, bytes]]:
        """Seal a share of this party's secrets for each other party, by sum.

        Keys that are not their party's are a `ForgedKeyError`.

        Raises:
            RefusedSumError: If shares were made before, or of too few parties.
        """
        own, members = self._session(request.session), request.members
        numbers = [each.party for each in members]
        if own.members or len(numbers) < LEAST_MEMBERS or not _ascending(numbers):
            raise RefusedSumError(
                f"The server asks for shares among parties {numbers}; wanted once in a "
                f"session, and {LEAST_MEMBERS} different parties or more."
            )
        self._check_keys(own, members)
        threshold, digest = threshold_of(len(numbers)), _digest(members)
        sharing = bytes.fromhex(own.sharing)
        secrets = {
            other.party: agree(sharing, bytes.fromhex(other.sharing), other.party)
            for other in members
            if other.party != self.party
        }
        sums, sealed = {}, {}
        for name, secret in own.sums.items():
            keys = split(bytes.fromhex(secret.private), threshold, numbers)
            seeds = split(bytes.fromhex(secret.seed), threshold, numbers)
            share = seeds[self.party].hex()
            sums[name] = secret.model_copy(update={"share": share})
            about = partial(_about_share, own, name, digest, self.party)
            sealed[name] = {
                other: seal(each, about(other), keys[other] + seeds[other])
                for other, each in secrets.items()
            }
        self.files.keep_session(
            own.model_copy(update={"sums": sums, "members": members})
        )
        return sealed

    def _check_keys(self, own: OwnSession, members: Sequence[PublicKeys]) -> None:
        """Refuse keys that are not of their party, of this session.

        Raises:
            ForgedKeyError: Naming the party.
        """
        for keys in members:
            message, tag = keys.message(own.session), bytes.fromhex(keys.tag)
            known = set(keys.sums) == set(own.session.sums)
            if not (known and is_genuine(self.key, message, tag)):
                raise ForgedKeyError(
                    f"The keys said to be of party {keys.party} in round "
                    f"{own.session.round} are not: whoever made them lacks the key "
                    "that the parties share (`key-path`), or they are of another run. "
                    "Nothing is sent. Compare the key files of both parties; if they "
                    "are equal, the server or somebody on the way is false.",
                    keys.party,
                )
        mine = [keys for keys in members if keys.party == self.party]
        secret = bytes.fromhex(own.sharing)
        if [keys.sharing for keys in mine] != [public_of(secret).hex()]:
            raise ForgedKeyError(
                f"The keys said to be of party {self.party} are not this party's own. "
                "Do two nodes have its number (`partition-id`)?",
                self.party,
            )

    def mask(
        self, request: MaskedRequest, vectors: Mapping[str, Reals]
    ) -> dict[str, Words]:
        """Mask a party's numbers for one sum.

        A second time, or for too few parties, is a `RefusedSumError`.
        """
        own = self._session(request.session)
        secret = self._waiting(own, request.sum, "open")
        self._check_members(own, request.members)
        words = {
            name: encode(name, values, request.bits.get(name), len(request.members))
            for name, values in vectors.items()
        }
        masked = secret.model_copy(
            update={"status": "masked", "members": request.members}
        )
        sums = {**own.sums, request.sum: masked}
        self.files.keep_session(own.model_copy(update={"sums": sums}))
        sum_name = own.session.name(request.sum)
        masking = Masking(sum_name, request.members, request.digest)
        pairs = {
            other.party: agree(
                bytes.fromhex(secret.private),
                bytes.fromhex(other.sums[request.sum]),
                other.party,
            )
            for other in own.members
            if other.party in request.members and other.party != self.party
        }
        for name, each in words.items():
            masking.add_own(each, name, self.party, bytes.fromhex(secret.seed))
            masking.add_pairs(each, name, self.party, pairs)
        return words

    def unmask(
        self, request: UnmaskRequest, sealed: Mapping[int, bytes]
    ) -> dict[int, bytes]:
        """Give one share of each member: of a survivor's seed, of a lost one's key.

        Raises:
            RefusedSumError: If the sum was given before, of other parties, or is of too
                few.
        """
        own = self._session(request.session)
        secret = self._waiting(own, request.sum, "masked")
        self._check_members(own, request.survivors)
        members, survivors = secret.members, request.survivors
        if not set(survivors) <= set(members) or set(sealed) != {
            each for each in members if each != self.party
        }:
            raise RefusedSumError(
                f"The server asks to unmask `{request.sum}` for parties {survivors}, "
                f"and it was masked for {members}."
            )
        digest = _digest(own.members)
        shares = {
            sender: self._open_share(own, request.sum, digest, sender, each)
            for sender, each in sealed.items()
        }
        self._record(request)
        left = {name: each for name, each in own.sums.items() if name != request.sum}
        self.files.keep_session(own.model_copy(update={"sums": left}))
        parts = {
            sender: seed if sender in survivors else key
            for sender, (key, seed) in shares.items()
        }
        return {**parts, self.party: bytes.fromhex(secret.share)}

    def _record(self, request: UnmaskRequest) -> None:
        """Write down which sum is given, before it is.

        Raises:
            RefusedSumError: If the round's sum was given before, of other parties: the
                difference of the two would be a share of some.
        """
        given, session = self.files.find_given(), request.session
        place = f"{session.round} {request.sum}"
        before = given.sums.get(place, request.survivors)
        if before != request.survivors:
            raise RefusedSumError(
                f"The sum `{request.sum}` of round {session.round} was given for "
                f"parties {before}, and is asked for again for {request.survivors}. "
                "The difference would be the share of some of them, so nothing is "
                "sent. Resume the run with the same parties, or start a new one."
            )
        sums = {**given.sums, place: request.survivors}
        self.files.keep_given(given.model_copy(update={"sums": sums}))

    def _open_share(
        self, own: OwnSession, name: str, digest: str, sender: int, sealed: bytes
    ) -> tuple[bytes, bytes]:
        """Open the shares of a sender's key and seed.

        Raises:
            ForgedKeyError: Naming the sender, if they are not its own.
        """
        (other,) = (each for each in own.members if each.party == sender)
        secret = agree(bytes.fromhex(own.sharing), bytes.fromhex(other.sharing), sender)
        about = _about_share(own, name, digest, sender, self.party)
        try:
            plain = unseal(secret, about, sealed)
        except ForgedKeyError:
            raise ForgedKeyError(
                f"The share said to be of party {sender} for `{name}` in round "
                f"{own.session.round} is not. Nothing is sent.",
                sender,
            ) from None
        return plain[:SHARE_BYTES], plain[SHARE_BYTES:]

    def _session(self, session: Session) -> OwnSession:
        """Return the secrets of a session.

        Raises:
            RefusedSumError: If another one is under way.
        """
        own = self.files.find_session()
        if own is None or own.session != session:
            raise RefusedSumError(
                f"The server asks about a sum of round {session.round} for which this "
                "party has no keys, or no longer. Was its private folder emptied?"
            )
        return own

    def _waiting(self, own: OwnSession, name: str, status: str) -> OwnSum:
        """Return the secrets of a sum that waits for this message.

        Raises:
            RefusedSumError: If it does not: it was answered before, or is unknown.
        """
        secret = own.sums.get(name)
        if secret is None or secret.status != status or not own.members:
            raise RefusedSumError(
                f"The sum `{name}` of round {own.session.round} was asked for out of "
                "turn. A party answers once for each sum; nothing is sent."
            )
        return secret

    def _check_members(self, own: OwnSession, chosen: Sequence[int]) -> None:
        """Refuse a sum over too few parties, over strangers, or without this one.

        Raises:
            RefusedSumError: Saying how many are wanted.
        """
        known = [each.party for each in own.members]
        least = max(LEAST_MEMBERS, threshold_of(len(known)))
        inside = set(chosen) <= set(known) and self.party in chosen
        if not (inside and _ascending(chosen) and len(chosen) >= least):
            raise RefusedSumError(
                f"The server asks for a sum over parties {list(chosen)}; wanted "
                f"{least} or more of {known}, this one among them."
            )


def _about_share(
    own: OwnSession, name: str, members: str, sender: int, receiver: int
) -> bytes:
    parts = own.session.name(name).parts
    return context("share", *parts, members, sender, receiver)


def _digest(members: Sequence[PublicKeys]) -> str:
    text = "\n".join(each.model_dump_json() for each in members)
    return hashlib.sha256(text.encode()).hexdigest()


def _public(private: str) -> str:
    return public_of(bytes.fromhex(private)).hex()


def _ascending(numbers: Sequence[int]) -> bool:
    return list(numbers) == sorted(set(numbers))
