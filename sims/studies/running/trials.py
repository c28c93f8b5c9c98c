"""Trials of one or several studies: computed, or taken from where they are already."""

import json
import os
import shutil
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from editing.algebra.deltas import load_delta
from editing.base.errors import InputError
from editing.files.atomic import write_private, write_whole
from editing.files.json_text import dump_json
from editing.files.text import read_json_object
from editing.requests.edit_request import to_counterfact
from server.config import RunConfig, read_scenario
from server.inputs import digest_file
from server.report.data import read_report
from sims.runs.unfinished import draft_of
from sims.studies.running.digests import (
    describe_settings,
    describe_versions,
    digest_trial,
)
from sims.studies.running.evaluator import RequestEvaluator
from sims.studies.running.folder import REPORT, RUNS, write_record
from sims.studies.running.progress import trial_progress
from sims.studies.running.record import RECORD, read_record
from sims.studies.running.scenario_file import write_scenario
from sims.studies.running.workers import run_in_worker, worker_pool
from sims.studies.study import Execute, Trial, TrialResult

TRIAL, SCENARIO = "trial.json", "scenario.toml"
"""What a trial's folder says of how it was made."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial with all that its run is made of.

    Attributes:
        seed: Draws all that the run draws.
        trial: What is run.
        scenario: A TOML file.
        overrides: Settings over the scenario, under those of the trial.
        section: Goes before the trial's name where several studies share a folder.
        execute: Runs it, if it is not run as any other scenario.
    """

    seed: int
    trial: Trial
    scenario: Path
    overrides: tuple[str, ...] = ()
    section: str = ""
    execute: Execute | None = None

    @property
    def name(self) -> str:
        """Name the trial among those of its seed."""
        return "_".join(word for word in (self.section, self.trial.name) if word)

    @property
    def place(self) -> str:
        """Name the trial among all."""
        return f"seed {self.seed}, {self.name}"


@dataclass(frozen=True, slots=True)
class TrialRun:
    """A trial's scenario, the folder that its run leaves, and what runs it."""

    config: RunConfig
    folder: Path
    execute: Execute


class Trials:
    """Runs the trials that are not there yet, equal ones once."""

    def __init__(
        self,
        folder: Path,
        execute: Execute,
        *,
        engine: str,
        jobs: int,
        place: str = RUNS,
        earlier: Sequence[Path] = (),
    ) -> None:
        """Put all runs under ``seed_<s>/<trial>`` of a place in a folder.

        Args:
            folder: What belongs to the trials; their requests are kept there.
            execute: Runs one trial.
            engine: What carries the messages.
            jobs: How many trials run at once.
            place: The name of the folder in it that holds the runs.
            earlier: Folders of runs whose trials are taken where they are equal.
        """
        self._folder, self._execute, self._place = folder, execute, place
        self._engine, self._jobs, self._earlier = engine, jobs, earlier
        self._done: dict[str, TrialRun] = {}
        self._evaluators: dict[str, RequestEvaluator] = {}

    def run(
        self, planned: Sequence[PlannedTrial], console: Console
    ) -> Iterator[TrialResult]:
        """Run what differs, report each run when it is done, read all in order."""
        digests = [
            digest_trial(self._configure(each), each.trial.requests, each.trial.attack)
            for each in planned
        ]
        different = dict(zip(reversed(digests), reversed(planned), strict=True))
        runs = {
            digest: self._prepare(different[digest])
            for digest in dict.fromkeys(digests)
            if digest not in self._done
        }
        kept = {key: run for key, run in runs.items() if is_kept(run.folder, key)}
        remove_stale(
            [run.folder for key, run in runs.items() if key not in kept], console
        )
        usual = {key for key, each in different.items() if each.execute is None}
        wanted = {k: run for k, run in runs.items() if k not in kept and k in usual}
        taken = self._take(wanted)
        missing = {k: v for k, v in runs.items() if k not in kept and k not in taken}
        self._done |= kept | taken
        before, began = self._seconds(), time.monotonic()
        with trial_progress(
            console, len(runs), len(kept), len(taken), bars=self._jobs > 1
        ) as report:
            for key, seconds in self._carry_out(missing):
                self._done[key] = missing[key]
                describe_run(missing[key], key)
                self._keep_seconds(before + time.monotonic() - began)
                report(f"seed {different[key].seed}  {different[key].name}", seconds)
        refuse_other_weights([run.folder for run in self._done.values()])
        for digest, each in zip(digests, planned, strict=True):
            yield self._read(each, self._done[digest])

    def _take(self, runs: Mapping[str, TrialRun]) -> dict[str, TrialRun]:
        """Take what earlier folders have under the same digests."""
        known = find_trials(self._earlier, runs) if runs and self._earlier else {}
        found = {key: run for key, run in runs.items() if key in known}
        for key, run in found.items():
            take_trial(known[key], run.folder)
            describe_run(run, key)
        return found

    def _carry_out(self, runs: Mapping[str, TrialRun]) -> Iterator[tuple[str, float]]:
        """Run everything, and give what is done as it is done."""
        if self._jobs == 1 or not runs:
            for key, run in runs.items():
                yield key, measure(run, self._engine)
            return
        with worker_pool(min(self._jobs, len(runs))) as pool:
            waiting = {
                pool.submit(run_in_worker, measure, run, self._engine): key
                for key, run in runs.items()
            }
            for done in as_completed(waiting):
                yield waiting[done], done.result()

    def _seconds(self) -> float:
        """For how long the study ran before it was stopped."""
        recorded = (self._folder / RECORD).is_file()
        return read_record(self._folder).seconds if recorded else 0.0

    def _keep_seconds(self, seconds: float) -> None:
        if (self._folder / RECORD).is_file():
            record = read_record(self._folder)
            write_record(self._folder, record.model_copy(update={"seconds": seconds}))

    def _read(self, planned: PlannedTrial, run: TrialRun) -> TrialResult:
        """Read what a trial left, and evaluate its further requests."""
        report = read_report(run.folder / REPORT)
        return TrialResult(
            seed=planned.seed,
            trial=planned.trial,
            report=report.runs[0],
            unedited=report.unedited,
            folder=run.folder,
            evaluated=self._evaluator(run.config)(
                planned.trial.evaluated, run.folder / "delta.safetensors"
            ),
        )

    def _evaluator(self, config: RunConfig) -> RequestEvaluator:
        """Evaluate by this model; each is loaded once."""
        named = config.editing.hyperparameters
        key = f"{config.model.model_dump_json()} {named}"
        if key not in self._evaluators:
            self._evaluators[key] = RequestEvaluator(config.model, named)
        return self._evaluators[key]

    def _prepare(self, planned: PlannedTrial) -> TrialRun:
        """Write a trial's requests; gives its scenario and the folder of its run."""
        records = [to_counterfact(request) for request in planned.trial.requests]
        text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
        write_private(self._source(planned), text)
        folder = self._folder / self._place / f"seed_{planned.seed}" / planned.name
        execute = planned.execute or self._execute
        return TrialRun(self._configure(planned), folder, execute)

    def _source(self, planned: PlannedTrial) -> Path:
        seed = f"seed_{planned.seed}"
        return self._folder / "requests" / seed / f"{planned.name}.json"

    def _configure(self, planned: PlannedTrial) -> RunConfig:
        source = json.dumps(str(self._source(planned)), ensure_ascii=False)
        own = (
            f"requests.source={source}",
            "requests.skip=[]",
            f"run.seed={planned.seed}",
        )
        overrides = (*planned.overrides, *planned.trial.overrides, *own)
        return read_scenario(planned.scenario, overrides)


def is_finished(folder: Path) -> bool:
    """Return whether a trial's run is complete."""
    return (folder / REPORT).is_file()


def is_kept(folder: Path, digest: str) -> bool:
    """Return whether a trial was finished before, by the same version, and is whole."""
    if not (folder / TRIAL).is_file():  # stopped before it was described
        return is_finished(folder)
    return is_finished(folder) and is_whole(folder, [digest])


def remove_stale(folders: Iterable[Path], console: Console) -> None:
    """Remove finished trials that are another version's, or were changed since."""
    stale = [folder for folder in folders if is_finished(folder)]
    for folder in stale:
        shutil.rmtree(folder)
    if stale:
        console.print(
            f"{len(stale)} finished trials are of other code, versions or model files, "
            "or their files were changed; they are run again",
            highlight=False,
            soft_wrap=True,
        )


def read_trial(folder: Path) -> dict[str, object]:
    """Read what a trial's folder says of how it was made; nothing if it is damaged."""
    try:
        return read_json_object(folder / TRIAL)
    except InputError:
        return {}


def is_whole(folder: Path, digests: Container[object]) -> bool:
    """Return whether a trial has one of some digests, and the files that it left."""
    described = read_trial(folder)
    known = described.get("digest") in digests
    # Updates may be large: only those of trials that are wanted are read.
    return known and described.get("files") == digest_results(folder)


def digest_results(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a trial that are read again."""
    names = [REPORT, "delta.safetensors"]
    names += [f"rounds/{file.name}" for file in sorted(folder.glob("rounds/*.jsonl"))]
    digests = {name: digest_file(folder / name) for name in names}
    return {name: digest for name, digest in digests.items() if digest is not None}


def describe_run(run: TrialRun, digest: str) -> None:
    """Write next to a trial's results what made them, and how to repeat it."""
    if not run.folder.is_dir():
        return
    requests = os.path.relpath(run.config.requests.source, run.folder)
    write_whole(run.folder / SCENARIO, write_scenario(run.config, requests))
    described = {
        "digest": digest,
        "command": f"python -m sims run {SCENARIO} --engine in-process",
        "settings": describe_settings(run.config),
        "versions": dict(describe_versions()),
        "files": digest_results(run.folder),
    }
    write_whole(run.folder / TRIAL, dump_json(described, 2) + "\n")


def find_trials(folders: Iterable[Path], wanted: Container[object]) -> dict[str, Path]:
    """Return finished trials in folders of runs by their digests, newest first.

    Args:
        folders: Those of studies or papers.
        wanted: The digests that count.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*/seed_*/*/{TRIAL}")):
            if is_finished(path.parent) and is_whole(path.parent, wanted):
                digest = str(read_trial(path.parent)["digest"])
                found.setdefault(digest, path.parent)
    return found


def take_trial(earlier: Path, folder: Path) -> None:
    """Take the results of an earlier trial; its files are linked where that can be."""
    draft = draft_of(folder)
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(
        earlier,
        draft,
        copy_function=_link,
        ignore=shutil.ignore_patterns(TRIAL, SCENARIO),
    )
    draft.rename(folder)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def measure(run: TrialRun, engine: str) -> float:
    """Run one trial; gives its wall time in seconds."""
    began = time.monotonic()
    run.execute(run.config, run.folder, engine)
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
