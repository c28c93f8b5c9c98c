"""The report of a run, as data, and the folder it is written to."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pydantic import Field, JsonValue, field_serializer

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.atomic import write_whole
from editing.files.lock import locked


class Refusal(Settings):
    """A party whose contribution was left out of a round, and why."""

    node: int | str
    reason: str


class RoundMetrics(Settings):
    """What the model says after one round; None where nothing was asked.

    Successes and accuracies are per cent, differences are of probabilities.

    Attributes:
        score: Harmonic mean of the three successes.
        groups: Metrics of a part of the prompts, named ``metric.part``.
        held_out_acc: Share of facts never edited that the model still answers.
        refusals: The parties left out of the round.
        retained: The same for the requests of all earlier rounds, evaluated after this
            one; None in the first.
        by_round: The same for the requests of each round up to this one. evaluated: How
        many requests these metrics are of: all that were asked for by who
            is there to judge, whether they were edited or left out.
        requests: How many requests were edited in the round.
        known: How many were left out because the model held them.
        left_out: How many were left out because another party made them too, or gave
            the fact another object.
        duplicates: How many were made more than once in the round.
        conflicts: Facts that were given different objects.
        residual_norm: Mean of ``‖z − h‖`` over the round's requests, before the edit.
        residual_ratio: Mean of ``‖z − h‖ / ‖h‖``.
    """

    score: float | None = None
    rewrite_success: float | None = None
    paraphrase_success: float | None = None
    neighborhood_success: float | None = None
    rewrite_acc: float | None = None
    paraphrase_acc: float | None = None
    neighborhood_acc: float | None = None
    rewrite_diff: float | None = None
    paraphrase_diff: float | None = None
    neighborhood_diff: float | None = None
    held_out_acc: float | None = None
    groups: dict[str, float] = Field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    retained: "RoundMetrics | None" = None
    by_round: tuple["RoundMetrics", ...] = ()
    evaluated: int | None = None
    requests: int | None = None
    known: int = 0
    left_out: int = 0
    duplicates: int = 0
    conflicts: int = 0
    residual_norm: float | None = None
    residual_ratio: float | None = None

    @field_serializer("retained", "by_round", when_used="json")
    def _write_what_is_known(
        self, metrics: "RoundMetrics | tuple[RoundMetrics, ...] | None"
    ) -> JsonValue:
        """Leave out what is not known: rounds within rounds would fill the file."""
        if isinstance(metrics, tuple):
            return [self._write_what_is_known(each) for each in metrics]
        if metrics is None:
            return None
        empty = {
            name for name in ("retained", "by_round") if not getattr(metrics, name)
        }
        known: JsonValue = metrics.model_dump(
            mode="json", exclude_defaults=True, exclude=empty
        )
        return known


class RunReport(Settings):
    """One merge, run over all rounds.

    Attributes:
        merge: The name of the merge.
        schedule: The order in which layers saw each other's updates.
        rounds: How many rounds were run.
        metrics: One entry a round, over the requests that were new in it.
        relative_difference_to_global: Largest over layers of ‖Δ − Δ_global‖ /
            ‖Δ_global‖ of the accumulated delta; None if `global` was not run.
        seconds: Wall time of the run, evaluation included.
        bytes_per_party: What one party sent, mean over parties, all rounds.
        timings: Wall time of each phase, in seconds.
        settings: All that made the run.
    """

    merge: str
    schedule: str
    rounds: int
    metrics: tuple[RoundMetrics, ...] = Field(min_length=1)
    relative_difference_to_global: float | None = None
    seconds: float
    bytes_per_party: float
    timings: dict[str, float] = Field(default_factory=dict)
    settings: dict[str, JsonValue] = Field(default_factory=dict)


class Report(Settings):
    """Runs on the same requests, side by side.

    Attributes:
        runs: One entry a merge.
        unedited: What the model said before any edit, on the same prompts.
    """

    runs: tuple[RunReport, ...] = Field(min_length=1)
    unedited: RoundMetrics | None = None


def write_report(report: Report, directory: Path) -> None:
    """Write ``report.json``, and ``report.md`` and ``report.html`` made from it."""
    # Only who writes a report waits for the plotting libraries to load.
    from server.report.page import render_page
    from server.report.tables import render_markdown

    write_whole(directory / "report.json", report.model_dump_json(indent=2) + "\n")
    written = read_report(directory / "report.json")
    write_whole(directory / "report.md", render_markdown(written))
    write_whole(directory / "report.html", render_page(written))


def read_report(path: Path) -> Report:
    """Read a ``report.json``."""
    return Report.model_validate_json(path.read_text(encoding="utf-8"))


@contextmanager
def create_output_folder(path: Path) -> Iterator[Path]:
    """Lend a folder beside `path` that becomes `path` when the block ends well.

    A block that fails or is interrupted leaves nothing. Until it ends, `path` is its
    own: another process is refused at once and not when its work is done.

    Raises:
        InputError: If there is something at `path` already, or it cannot be made.
    """
    refuse_existing(path)
    beside = path.with_name(f".{path.name}.partial-{uuid4().hex[:8]}")
    lock = path.with_name(f".{path.name}.lock")
    busy = (
        f"Another process is writing to the output folder {path}; wait until it has "
        "ended, or name another with --output"
    )
    try:
        beside.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the output folder {path} ({error.strerror}); name another "
            "with --output"
        ) from None
    try:
        with locked(lock, busy):
            yield beside
            refuse_existing(path)
            beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


_NUMBERED = re.compile(r"\.?run_(\d+)(?:\.unfinished|\.lock|\.partial-\w+)?")


def next_folder(name: str) -> Path:
    """The next free number under ``results`` for a merge or a comparison."""
    parent = Path("results") / re.sub(r"[^\w.-]", ".", name)
    taken = [
        int(found[1])
        for path in parent.glob("*run_*")
        if (found := _NUMBERED.fullmatch(path.name))
    ]
    return (parent / f"run_{max(taken, default=-1) + 1:03d}").absolute()


def refuse_existing(path: Path) -> None:
    """Keep earlier results from being overwritten.

    Raises:
        InputError: If there is something at `path`.
    """
    if path.exists():
        raise InputError(
            f"The output folder {path} exists and is never overwritten; name another "
            "with --output, or move it away"
        )
