"""Parties and a server of secure sums without Flower or a model, for laws."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clients.secure.party import SummingParty
from clients.secure.state import SecretFiles
from strategies.secure.fixed_point import Reals, Words, decode
from strategies.secure.masks import Masking
from strategies.secure.opening import open_sum
from strategies.secure.records import (
    MaskedRequest,
    MembersRequest,
    PublicKeys,
    Session,
    UnmaskRequest,
    threshold_of,
)

KEY = bytes(range(32))
"""The key that the parties share."""

RUN = "5a" * 16


def session_of(attempt: int = 0, number: int = 1, run: str = RUN) -> Session:
    """Name a session of two sums."""
    return Session(
        run=run, label="run", round=number, attempt=attempt, sums=("targets", "metrics")
    )


def party_in(folder: Path, number: int, key: bytes = KEY) -> SummingParty:
    """Make a party with files of its own; a new one is a new process."""
    return SummingParty(number, SecretFiles(folder / str(number), number), key)


@dataclass
class Sum:
    """A sum under way among parties of a folder, as an honest server asks for it.

    Every answer comes from a new object, as from a new process.

    Attributes:
        folder: What the parties keep.
        numbers: Who takes part.
        session: The session.
        name: Which of its sums.
    """

    folder: Path
    numbers: Sequence[int]
    session: Session = field(default_factory=session_of)
    name: str = "targets"
    keys: dict[int, PublicKeys] = field(default_factory=dict)
    sealed: dict[int, dict[int, bytes]] = field(default_factory=dict)
    masked: dict[int, Mapping[str, Words]] = field(default_factory=dict)
    answers: dict[int, Mapping[int, bytes]] = field(default_factory=dict)

    def party(self, number: int) -> SummingParty:
        """Make a party anew."""
        return party_in(self.folder, number)

    def ask_keys(self, lost: Collection[int] = ()) -> None:
        """Ask all for keys."""
        for number in self.numbers:
            if number not in lost:
                self.keys[number] = self.party(number).open(self.session)

    def ask_shares(self, lost: Collection[int] = ()) -> None:
        """Ask those who gave keys for shares."""
        request = MembersRequest(
            session=self.session, members=tuple(self.keys[n] for n in sorted(self.keys))
        )
        for number in self.keys:
            if number not in lost:
                shares = self.party(number).share(request)
                self.sealed[number] = shares[self.name]

    def request(self, **more: object) -> MaskedRequest:
        """Write how the sum is masked."""
        members = tuple(sorted(self.sealed))
        return MaskedRequest.model_validate(
            {"session": self.session, "sum": self.name, "members": members, **more}
        )

    def ask_masked(
        self, values: Mapping[int, Mapping[str, Reals]], lost: Collection[int] = ()
    ) -> None:
        """Ask those who gave shares for their masked numbers."""
        for number in self.sealed:
            if number not in lost:
                party = self.party(number)
                self.masked[number] = party.mask(self.request(), values[number])

    def ask_unmask(self, lost: Collection[int] = ()) -> None:
        """Ask those whose numbers came to unmask the sum."""
        for number in self.masked:
            if number not in lost:
                request, inbox = self.unmasking(number, sorted(self.masked))
                self.answers[number] = self.party(number).unmask(request, inbox)

    def unmasking(
        self, receiver: int, survivors: Sequence[int]
    ) -> tuple[UnmaskRequest, dict[int, bytes]]:
        """Write the question for unmasking, and the shares sealed for its receiver."""
        senders = tuple(n for n in sorted(self.sealed) if n != receiver)
        request = UnmaskRequest(
            session=self.session,
            sum=self.name,
            survivors=tuple(survivors),
            senders=senders,
        )
        return request, {sender: self.sealed[sender][receiver] for sender in senders}

    def open(self, asked: MaskedRequest | None = None) -> dict[str, Reals]:
        """Take the masks off, and read the sums.

        Args:
            asked: How they were masked, by default without more.
        """
        asked = asked or self.request()
        name, members = self.session.name(self.name), asked.members
        masking = Masking(name, members, asked.digest)
        parts = list(self.masked.values())
        totals: dict[str, Words] = {k: 0 * each for k, each in parts[0].items()}
        for part in parts:
            for vector, words in part.items():
                totals[vector] += words
        threshold = threshold_of(len(self.keys))
        open_sum(
            totals, masking, sorted(self.masked), self.keys, self.answers, threshold
        )
        return {
            vector: decode(each, asked.bits.get(vector), len(members))
            for vector, each in totals.items()
        }
