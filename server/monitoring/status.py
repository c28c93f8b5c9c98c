"""The status of a run, computed from its events."""

from collections.abc import Iterable
from datetime import UTC, datetime
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
    status, seen = None, SeenParties()
    for event in events:
        if isinstance(event, RunStarted):
            status = _start(status, event)
            seen = seen if status.resumed else SeenParties()
        elif status is not None:
            status = status.model_copy(update=_changes(status, event))
            seen.note(event)
    return status and status.model_copy(update={"parties": seen.ordered()})


def _changes(status: RunStatus, event: Event) -> dict[str, object]:
    """Return what an event changes in the status of a run, its parties apart."""
    changes: dict[str, object] = {"updated": event.time}
    match event:
        case PhaseProgress():
            changes |= {"phase": event.phase, "done": event.done, "total": event.total}
            changes |= {"merge": event.merge or status.merge}
            changes |= {"round": status.round if event.round is None else event.round}
        case MergeStarted():
            changes |= {"merge": event.merge, "round": event.completed}
            changes |= _NO_PHASE
        case RoundEnded():
            changes["round"] = event.round
        case RunEnded():
            changes |= _NO_PHASE
            changes["state"] = "finished" if event.error is None else "failed"
            changes["reason"] = event.error
    return changes


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


class SeenParties:
    """What was seen of each party; a node has one entry, and so has a number."""

    def __init__(self) -> None:
        """Start without any."""
        self._by_node: dict[int, PartyStatus] = {}
        self._nodes: dict[int, int] = {}

    def note(self, event: Event) -> None:
        """Note an exchange with a party, or that parties were left out."""
        if isinstance(event, NodeExchange):
            self._note_exchange(event)
        elif isinstance(event, RoundEnded):
            self._note_refusals(event)

    def ordered(self) -> tuple[PartyStatus, ...]:
        """Return all entries by number, those without one last."""
        return tuple(sorted(self._by_node.values(), key=_place))

    def _note_exchange(self, event: NodeExchange) -> None:
        """Record the result of an exchange with one node.

        A party that comes back as another node keeps its entry.
        """
        known = {event.node}
        if event.party is not None:
            known.add(self._nodes.get(event.party, event.node))
        entries = [self._by_node.pop(node) for node in known & self._by_node.keys()]
        own = max(entries, key=_place, default=PartyStatus(node=event.node))
        changes: dict[str, object] = {"node": event.node}
        if event.party is not None:
            changes["party"] = event.party
        if event.name:
            changes["name"] = event.name
        if event.bytes_up > 0:
            changes["seen"] = event.time
        if event.outcome != OK:
            changes |= _fault(event.outcome, event.round, event.time)
        for each in entries:
            self._nodes.pop(-1 if each.party is None else each.party, None)
        self._keep(own.model_copy(update=changes))

    def _note_refusals(self, event: RoundEnded) -> None:
        """Record why parties were left out of a round, where that is not known yet."""
        for refusal in event.metrics.refusals:
            own = self._by_node.get(int(refusal.node), _unseen(refusal))
            if (own.error, own.error_round) != (refusal.reason, event.round):
                changes = _fault(refusal.reason, event.round, event.time)
                self._keep(own.model_copy(update=changes))

    def _keep(self, own: PartyStatus) -> None:
        self._by_node[own.node] = own
        if own.party is not None:
            self._nodes[own.party] = own.node


def _unseen(refusal: LeftOutParty) -> PartyStatus:
    return PartyStatus(node=int(refusal.node), name=refusal.name)


def _fault(reason: str, number: int, time: datetime) -> dict[str, object]:
    return {"error": reason, "error_round": number, "error_time": time}


def _place(each: PartyStatus) -> tuple[bool, int, int]:
    return (each.party is None, each.party or 0, each.node)
