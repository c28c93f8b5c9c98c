"""Run a study: every trial by the same machinery as any run, then one page."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from editing.requests.edit_request import to_counterfact
from server.config import RunConfig, read_scenario
from server.output import next_folder, refuse_existing
from sims.console import open_console
from sims.studies.page import Account, write_page
from sims.studies.pools import read_pool
from sims.studies.running.folder import unfinished_study
from sims.studies.running.order import Order
from sims.studies.running.record import UNFINISHED, StudyRecord, read_record
from sims.studies.running.trials import PlannedTrial, Trials
from sims.studies.running.workers import termination_as_interrupt
from sims.studies.study import Execute, Study, Trial, TrialResult

SeededTrial: TypeAlias = tuple[int, Trial]


def run_study(
    study: Study,
    order: Order,
    output: Path | None,
    execute: Execute,
    resume: Path | None = None,
) -> Path:
    """Run all trials of a study and write its page; gives the folder.

    A mistake in a setting, or a pool too small, is an `InputError`, before anything
    is run. A study that is stopped, or whose trial fails, keeps its finished trials.

    Args:
        study: What is run.
        order: What it is run with.
        output: The folder to make; the next free one if None.
        execute: Runs one trial.
        resume: The folder of an unfinished study, which runs what is missing.
    """
    config = read_scenario(order.scenario or study.scenario, order.overrides)
    folder = choose_folder(f"study-{study.name}", output, resume)
    refuse_existing(folder)
    pool = read_pool(config)
    trials = [
        (seed, trial)
        for seed in order.seeds
        for trial in study.trials(pool, config, seed)
    ]
    record = make_record(study, order, config, trials)
    with (
        termination_as_interrupt(),
        unfinished_study(folder, record, resume=resume is not None) as draft,
    ):
        runner = Runner(draft, study, order, execute)
        results = list(runner.run_all(trials, open_console(stderr=True)))
        account = Account(
            command=order.command(study.name),
            seconds=read_record(draft).seconds,
            settings=config.model_dump(mode="json"),
        )
        finding = write_page(study, results, account, draft)
    out = open_console()
    out.print(finding, soft_wrap=True, markup=False, highlight=False)
    out.print(f"Report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
    return folder


def choose_folder(name: str, output: Path | None, resume: Path | None) -> Path:
    """Choose the folder that a study or paper ends in."""
    if resume is not None:
        path = resume.absolute()
        return path.with_name(path.name.removesuffix(UNFINISHED))
    return output.absolute() if output else next_folder(name)


def make_record(
    study: Study, order: Order, config: RunConfig, trials: Sequence[SeededTrial]
) -> StudyRecord:
    """Record what a study is begun with."""
    return StudyRecord(
        study=study.name,
        scenario=order.scenario,
        overrides=order.overrides,
        seeds=order.seeds,
        engine=order.engine,
        options=order.options,
        settings=config.model_dump(mode="json"),
        trials={f"seed {s}, {trial.name}": digest(s, trial) for s, trial in trials},
    )


def digest(seed: int, trial: Trial) -> str:
    """Return what distinguishes a trial as a SHA-256: seed, settings and requests.

    Names and what is evaluated besides make no other run; a hostile party does.
    """
    requests = [to_counterfact(request) for request in trial.requests]
    hostile = [trial.attack] if trial.attack else []
    key = json.dumps([seed, trial.overrides, requests, *hostile])
    return hashlib.sha256(key.encode()).hexdigest()


class Runner:
    """Runs the trials of one study that are not finished yet, equal ones once."""

    def __init__(
        self, folder: Path, study: Study, order: Order, execute: Execute
    ) -> None:
        """Put all runs under ``runs/seed_<s>/<trial>`` of a folder."""
        self._study, self._order = study, order
        self._trials = Trials(folder, execute, engine=order.engine, jobs=order.jobs)

    def run_all(
        self, trials: Sequence[SeededTrial], console: Console
    ) -> Iterator[TrialResult]:
        """Run what differs, report each run when it is done, read all in order."""
        planned = [
            PlannedTrial(
                seed,
                trial,
                self._order.scenario or self._study.scenario,
                self._order.overrides,
                execute=self._study.executor(trial),
            )
            for seed, trial in trials
        ]
        yield from self._trials.run(planned, console)
