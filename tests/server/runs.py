"""Whole runs of both apps in one process, for tests of what they leave."""

from collections.abc import Callable
from pathlib import Path

from server.monitoring.events import EVENTS, RunEnded, read_events
from server.report.data import Report, read_report
from sims.runs.in_process import run_in_process
from strategies.scenario import FlatValue
from tests.federation import AT_ONCE, settings_of


class Runs:
    """Whole runs of both apps in this process.

    Attributes:
        output: Where results go.
        private: Where parties keep what is theirs.
        watch: Where the runs record their events.
    """

    def __init__(self, world: Path, folder: Path) -> None:
        """Keep all files of the runs under one folder."""
        self.world, self.output = world, folder / "results" / "one"
        self.private, self.watch = folder / "private", folder / "watch"

    def flat(self, **tables: dict[str, FlatValue]) -> dict[str, FlatValue]:
        """Write the settings of a quick run."""
        tables.setdefault("editing", {**AT_ONCE})
        flat = settings_of(self.world, **tables)
        flat.setdefault("output.directory", str(self.output))
        flat.setdefault("output.watch", str(self.watch))
        return flat

    def run(self, **tables: dict[str, FlatValue]) -> Report:
        """Run, and read the report."""
        flat = self.flat(**tables)
        parties = int(str(flat["parties.count"]))
        run_in_process(flat, parties, self.private)
        return read_report(Path(str(flat["output.directory"])) / "report.json")

    def end(self, folder: Path | None = None) -> RunEnded:
        """Read how the last run ended, by default in `watch`."""
        event = read_events((folder or self.watch) / EVENTS)[-1]
        assert isinstance(event, RunEnded)
        return event

    def kept(self, ending: str) -> list[Path]:
        """List the private files of a kind."""
        return sorted(self.private.rglob(f"*.{ending}"))


def fail_with(error: BaseException) -> Callable[..., object]:
    """Raise an error in the place of a function."""

    def fail(*_: object, **__: object) -> object:
        raise error

    return fail
