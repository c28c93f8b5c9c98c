"""What a run says while it goes on: log lines, and a file that a console may read."""

import json
import logging
from pathlib import Path

from flwr.common.logger import log

from strategies.roster import Report


class Progress:
    """Append one JSON object a line, as things happen; nothing if no file is named.

    The last line of a run says how it ended: ``{"report": PATH}`` or ``{"error": TEXT,
    "kind": "input" | "run"}``.
    """

    def __init__(self, file: str | None) -> None:
        """Write to `file`, which is only ever appended to."""
        self._file = Path(file) if file else None

    def tell(
        self,
        phase: str,
        done: int,
        total: int | None = None,
        merge: str | None = None,
        number: int | None = None,
    ) -> None:
        """Say how far a phase has come; `total` is None while nobody knows."""
        self._append(
            {
                "phase": phase,
                "merge": merge,
                "round": number,
                "done": done,
                "total": total,
            }
        )
        if total is not None and done == total:
            log(logging.INFO, "%s, round %s: %s, %d done", merge, number, phase, done)

    def of_merge(self, merge: str) -> Report:
        """What a strategy tells its progress to."""

        def tell(phase: str, number: int, done: int, total: int) -> None:
            self.tell(PHASE_NAMES.get(phase, phase), done, total, merge, number)

        return tell

    def finish(self, folder: Path) -> None:
        """Say where the report is."""
        self._append({"report": str(folder)})

    def fail(self, error: str, kind: str) -> None:
        """Say what stopped the run."""
        self._append({"error": error, "kind": kind})

    def _append(self, event: dict[str, object]) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")


PHASE_NAMES = {
    "query.describe": "introduction",
    "query.moments": "covariance",
    "query.tokens": "tokens",
    "train.targets": "targets",
    "train.statistics": "exchange",
    "train.memory": "memory",
    "evaluate.requests": "evaluation",
}
