"""Run a study: every trial by the same machinery as any run, then one page."""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.files.atomic import write_whole
from editing.hyperparameters.choice import load_named
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest, to_counterfact
from editing.sources.embedded import resolve_model
from server.config import RunConfig, read_scenario
from server.report.data import (
    create_output_folder,
    next_folder,
    read_report,
    refuse_existing,
)
from sims.console import hush_libraries, open_console
from sims.processes.superlink import interruptible
from sims.results.evaluation import edited
from sims.studies.page import Account, write_page
from sims.studies.pools import read_pool
from sims.studies.study import Round, Study, Trial, TrialResult
from strategies.scenario import ModelConfig

Execute: TypeAlias = Callable[[RunConfig, Path, str], None]
"""Runs a scenario on an engine and leaves a whole folder, which is not there yet."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a study is run with.

    Attributes:
        scenario: A TOML file; the study's own if None.
        overrides: Settings over the scenario, each ``table.key=value``.
        seeds: A run of all trials each.
        engine: What carries the messages.
        jobs: How many trials are run at once, each in a process of its own.
        options: What the study itself was told on the command line.
    """

    scenario: Path | None = None
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    engine: str = "in-process"
    jobs: int = 1
    options: tuple[str, ...] = ()

    def command(self, study: str) -> str:
        """Write the command that runs the study again."""
        words = ["python", "-m", "sims", "study", study]
        words += ["--seeds", ",".join(map(str, self.seeds))]
        words += ["--scenario", str(self.scenario)] if self.scenario else []
        for override in self.overrides:
            words += ["--set", override]
        return shlex.join([*words, "--engine", self.engine, *self.options])


class Judge:
    """Judges further requests by a run's edited model, which is loaded once."""

    def __init__(self, config: ModelConfig, hyperparameters: str | None = None) -> None:
        """Load nothing before something is to be evaluated.

        Args:
            config: Which model.
            hyperparameters: A file or preset that names its modules.
        """
        self._config, self._hyperparameters = config, hyperparameters

    @cached_property
    def _model(self) -> EditableModel:
        hush_libraries()
        place = resolve_model(self._config.path)
        return load_named(
            place, self._config.dtype, self._config.device, self._hyperparameters
        )

    def __call__(
        self, asked: Mapping[str, Sequence[EditRequest]], delta: Path
    ) -> dict[str, dict[str, float]]:
        """Give the metrics of each set of requests."""
        if not asked:
            return {}
        with edited(self._model, delta):
            return {
                name: sum_cases(evaluate_requests(self._model, requests)).means()
                for name, requests in asked.items()
            }


def run_study(
    study: Study, order: Order, output: Path | None, execute: Execute
) -> Path:
    """Run all trials of a study and write its page; gives the folder.

    A mistake in a setting, or a pool too small, is an `InputError`, before anything
    is run.
    """
    config = read_scenario(order.scenario or study.scenario, order.overrides)
    folder = output.absolute() if output else next_folder(f"study-{study.name}")
    refuse_existing(folder)
    pool = read_pool(config)
    trials = [
        (seed, trial)
        for seed in order.seeds
        for trial in study.trials(pool, config, seed)
    ]
    console = open_console(stderr=True)
    began = time.monotonic()
    with interruptible(), create_output_folder(folder) as draft:
        runner = Runner(draft, study, order, execute)
        results = list(runner.run_all(trials, console))
        account = Account(
            command=order.command(study.name),
            seconds=time.monotonic() - began,
            settings=config.model_dump(mode="json"),
        )
        finding = write_page(study, results, account, draft)
    out = open_console()
    out.print(finding, soft_wrap=True, markup=False, highlight=False)
    out.print(f"Report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
    return folder


Key: TypeAlias = tuple[int, tuple[str, ...], tuple[Round, ...]]
"""What tells trials apart: seed, settings and requests, whatever they are called."""

Run: TypeAlias = tuple[RunConfig, Path]
"""A scenario, and the folder that its run leaves."""


def clock(execute: Execute, config: RunConfig, folder: Path, engine: str) -> float:
    """Run one trial; gives its wall time in seconds."""
    began = time.monotonic()
    execute(config, folder, engine)
    return time.monotonic() - began


class Runner:
    """Runs trials, equal ones of a seed once."""

    def __init__(
        self, folder: Path, study: Study, order: Order, execute: Execute
    ) -> None:
        """Put all runs under ``runs/seed_<s>/<trial>`` of a folder."""
        self._folder, self._order, self._execute = folder, order, execute
        self._scenario = order.scenario or study.scenario
        self._done: dict[Key, Run] = {}
        self._judge: Judge | None = None

    def run_all(
        self, trials: Sequence[tuple[int, Trial]], console: Console
    ) -> Iterator[TrialResult]:
        """Run what differs and tell of each run when it is done; read all in order."""
        different = {self._key(*each): each for each in trials}
        started = {
            key: self._prepare(seed, trial)
            for key, (seed, trial) in different.items()
            if key not in self._done
        }
        for place, (key, seconds) in enumerate(self._carry_out(started), start=1):
            self._done[key], (seed, trial) = started[key], different[key]
            told = f"{place}/{len(started)}  seed {seed}  {trial.name}  {seconds:.1f} s"
            console.print(told, markup=False, highlight=False)
        for seed, trial in trials:
            config, folder = self._done[self._key(seed, trial)]
            yield self._read(seed, trial, config, folder)

    def _carry_out(self, started: Mapping[Key, Run]) -> Iterator[tuple[Key, float]]:
        """Run everything, and give what is done as it is done."""
        work, engine = partial(clock, self._execute), self._order.engine
        if self._order.jobs == 1:
            for key, (config, folder) in started.items():
                yield key, work(config, folder, engine)
            return
        # A fork would share torch's threads with us.
        context = get_context("spawn")
        with ProcessPoolExecutor(self._order.jobs, context) as pool:
            waiting = {
                pool.submit(work, config, folder, engine): key
                for key, (config, folder) in started.items()
            }
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    @staticmethod
    def _key(seed: int, trial: Trial) -> Key:
        return seed, trial.overrides, trial.rounds

    def _read(
        self, seed: int, trial: Trial, config: RunConfig, folder: Path
    ) -> TrialResult:
        """Read what a trial left, and judge what it wants evaluated besides."""
        report = read_report(folder / "report.json")
        named = config.editing.hyperparameters
        self._judge = self._judge or Judge(config.model, named)
        return TrialResult(
            seed=seed,
            trial=trial,
            report=report.runs[0],
            unedited=report.unedited,
            folder=folder,
            evaluated=self._judge(trial.evaluated, folder / "delta.safetensors"),
        )

    def _prepare(self, seed: int, trial: Trial) -> Run:
        """Write a trial's requests, and say what is run and where."""
        source = self._source(seed, trial)
        source.parent.mkdir(parents=True, exist_ok=True)
        records = [to_counterfact(request) for request in trial.requests]
        write_whole(source, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
        config = self._configure(seed, trial)
        return config, self._folder / "runs" / f"seed_{seed}" / trial.name

    def _source(self, seed: int, trial: Trial) -> Path:
        return self._folder / "requests" / f"seed_{seed}" / f"{trial.name}.json"

    def _configure(self, seed: int, trial: Trial) -> RunConfig:
        source = json.dumps(str(self._source(seed, trial)), ensure_ascii=False)
        own = (f"requests.source={source}", "requests.skip=[]", f"run.seed={seed}")
        overrides = (*self._order.overrides, *trial.overrides, *own)
        return read_scenario(self._scenario, overrides)
