"""What a study is: trials of one scenario, and a reading of what they left.

A study edits nothing itself. It defines who requests what in which round, and under
which settings. Each such trial is a run like any other, and the study reads the folder
that it leaves.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

import pandas as pd

from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from server.report.data import RoundMetrics, RunReport

Party: TypeAlias = tuple[EditRequest, ...]
Round: TypeAlias = tuple[Party, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a study.

    Attributes:
        name: Names the run's folder, once among the trials of a seed.
        rounds: The requests of each party in each round.
        settings: What differs from the scenario, each ``table.key=value``.
        labels: What distinguishes the study's trials.
        evaluated: Further requests by name, on which the model is evaluated after the
            run.
        attack: What a hostile party does in it, in the study `trust`.
    """

    name: str
    rounds: tuple[Round, ...]
    settings: tuple[str, ...] = ()
    labels: Mapping[str, str | float] = field(default_factory=dict)
    evaluated: Mapping[str, tuple[EditRequest, ...]] = field(default_factory=dict)
    attack: str = ""

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        """All requests in the order in which parties take them, numbered from 0."""
        listed = [
            request for parties in self.rounds for own in parties for request in own
        ]
        return tuple(
            request.model_copy(update={"case_id": number})
            for number, request in enumerate(listed)
        )

    @property
    def sizes(self) -> list[list[int]]:
        """How many requests each party has in each round."""
        return [[len(own) for own in parties] for parties in self.rounds]

    @property
    def overrides(self) -> tuple[str, ...]:
        """The trial's settings, and those that its requests and readers count on."""
        return (
            *self.settings,
            "requests.limit=" + str(len(self.requests)),
            "parties.split=contiguous",
            "parties.overlap=0",
            "parties.planted-conflicts=0",
            "parties.allow-empty=true",
            f"parties.count={len(self.rounds[0])}",
            f"parties.requests-per-round={self.sizes}",
            f"run.rounds={len(self.rounds)}",
            "run.compare=false",
            "evaluation.every=1",
        )


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial left.

    Attributes:
        seed: Drew the trial's requests and all that the run draws.
        report: The run's own report.
        unedited: Metrics of the unedited model.
        folder: The run's folder.
        evaluated: Metrics of the trial's further requests, by their name.
    """

    seed: int
    trial: Trial
    report: RunReport
    unedited: RoundMetrics | None
    folder: Path
    evaluated: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def cases(self, number: int) -> list[dict[str, object]]:
        """Read all cases evaluated after a round, which is counted from 1."""
        path = self.folder / "rounds" / f"round_{number:03d}.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and its numbers.

    Attributes:
        title: What it is about.
        caption: How to read it.
        picture: A data URI.
        table: What the page shows in figures; its index names the rows.
        numbers: All that was drawn, a row a point.
    """

    title: str
    caption: str
    picture: str
    table: pd.DataFrame
    numbers: pd.DataFrame


Execute: TypeAlias = Callable[[RunConfig, Path, str], None]
"""Runs a scenario on an engine and leaves a complete, new folder."""


class Study(ABC):
    """A question, the trials that answer it, and how their results are read.

    Attributes:
        name: The word for it on the command line.
        title: Heads its page.
        question: What it asks, in one sentence.
        scenario: The scenario that it runs by default.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    scenario: ClassVar[Path]

    @abstractmethod
    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """Return what runs with one seed; too small a pool is an `InputError`."""

    def executor(self, trial: Trial) -> Execute | None:  # noqa: ARG002
        """Return what runs a trial, if it is not run as any other scenario."""
        return None

    @abstractmethod
    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """Return the results in long form: seed, labels of the trial, metrics."""

    @abstractmethod
    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """Draw what `tabulate` wrote."""

    @abstractmethod
    def state(self, frame: pd.DataFrame) -> str:
        """State the finding in numbers of the run, expected or not."""


def partition(requests: Sequence[EditRequest], sizes: Sequence[int]) -> Round:
    """Partition requests across parties in their order, each with its number."""
    starts = [sum(sizes[:party]) for party in range(len(sizes))]
    return tuple(
        tuple(requests[start : start + size])
        for start, size in zip(starts, sizes, strict=True)
    )
