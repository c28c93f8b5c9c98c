"""The status of a run, computed from its events."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, NonNegativeInt

from editing.base.errors import InputError
from editing.base.settings import Settings
from server.monitoring.events import (
    OK,
    Event,
    MergeStarted,
    NodeExchange,
    PhaseProgress,
    RoundEnded,
    RunEnded,
    RunStarted,
    label_party,
    read_events,
)
from server.monitoring.stream import BEAT_SECONDS
from server.report.data import LeftOutParty

SILENT_SECONDS = 6 * BEAT_SECONDS
"""A running run whose events are older than this has probably lost its server."""


class PartyStatus(Settings):
    """The last contact with a party.

    Attributes:
        node: Flower's number of its node.
        party: Its number; None if its node has none.
        name: The name under which it registered, if any.
        seen: When its last reply came; None if none did.
        error: Why it was last left out; None if it never was.
        error_round: In which round that was.
        error_time: When that was.
    """

    node: int
    party: NonNegativeInt | None = None
    name: str = ""
    seen: AwareDatetime | None = None
    error: str | None = None
    error_round: int | None = None
    error_time: AwareDatetime | None = None

    @property
    def label(self) -> str:
        """Return what lists call the party."""
        return label_party(self.name, self.party)


class RunStatus(Settings):
    """The status of a run.

    Attributes:
        run: The name of its results folder.
        state: ``running``, ``finished`` or ``failed``.
        reason: Why it failed, in short.
        merge: The present merge.
        round: The present round, or the last one; 0 is before any edit.
        rounds: How many there will be.
        phase: The present phase, see `server.monitoring.events.PHASE_NAMES`.
        done: How much of it is done, such as replies.
        total: Of how much; None if it is not known.
        parties: The parties that were seen, by number.
        expected: How many parties are expected.
        started: When the run started.
        resumed: When it was last resumed; None if it never was.
        updated: When the server last gave a sign of life.
    """

    run: str
    state: Literal["running", "finished", "failed"] = "running"
    reason: str | None = None
    merge: str | None = None
    round: NonNegativeInt | None = None
    rounds: int
    phase: str | None = None
    done: int | None = None
    total: int | None = None
    parties: tuple[PartyStatus, ...] = ()
    expected: int
    started: AwareDatetime
    resumed: AwareDatetime | None = None
    updated: AwareDatetime

    def is_silent(self, now: datetime) -> bool:
        """Return whether a running run has given no sign of life for too long."""
        age = (now - self.updated).total_seconds()
        return self.state == "running" and age > SILENT_SECONDS


def read_status(path: Path) -> RunStatus:
    """Compute the status of a run from its file of events.

    Raises:
        InputError: If there is no such file, or it holds no events of a run.
    """
    try:
        events = read_events(path)
        touched = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); wanted the folder of a run, "
            "finished or unfinished"
        ) from None
    status = compute_status(events)
    if status is None:
        raise InputError(
            f"{path}: holds no events of a run of this version. If the run has just "
            "started, try again in a minute; otherwise read it with the version that "
            "it was started with"
        )
    if status.state != "running":
        return status
    return status.model_copy(update={"updated": max(status.updated, touched)})


def compute_status(events: Iterable[Event]) -> RunStatus | None:
    """Compute the status after all events; None if the run has not started.

    A run that failed before it started, for example for a wrong setting, has none.
    """
    return reduce(advance, events, None)


def advance(status: RunStatus | None, event: Event) -> RunStatus | None:
    """Return the status after one more event."""
    if isinstance(event, RunStarted):
        return _start(status, event)
    if status is None:
        return None
    changes: dict[str, object] = {"updated": event.time}
    match event:
        case PhaseProgress():
            changes |= {"phase": event.phase, "done": event.done, "total": event.total}
            changes |= {"merge": event.merge or status.merge}
            changes |= {"round": status.round if event.round is None else event.round}
        case MergeStarted():
            changes |= {"merge": event.merge, "round": event.completed}
            changes |= _NO_PHASE
        case NodeExchange():
            changes["parties"] = add_exchange(status.parties, event)
        case RoundEnded():
            changes["parties"] = add_refusals(status.parties, event)
            changes["round"] = event.round
        case RunEnded():
            changes |= _NO_PHASE
            changes["state"] = "finished" if event.error is None else "failed"
            changes["reason"] = event.error
    return status.model_copy(update=changes)


_NO_PHASE = dict.fromkeys(("phase", "done", "total"))


def _start(status: RunStatus | None, event: RunStarted) -> RunStatus:
    """Return the status of a run that starts, or resumes where it was stopped."""
    if status is None or status.run != event.run or status.state == "finished":
        return RunStatus(
            run=event.run,
            rounds=event.rounds,
            expected=event.parties,
            started=event.time,
            updated=event.time,
        )
    changes = {
        "state": "running",
        "reason": None,
        "rounds": event.rounds,
        "expected": event.parties,
        "resumed": event.time,
        "updated": event.time,
    }
    return status.model_copy(update=changes | _NO_PHASE)


def add_exchange(
    parties: Iterable[PartyStatus], event: NodeExchange
) -> tuple[PartyStatus, ...]:
    """Record the result of an exchange with one node.

    A party that comes back as another node keeps its entry.
    """
    others, own = [], PartyStatus(node=event.node)
    for each in parties:
        if each.node == event.node or (
            event.party is not None and each.party == event.party
        ):
            own = each
        else:
            others.append(each)
    changes: dict[str, object] = {"node": event.node}
    if event.party is not None:
        changes["party"] = event.party
    if event.name:
        changes["name"] = event.name
    if event.bytes_up > 0:
        changes["seen"] = event.time
    if event.outcome != OK:
        changes |= _fault(event.outcome, event.round, event.time)
    return _ordered([*others, own.model_copy(update=changes)])


def add_refusals(
    parties: Iterable[PartyStatus], event: RoundEnded
) -> tuple[PartyStatus, ...]:
    """Record why parties were left out of a round, where that is not known yet."""
    found = {each.node: each for each in parties}
    for refusal in event.metrics.refusals:
        own = found.get(int(refusal.node), _unseen(refusal))
        if (own.error, own.error_round) != (refusal.reason, event.round):
            changes = _fault(refusal.reason, event.round, event.time)
            found[own.node] = own.model_copy(update=changes)
    return _ordered(found.values())


def _unseen(refusal: LeftOutParty) -> PartyStatus:
    return PartyStatus(node=int(refusal.node), name=refusal.name)


def _fault(reason: str, number: int, time: datetime) -> dict[str, object]:
    return {"error": reason, "error_round": number, "error_time": time}


def _ordered(parties: Iterable[PartyStatus]) -> tuple[PartyStatus, ...]:
    """Sort by party, those without a number last."""

    def place(each: PartyStatus) -> tuple[bool, int, int]:
        return (each.party is None, each.party or 0, each.node)

    return tuple(sorted(parties, key=place))
