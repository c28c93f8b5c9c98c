"""Run all trials of a paper or comparison, then write everything that shows them."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from server.output import refuse_existing
from sims.console import open_console
from sims.paper.sections import PAPER, Section
from sims.paper.writing import Made, write_all
from sims.studies.running.folder import TRIALS, unfinished_study
from sims.studies.running.order import Order
from sims.studies.running.record import StudyRecord, read_record
from sims.studies.running.runner import choose_folder, digest
from sims.studies.running.trials import PlannedTrial, Trials
from sims.studies.running.workers import termination_as_interrupt
from sims.studies.study import Execute, TrialResult


def run_sections(
    name: str,
    sections: Sequence[Section],
    order: Order,
    execute: Execute,
    output: Path | None = None,
    resume: Path | None = None,
) -> Path:
    """Run the trials of all parts, and write tables, figures and pages.

    Trials that a run in the folders around has already are taken from there.

    Args:
        name: ``paper`` or ``compare``.
        sections: Its parts.
        order: What it is run with.
        execute: Runs one trial.
        output: The folder to make; the next free one if None.
        resume: The folder of an unfinished run of this kind.
    """
    folder = choose_folder(name, output, resume)
    refuse_existing(folder)
    planned = {section.name: section.plan() for section in sections}
    everything = [each for trials in planned.values() for each in trials]
    record = make_record(name, sections, order, everything)
    console = open_console(stderr=True)
    with (
        termination_as_interrupt(),
        unfinished_study(folder, record, resume=resume is not None) as draft,
    ):
        trials = Trials(
            draft,
            execute,
            engine=order.engine,
            jobs=order.jobs,
            place=TRIALS,
            earlier=earlier_runs(folder, draft),
        )
        results = trials.run(everything, console)
        shared = share_out(results, {k: len(each) for k, each in planned.items()})
        console.print("Writing tables and figures …", highlight=False)
        made = Made(order.command(name), read_record(draft).seconds, order.seeds)
        finding = write_all(name, sections, shared, made, draft)
    out = open_console()
    out.print(finding, soft_wrap=True, markup=False, highlight=False)
    out.print(f"Report: {folder / 'index.html'}", soft_wrap=True, highlight=False)
    return folder


def earlier_runs(folder: Path, draft: Path) -> list[Path]:
    """List the runs next to a folder, and those in ``results``, newest first."""
    around = [folder.parent, *Path("results").absolute().glob("*/")]
    found = {
        place: None
        for parent in dict.fromkeys(around)
        for place in parent.glob("*/")
        if place not in {folder, draft}
    }
    return sorted(found, key=lambda place: -place.stat().st_mtime)


def share_out(
    results: Iterator[TrialResult], counts: dict[str, int]
) -> dict[str, list[TrialResult]]:
    """Give each part its own results, in their order."""
    return {name: list(islice(results, count)) for name, count in counts.items()}


def make_record(
    name: str,
    sections: Sequence[Section],
    order: Order,
    planned: Sequence[PlannedTrial],
) -> StudyRecord:
    """Record what it is begun with."""
    settings = {each.name: each.config.model_dump(mode="json") for each in sections}
    return StudyRecord(
        study=name,
        scenario=order.scenario,
        overrides=order.overrides,
        seeds=order.seeds,
        engine=order.engine,
        options=order.options,
        settings=settings if name == PAPER else settings[name],
        trials={each.place: digest(each.seed, each.trial) for each in planned},
    )
