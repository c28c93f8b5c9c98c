"""The events of a run, and the file that records them.

`EVENTS` is the only record that is written during a run: one JSON object a line,
appended as things happen. Everything else is a reader of that file or of the same
events: the console, the status, TensorBoard, benchmarks.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AwareDatetime,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
)

from editing.base.settings import Settings
from server.report.data import RoundMetrics

EVENTS = "events.jsonl"
"""The name of the file of events in a folder of results."""

OK = "ok"
"""The outcome of an exchange without an error."""

PHASE_NAMES = {
    "query.describe": "handshake",
    "query.moments": "covariance",
    "query.tokens": "tokens",
    "query.keys": "keys",
    "query.shares": "shares",
    "query.unmask": "unmasking",
    "train.answers": "moments",
    "train.targets": "targets",
    "train.statistics": "exchange",
    "train.memory": "memory",
    "train.begin": "moments of all requests",
    "train.values": "statistics",
    "train.losses": "losses",
    "train.gradients": "gradients",
    "evaluate.requests": "evaluation",
}
"""The phase that each message type belongs to."""


def now_utc() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


class RunEvent(Settings):
    """What all events have.

    Attributes:
        time: When it happened.
    """

    time: AwareDatetime = Field(default_factory=now_utc)


class RunStarted(RunEvent):
    """A process starts the run, or resumes it.

    Attributes:
        run: The name of the results folder.
        rounds: How many rounds there will be.
        parties: How many parties are expected.
    """

    kind: Literal["run_started"] = "run_started"
    run: str
    rounds: NonNegativeInt
    parties: NonNegativeInt


class MergeStarted(RunEvent):
    """A merge starts, or resumes after the last completed round.

    Attributes:
        merge: Its name.
        completed: How many rounds an earlier process completed.
    """

    kind: Literal["merge_started"] = "merge_started"
    merge: str
    completed: NonNegativeInt = 0


class PhaseProgress(RunEvent):
    """How much of a phase is done.

    Attributes:
        phase: One of `PHASE_NAMES`' values.
        done: For example the number of replies.
        total: How much there is to do; None if it is not known.
        merge: The merge, if the phase belongs to one.
        round: The round, if the phase belongs to one.
    """

    kind: Literal["progress"] = "progress"
    phase: str
    done: NonNegativeInt
    total: NonNegativeInt | None = None
    merge: str | None = None
    round: NonNegativeInt | None = None

    @property
    def is_begin(self) -> bool:
        """Return whether work begins that cannot be divided, such as loading."""
        return self.done == 0 and self.total == 1

    @property
    def is_last(self) -> bool:
        """Return whether the phase is done."""
        return self.done == self.total


class NodeExchange(RunEvent):
    """One exchange with one node: its cost and its outcome.

    Attributes:
        merge: The merge.
        phase: The message type.
        round: Counted from 1; 0 is before any edit.
        node: Flower's number of the node.
        party: The party's number; None if it is not known.
        name: The name under which the party registered, if any.
        seconds: From sending the message to its reply, or to the end of waiting.
        bytes_down: Size of the message's content.
        bytes_up: Size of the reply's content; 0 if there was no reply.
        outcome: ``ok``, or why the party was left out; it quotes nothing private.
    """

    kind: Literal["exchange"] = "exchange"
    merge: str
    phase: str
    round: NonNegativeInt
    node: int
    party: NonNegativeInt | None = None
    name: str = ""
    seconds: NonNegativeFloat
    bytes_down: NonNegativeInt
    bytes_up: NonNegativeInt
    outcome: str = OK

    @property
    def label(self) -> str:
        """Return what lists call the party."""
        return label_party(self.name, self.party)


class RoundEnded(RunEvent):
    """A round is completed; round 0 is the model before any edit.

    Attributes:
        merge: The merge.
        round: The round.
        seconds: Wall time since the previous round, or since this process started the
            merge.
        bytes_down: Size of all messages to the parties in that time.
        bytes_up: Size of all replies in that time.
        metrics: The same metrics as in the report, refusals included.
    """

    kind: Literal["round_ended"] = "round_ended"
    merge: str
    round: NonNegativeInt
    seconds: NonNegativeFloat = 0.0
    bytes_down: NonNegativeInt = 0
    bytes_up: NonNegativeInt = 0
    metrics: RoundMetrics


class WarningLogged(RunEvent):
    """The server logged a warning or an error.

    Attributes:
        source: The logger.
        message: The text, without the traceback.
    """

    kind: Literal["warning"] = "warning"
    source: str
    message: str


class RunEnded(RunEvent):
    """The run is over.

    Attributes:
        folder: Where the results are, if it succeeded.
        error: Why it failed, if it did. The text of an error that nobody foresaw may
            quote a request, so of such an error there is the type alone.
        cause: ``input`` if the run's input was wrong, ``run`` if something happened to
            the run, ``program`` if nobody foresaw the error.
    """

    kind: Literal["run_ended"] = "run_ended"
    folder: str | None = None
    error: str | None = None
    cause: Literal["", "input", "run", "program"] = ""


Event: TypeAlias = Annotated[
    RunStarted
    | MergeStarted
    | PhaseProgress
    | NodeExchange
    | RoundEnded
    | WarningLogged
    | RunEnded,
    Field(discriminator="kind"),
]
Observer: TypeAlias = Callable[[Event], None]
"""Receives every event, in order."""

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def label_party(name: str, party: int | None) -> str:
    """Return a party's registered name, or ``party 3`` if it has none."""
    if name:
        return name
    return "a party without a number" if party is None else f"party {party}"


def phase_name(message_type: str) -> str:
    """Return the name of the phase that a message type belongs to."""
    return PHASE_NAMES.get(message_type, message_type)


def write_event(event: Event) -> str:
    """Return an event as one line, without the line break."""
    return json.dumps(event.model_dump(mode="json"), ensure_ascii=False)


def parse_event(line: str | bytes) -> Event | None:
    """Read one line; None if it is not an event of this version."""
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        return None


class EventReader:
    """Reads the events of a file that grows, each once it is written whole."""

    def __init__(self, path: Path, *, skip_present: bool = False) -> None:
        """Start at the first line, or after the last line that is there now.

        Args:
            path: The file, which need not exist yet.
            skip_present: Whether to skip the lines that are there now.
        """
        self._path, self._position = path, 0
        if skip_present and path.is_file():
            self._position = path.read_bytes().rfind(b"\n") + 1

    def read_new(self) -> list[Event]:
        """Return the events of the lines completed since the last call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._position += len(whole) + len(newline)
        lines = whole.split(b"\n")
        return [event for line in lines if (event := parse_event(line)) is not None]


def read_events(path: Path) -> list[Event]:
    """Read all whole lines of a file of events; a line cut off by a kill is skipped."""
    lines = path.read_bytes().split(b"\n")
    return [event for line in lines if (event := parse_event(line)) is not None]


def drop_repeated_rounds(events: Iterable[Event]) -> list[Event]:
    """Return the exchanges and rounds that count, each round of a merge once.

    A stopped run repeats the rounds that were not completed. A merge that starts again
    from its first round also evaluates the unedited model again.
    """
    kept: list[Event] = []
    for event in events:
        if isinstance(event, MergeStarted):
            kept = [each for each in kept if not _is_repeated(each, event)]
        kept.append(event)
    return kept


def _is_repeated(event: Event, start: MergeStarted) -> bool:
    if not isinstance(event, NodeExchange | RoundEnded) or event.merge != start.merge:
        return False
    return start.completed == 0 or event.round > start.completed
