"""What a run says while it goes on: log lines, a console's file, and who else listens.

All that happens is an `Event`. Whoever wants to know of it is an `Observer`: the file
that a console follows, and the files of `server.monitoring.watching`.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from flwr.common.logger import log

from editing.base.errors import InputError
from server.report.data import RoundMetrics
from strategies.rounds.exchange import ExchangeRecord, OnExchange
from strategies.rounds.registry import Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a phase has come.

    Attributes:
        phase: For people, see `PHASE_NAMES`.
        done: How much of `total`, such as replies.
        total: None while nobody knows.
        merge: For which merge, if for one alone.
        round: In which round, if in one.
    """

    phase: str
    done: int
    total: int | None = None
    merge: str | None = None
    round: int | None = None


@dataclass(frozen=True, slots=True)
class NodeExchange:
    """What one exchange with one node took."""

    merge: str
    record: ExchangeRecord


@dataclass(frozen=True, slots=True)
class MergeStart:
    """A merge begins, or goes on behind the rounds that an earlier process finished."""

    merge: str
    finished: int


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """A whole round is over; 0 is the model before any edit."""

    merge: str
    round: int
    metrics: RoundMetrics


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The run is over.

    Attributes:
        folder: Where the results are, if it ended well.
        error: What stopped it otherwise.
        kind: ``input`` if that lies in what the run was given, ``run`` if in what
            happened to it, and ``program`` if nobody foresaw it.
    """

    folder: Path | None = None
    error: str | None = None
    kind: str = ""

    @property
    def reason(self) -> str | None:
        """What stopped it, for files: of what nobody foresaw, its type alone.

        Its text was not written by us, and may quote anything.
        """
        if self.error is None or self.kind != "program":
            return self.error
        return f"{self.error.partition(':')[0]}; see Flower's log"


Event: TypeAlias = Step | NodeExchange | MergeStart | RoundEnd | RunEnd
Observer: TypeAlias = Callable[[Event], None]


class Progress:
    """Tells observers what happens; a file that is named is the first of them.

    It gets one JSON object a line, and the last line of a run says how it ended:
    ``{"report": PATH}`` or ``{"error": TEXT, "kind": "input" | "run" | "program"}``.
    """

    def __init__(self, file: str | None) -> None:
        """Write to `file`, which is only ever appended to.

        Raises:
            InputError: If its folder is not there: whoever follows the run made it.
        """
        if file and not Path(file).parent.is_dir():
            raise InputError(
                f"`output.progress`: there is no folder {Path(file).parent} on this "
                "machine, or it may not be read; whoever started the run must share it"
            )
        self._observers: list[Observer] = [ProgressFile(Path(file))] if file else []

    def watch(self, observer: Observer) -> None:
        """Tell one more observer of all that happens from now on."""
        self._observers.append(observer)

    def tell(
        self,
        phase: str,
        done: int,
        total: int | None = None,
        merge: str | None = None,
        number: int | None = None,
    ) -> None:
        """Say how far a phase has come; `total` is None while nobody knows."""
        self._tell(Step(phase, done, total, merge, number))
        if merge is not None and total is not None and done == total:
            log(logging.INFO, "%s, round %s: %s, %d done", merge, number, phase, done)

    def of_merge(self, merge: str) -> Report:
        """What a strategy tells its progress to."""

        def tell(phase: str, number: int, done: int, total: int) -> None:
            self.tell(PHASE_NAMES.get(phase, phase), done, total, merge, number)

        return tell

    def of_exchanges(self, merge: str) -> OnExchange:
        """What a strategy tells its exchanges to."""
        return lambda record: self._tell(NodeExchange(merge, record))

    def begin(self, merge: str, finished: int) -> None:
        """Say that a merge begins behind so many rounds that are finished already."""
        self._tell(MergeStart(merge, finished))

    def enter(self, merge: str, number: int, metrics: RoundMetrics) -> None:
        """Say what a round came to, before it is kept as finished."""
        self._tell(RoundEnd(merge, number, metrics))

    def finish(self, folder: Path) -> None:
        """Say where the report is."""
        self._tell(RunEnd(folder=folder))

    def fail(self, error: str, kind: str) -> None:
        """Say what stopped the run."""
        self._tell(RunEnd(error=error, kind=kind))

    def _tell(self, event: Event) -> None:
        """Tell everybody; who cannot write any more is left out, and the run goes on.

        A run of weeks is worth more than its own description.
        """
        for observer in list(self._observers):
            try:
                observer(event)
            except OSError as error:
                self._observers.remove(observer)
                logger.warning(
                    "the run goes on without writing its %s (%s)",
                    type(observer).__name__,
                    error.strerror,
                )


@dataclass(frozen=True, slots=True)
class ProgressFile:
    """One JSON object a line, for a console that follows the run.

    Attributes:
        path: The file, which is only ever appended to.
    """

    path: Path

    def __call__(self, event: Event) -> None:
        """Append what a console shows."""
        match event:
            case Step():
                self._append(
                    {
                        "phase": event.phase,
                        "merge": event.merge,
                        "round": event.round,
                        "done": event.done,
                        "total": event.total,
                    }
                )
            case NodeExchange() if event.record.outcome != "ok":
                record = event.record
                numbered = record.party >= 0
                who = f"party {record.party}" if numbered else f"node {record.node}"
                where = f"{event.merge}, round {record.round} goes on without {who}"
                self._append({"message": f"{where}: {record.outcome}"})
            case RunEnd(folder=Path()):
                self._append({"report": str(event.folder)})
            case RunEnd():
                self._append({"error": event.error, "kind": event.kind})

    def _append(self, line: dict[str, object]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


PHASE_NAMES = {
    "query.describe": "handshake",
    "query.moments": "covariance",
    "query.tokens": "tokens",
    "train.targets": "targets",
    "train.statistics": "exchange",
    "train.memory": "memory",
    "evaluate.requests": "evaluation",
}
