"""How a run stands: a small file that the server writes while the run goes on.

The file is replaced whole, at every change and at least every `BEAT_SECONDS`, so that
whoever reads it also sees whether the server is alive.
"""

import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as Signal
from threading import Lock, Thread
from typing import Literal

from pydantic import AwareDatetime, NonNegativeInt, ValidationError

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.atomic import write_whole
from server.monitoring.progress import (
    PHASE_NAMES,
    Event,
    MergeStart,
    NodeExchange,
    RoundEnd,
    RunEnd,
    Step,
)
from server.report.data import Refusal

logger = logging.getLogger(__name__)

STATUS = "status.json"
BEAT_SECONDS = 10.0
"""How often the file is written at least, while the server is alive."""

CHANGE_SECONDS = 1.0
"""How often it is written at most."""

SILENT_SECONDS = 6 * BEAT_SECONDS
"""A running run whose file is older than this has probably lost its server."""

OK = "ok"
"""The outcome of an exchange in which nothing went wrong."""


class PartyStatus(Settings):
    """What was last seen of a party; all numbers are Flower's and ours, no names.

    Attributes:
        party: Its number; −1 if its node has none.
        node: Flower's number of its node.
        seen: When its last reply came; None if none did.
        error: Why it was last left out; None if it never was.
        error_round: In which round that was.
        error_time: When that was.
    """

    party: int
    node: int
    seen: AwareDatetime | None = None
    error: str | None = None
    error_round: int | None = None
    error_time: AwareDatetime | None = None


class RunStatus(Settings):
    """How a run stands.

    Attributes:
        run: The name of its folder.
        state: ``running``, ``finished`` or ``failed``.
        reason: Why it failed, in short.
        merge: The merge that is run.
        round: The round that goes on, or the last one; 0 is before any edit.
        rounds: How many there will be.
        phase: What goes on, see `PHASE_NAMES`.
        done: How much of it is done, such as replies.
        total: Of how much; None while nobody knows.
        parties: Who was seen, in the order of the parties.
        expected: How many parties are expected.
        started: When the run began.
        resumed: When it last went on after a stop; None if it never was stopped.
        updated: When this was written.
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
        """Whether it says that it runs, and has not been heard of for too long."""
        age = (now - self.updated).total_seconds()
        return self.state == "running" and age > SILENT_SECONDS


def now_utc() -> datetime:
    """The time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def advance(status: RunStatus, event: Event, now: datetime) -> RunStatus:
    """Write down what an event changes.

    Args:
        status: Before it.
        event: What happened.
        now: When it happened.
    """
    changes: dict[str, object] = {"updated": now}
    match event:
        case Step():
            changes |= {"phase": event.phase, "done": event.done, "total": event.total}
            changes |= {"merge": event.merge or status.merge}
            changes |= {"round": status.round if event.round is None else event.round}
        case MergeStart():
            changes |= {"merge": event.merge, "round": event.finished, "phase": None}
            changes |= {"done": None, "total": None}
        case NodeExchange():
            changes["parties"] = see(status.parties, event, now)
        case RoundEnd():
            refusals = event.metrics.refusals
            changes["parties"] = blame(status.parties, refusals, event.round, now)
            changes["round"] = event.round
        case RunEnd():
            changes |= {"phase": None, "done": None, "total": None}
            changes["state"] = "finished" if event.error is None else "failed"
            changes["reason"] = event.reason
    return status.model_copy(update=changes)


def see(
    parties: Iterable[PartyStatus], event: NodeExchange, now: datetime
) -> tuple[PartyStatus, ...]:
    """Enter what an exchange with one node came to.

    A party that comes back as another node takes the place that it had.
    """
    record = event.record
    others, own = [], PartyStatus(party=record.party, node=record.node)
    for each in parties:
        if each.node == record.node or each.party == record.party >= 0:
            own = each
        else:
            others.append(each)
    changes: dict[str, object] = {"node": record.node}
    if record.party >= 0:
        changes["party"] = record.party
    if record.bytes_up > 0:
        changes["seen"] = now
    if record.outcome != OK:
        changes |= _fault(record.outcome, record.round, now)
    return _ordered([*others, own.model_copy(update=changes)])


def blame(
    parties: Iterable[PartyStatus],
    refusals: Iterable[Refusal],
    number: int,
    now: datetime,
) -> tuple[PartyStatus, ...]:
    """Enter why parties were left out of a round, where that is not known yet."""
    found = {each.node: each for each in parties}
    for refusal in refusals:
        node = int(refusal.node)
        own = found.get(node, PartyStatus(party=-1, node=node))
        if (own.error, own.error_round) != (refusal.reason, number):
            found[node] = own.model_copy(update=_fault(refusal.reason, number, now))
    return _ordered(found.values())


def _fault(reason: str, number: int, now: datetime) -> dict[str, object]:
    return {"error": reason, "error_round": number, "error_time": now}


def _ordered(parties: Iterable[PartyStatus]) -> tuple[PartyStatus, ...]:
    """By party, those without a number last."""
    return tuple(sorted(parties, key=lambda p: (p.party < 0, p.party, p.node)))


class StatusFile:
    """Keeps the file up to date, from a thread of its own."""

    def __init__(
        self, path: Path, status: RunStatus, clock: Callable[[], datetime] = now_utc
    ) -> None:
        """Write the file, then again as often as things change.

        What is there of the same run, stopped earlier, is gone on from.
        """
        self.path, self._clock = path, clock
        self.status = _continue(path, status)
        self._lock, self._ended, self._changed = Lock(), Signal(), False
        self._write()
        self._thread = Thread(target=self._keep_writing, daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Enter an event; an observer of `server.monitoring.progress`."""
        with self._lock:
            self.status = advance(self.status, event, self._clock())
            self._changed = True
        if isinstance(event, RunEnd):
            self._ended.set()
            self._thread.join()
            self._write()

    def _keep_writing(self) -> None:
        silent = 0.0
        while not self._ended.wait(CHANGE_SECONDS):
            silent += CHANGE_SECONDS
            if not self._changed and silent < BEAT_SECONDS:
                continue
            silent = 0.0
            try:
                self._write()
            except OSError as error:
                # There may be room again later.
                logger.warning("the status was not written (%s)", error.strerror)

    def _write(self) -> None:
        with self._lock:
            self._changed = False
            self.status = self.status.model_copy(update={"updated": self._clock()})
            text = self.status.model_dump_json(indent=2) + "\n"
        write_whole(self.path, text)


def _continue(path: Path, status: RunStatus) -> RunStatus:
    """Keep what an earlier process wrote of the same run, if it did not finish it."""
    try:
        earlier = read_status(path)
    except InputError:
        return status
    if earlier.run != status.run or earlier.state == "finished":
        return status
    return earlier.model_copy(
        update={
            "state": "running",
            "reason": None,
            "rounds": status.rounds,
            "expected": status.expected,
            "resumed": status.started,
            **dict.fromkeys(("phase", "done", "total")),
        }
    )


def read_status(path: Path) -> RunStatus:
    """Read how a run stands.

    Raises:
        InputError: If there is no such file, or it is none.
    """
    try:
        return RunStatus.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); wanted the folder of a run, "
            "or of one under way"
        ) from None
    except (ValueError, ValidationError):
        raise InputError(
            f"{path}: is no status of a run of this version; read it with the version "
            "that the run was started with"
        ) from None


def phase_name(phase: str) -> str:
    """A message type in a word for people."""
    return PHASE_NAMES.get(phase, phase)
