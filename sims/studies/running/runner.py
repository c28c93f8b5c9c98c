"""Run a study: every trial by the same machinery as any run, then one page."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from editing.algebra.deltas import load_delta
from editing.base.errors import InputError
from editing.files.atomic import write_private
from editing.requests.edit_request import to_counterfact
from server.config import RunConfig, read_scenario
from server.output import next_folder, refuse_existing
from server.report.data import read_report
from sims.console import open_console
from sims.studies.page import Account, write_page
from sims.studies.pools import read_pool
from sims.studies.running.evaluator import RequestEvaluator
from sims.studies.running.folder import (
    REPORT,
    RUNS,
    unfinished_study,
    write_record,
)
from sims.studies.running.order import Order
from sims.studies.running.progress import trial_progress
from sims.studies.running.record import (
    RECORD,
    UNFINISHED,
    StudyRecord,
    read_record,
)
from sims.studies.running.workers import (
    run_in_worker,
    termination_as_interrupt,
    worker_pool,
)
from sims.studies.study import Execute, Round, Study, Trial, TrialResult

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
    folder = choose_folder(study, output, resume)
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


def choose_folder(study: Study, output: Path | None, resume: Path | None) -> Path:
    """Choose the folder that a study ends in."""
    if resume is not None:
        path = resume.absolute()
        return path.with_name(path.name.removesuffix(UNFINISHED))
    return output.absolute() if output else next_folder(f"study-{study.name}")


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


Key: TypeAlias = tuple[int, tuple[str, ...], tuple[Round, ...], str]
"""What distinguishes trials: seed, settings, requests and attack, not their names."""

TrialRun: TypeAlias = tuple[RunConfig, Path, Execute]
"""A trial's scenario, the folder that its run leaves, and what runs it."""


def measure(execute: Execute, config: RunConfig, folder: Path, engine: str) -> float:
    """Run one trial; gives its wall time in seconds."""
    began = time.monotonic()
    execute(config, folder, engine)
    return time.monotonic() - began


def refuse_other_weights(folders: Sequence[Path]) -> None:
    """Refuse trials that edited models with different weights.

    Raises:
        InputError: If the model was changed before the study was resumed.
    """
    bases: dict[object, Path] = {}
    for folder in folders:
        delta = folder / "delta.safetensors"
        if delta.is_file():
            bases.setdefault(load_delta(delta)[1].get("base"), folder)
    if len(bases) > 1:
        first, second, *_ = bases.values()
        raise InputError(
            f"The trials in {first} and {second} edited different weights: the model "
            "was changed meanwhile. Start the study again, or remove the folders of "
            "the trials on the other weights"
        )


class Runner:
    """Runs the trials that are not finished yet, equal ones of a seed once."""

    def __init__(
        self, folder: Path, study: Study, order: Order, execute: Execute
    ) -> None:
        """Put all runs under ``runs/seed_<s>/<trial>`` of a folder."""
        self._folder, self._order, self._execute = folder, order, execute
        self._study = study
        self._scenario = order.scenario or study.scenario
        self._done: dict[Key, TrialRun] = {}
        self._evaluator: RequestEvaluator | None = None

    def run_all(
        self, trials: Sequence[SeededTrial], console: Console
    ) -> Iterator[TrialResult]:
        """Run what differs, report each run when it is done, read all in order."""
        different = {self._key(*each): each for each in trials}
        runs = {
            key: self._prepare(seed, trial)
            for key, (seed, trial) in different.items()
            if key not in self._done
        }
        kept = {key: run for key, run in runs.items() if (run[1] / REPORT).is_file()}
        missing = {key: run for key, run in runs.items() if key not in kept}
        self._done |= kept
        before, began = self._seconds(), time.monotonic()
        with trial_progress(
            console, len(runs), len(kept), bars=self._order.jobs > 1
        ) as report:
            for key, seconds in self._carry_out(missing):
                self._done[key], (seed, trial) = missing[key], different[key]
                self._keep_seconds(before + time.monotonic() - began)
                report(f"seed {seed}  {trial.name}", seconds)
        refuse_other_weights([folder for _, folder, _ in self._done.values()])
        for seed, trial in trials:
            config, folder, _ = self._done[self._key(seed, trial)]
            yield self._read(seed, trial, config, folder)

    def _carry_out(self, runs: Mapping[Key, TrialRun]) -> Iterator[tuple[Key, float]]:
        """Run everything, and give what is done as it is done."""
        engine = self._order.engine
        if self._order.jobs == 1 or not runs:
            for key, (config, folder, execute) in runs.items():
                yield key, measure(execute, config, folder, engine)
            return
        with worker_pool(min(self._order.jobs, len(runs))) as pool:
            waiting = {
                pool.submit(
                    run_in_worker, measure, execute, config, folder, engine
                ): key
                for key, (config, folder, execute) in runs.items()
            }
            for done in as_completed(waiting):
                yield waiting[done], done.result()

    @staticmethod
    def _key(seed: int, trial: Trial) -> Key:
        return seed, trial.overrides, trial.rounds, trial.attack

    def _seconds(self) -> float:
        """For how long the study ran before it was stopped."""
        recorded = (self._folder / RECORD).is_file()
        return read_record(self._folder).seconds if recorded else 0.0

    def _keep_seconds(self, seconds: float) -> None:
        if (self._folder / RECORD).is_file():
            record = read_record(self._folder)
            write_record(self._folder, record.model_copy(update={"seconds": seconds}))

    def _read(
        self, seed: int, trial: Trial, config: RunConfig, folder: Path
    ) -> TrialResult:
        """Read what a trial left, and evaluate its further requests."""
        report = read_report(folder / REPORT)
        named = config.editing.hyperparameters
        self._evaluator = self._evaluator or RequestEvaluator(config.model, named)
        return TrialResult(
            seed=seed,
            trial=trial,
            report=report.runs[0],
            unedited=report.unedited,
            folder=folder,
            evaluated=self._evaluator(trial.evaluated, folder / "delta.safetensors"),
        )

    def _prepare(self, seed: int, trial: Trial) -> TrialRun:
        """Write a trial's requests; gives its scenario and the folder of its run."""
        source = self._source(seed, trial)
        records = [to_counterfact(request) for request in trial.requests]
        write_private(source, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
        config = self._configure(seed, trial)
        execute = self._study.executor(trial) or self._execute
        return config, self._folder / RUNS / f"seed_{seed}" / trial.name, execute

    def _source(self, seed: int, trial: Trial) -> Path:
        return self._folder / "requests" / f"seed_{seed}" / f"{trial.name}.json"

    def _configure(self, seed: int, trial: Trial) -> RunConfig:
        source = json.dumps(str(self._source(seed, trial)), ensure_ascii=False)
        own = (f"requests.source={source}", "requests.skip=[]", f"run.seed={seed}")
        overrides = (*self._order.overrides, *trial.overrides, *own)
        return read_scenario(self._scenario, overrides)
