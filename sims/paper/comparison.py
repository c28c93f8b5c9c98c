"""Merges, editors and settings on the same requests: a comparison as a study."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from clients.own_requests import find_shares
from editing.algebra.deltas import load_delta, relative_difference
from editing.requests.edit_request import EditRequest
from server.config import RunConfig, read_scenario
from server.report.tables import (
    EARLIER,
    OVERVIEW,
    QUESTION_ACCURACIES,
    TOKEN_ACCURACIES,
    UNEDITED,
    metrics_row,
)
from sims.paper.sweep import Point
from sims.paper.tables import estimate
from sims.studies.bars import draw_groups
from sims.studies.plots import Panel, draw_panels
from sims.studies.study import Figure, Round, Study, Trial, TrialResult
from strategies.methods import GLOBAL
from strategies.partitioning.partitions import check_supply

EDITOR, MERGE, ROUND = "editor", "merge", "round"
GAP = "relative_difference_to_global"
SHOWN = (
    *OVERVIEW,
    "rewrite_acc",
    *TOKEN_ACCURACIES,
    *QUESTION_ACCURACIES,
    "retention",
    "held_out_acc",
    GAP,
)
"""The columns of a table, as far as they were measured."""

OVER_ROUNDS = (
    Panel("own_score", "Score of the round's own requests"),
    Panel("own_retention", "Retention of earlier rounds"),
    Panel("own_held_out_acc", "Held-out accuracy"),
)
BARS = (
    Panel("score", "Score"),
    Panel("rewrite_success", "Efficacy"),
    Panel("paraphrase_success", "Generalization"),
    Panel("neighborhood_success", "Specificity"),
)
ACCURACIES = (
    Panel("rewrite_token_acc", "Rewrite, by token"),
    Panel("locality_acc", "Locality"),
    Panel("portability_acc", "Portability"),
)
_UNNAMED = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True, slots=True)
class Grid:
    """What is compared.

    Attributes:
        editors: Names; the scenario's if empty.
        merges: Names; those that `compare` runs if empty.
        points: Choices of swept settings.
        settings: What all have over the scenario, each ``table.key=value``.
    """

    editors: tuple[str, ...] = ()
    merges: tuple[str, ...] = ()
    points: tuple[Point, ...] = (Point(),)
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a comparison: what distinguishes it, and its settings."""

    labels: Mapping[str, str | float]
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name it as a folder may be named, with a digest where that is ambiguous."""
        words = [str(each) for each in self.labels.values()]
        plain = "_".join(_UNNAMED.sub(".", word) for word in words)
        if plain == "_".join(words) and not any("_" in word for word in words):
            return plain
        digest = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()
        return f"{plain[:80]}_{digest[:8]}"


class Comparison(Study):
    """Run the scenario's own requests by each merge, editor and choice of settings.

    A trial has the requests of `run` under the same settings, whose ``run.seed`` and
    ``requests.seed`` are the trial's seed.
    """

    name = "compare"
    title = "Comparison"
    question = "Which merge keeps what the parties edit, by editor and setting?"
    scenario = Path(__file__).resolve().parents[1] / "scenarios" / "paper.toml"

    def __init__(
        self, grid: Grid, scenario: Path, overrides: Sequence[str] = ()
    ) -> None:
        """Compare what a grid says, over a scenario and overrides."""
        self._grid, self._scenario = grid, scenario
        self._overrides = tuple(overrides)

    def configure(self, settings: Sequence[str]) -> RunConfig:
        """Read the scenario with settings over it; a mistake is an `InputError`."""
        common = (*self._overrides, *self._grid.settings, "run.compare=false")
        return read_scenario(self._scenario, (*common, *settings))

    def variants(self) -> Iterator[Variant]:
        """Yield what is compared: editors, then swept settings, then merges."""
        base = self.configure(())
        for editor in self._grid.editors or (base.editor.name,):
            own = (f"editor.name={editor}",) if self._grid.editors else ()
            for point in self._grid.points:
                chosen = (*own, *point.settings)
                merges = self._grid.merges or compared(self.configure(chosen))
                for merge in merges:
                    labels = {EDITOR: editor, **dict(point.labels), MERGE: merge}
                    yield Variant(labels, (*chosen, f"merge.name={merge}"))

    def trials(
        self,
        pool: Sequence[EditRequest],  # noqa: ARG002 - settings may name another
        config: RunConfig,  # noqa: ARG002 - each variant has its own
        seed: int,
    ) -> list[Trial]:
        """One trial a variant, with the requests that a run of it would have."""
        found = []
        for variant in self.variants():
            seeds = (f"requests.seed={seed}", f"run.seed={seed}")
            own = self.configure((*variant.settings, *seeds))
            settings = (*self._grid.settings, *variant.settings, seeds[0])
            rounds = share_out(own)
            found.append(Trial(variant.name, rounds, settings, variant.labels))
        return found

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a trial and round, and one for the model before any edit."""
        return pd.DataFrame([*rows_before(results), *rows_of(results)])

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """The last round in figures; over a swept number, rounds, or as bars."""
        last = last_rounds(frame)
        shown = [name for name in SHOWN if name in last and last[name].notna().any()]
        varied = vary(frame)
        table = last.groupby(varied, sort=False, dropna=False)[shown].mean()
        rounds = int(frame[ROUND].max())
        same = last[ROUND].nunique() == 1
        note = f"After round {rounds}, all edits" if same else "After the last round"
        note = "After one round" if rounds == 1 else note
        return [
            Figure(
                title=self.title,
                caption=f"{note}; successes, accuracies and score in per cent.",
                picture=picture_of(frame, last, varied, rounds),
                table=table,
                numbers=frame,
            )
        ]

    def state(self, frame: pd.DataFrame) -> str:
        """State the score of each variant, the highest first."""
        last = last_rounds(frame)
        last = last[last[MERGE] != UNEDITED]
        name = "score" if last["score"].notna().any() else "rewrite_token_acc"
        found = []
        for labels, rows in last.groupby(vary(frame), sort=False):
            figure = estimate(list(rows[name])) if name in rows else None
            words = ", ".join(map(str, labels))
            if figure is not None:
                found.append((figure.mean, f"{words} {figure.write(name)}"))
        found.sort(key=lambda each: -each[0])
        return "Scores: " + "; ".join(text for _, text in found) + "."


def compared(config: RunConfig) -> tuple[str, ...]:
    """Return the merges that `compare` runs under settings."""
    on = config.run.model_copy(update={"compare": True})
    return config.model_copy(update={"run": on}).compared


def share_out(config: RunConfig) -> tuple[Round, ...]:
    """Return the requests of each party in each round, as a run would have them."""
    shares = find_shares(config.model, config.requests, config.parties)
    rounds = []
    for number in range(1, config.run.rounds + 1):
        source = config.requests.source
        check_supply(len(shares.pool), config.parties, number, source)
        rounds.append(tuple(tuple(each.requests) for each in shares.in_round(number)))
    return tuple(rounds)


def rows_before(results: Sequence[TrialResult]) -> Iterator[dict[str, object]]:
    """Write the unedited model's metrics, once for each seed and choice of settings."""
    seen = set()
    for result in results:
        labels = {**result.trial.labels, EDITOR: UNEDITED, MERGE: UNEDITED}
        key = (result.seed, tuple(labels.values()))
        if result.unedited is None or key in seen:
            continue
        seen.add(key)
        own = metrics_row(UNEDITED, result.unedited)
        rounds = len(result.report.metrics)
        yield {"seed": result.seed, **labels, ROUND: rounds} | pick(own)


def rows_of(results: Sequence[TrialResult]) -> Iterator[dict[str, object]]:
    """Write each trial's rounds; the last one over all edits, where they are known."""
    for result in results:
        for number, metrics in enumerate(result.report.metrics, start=1):
            own = metrics_row(str(result.trial.labels[MERGE]), metrics)
            row: dict[str, object] = {"seed": result.seed, **result.trial.labels}
            row[ROUND] = number
            row |= {panel.column: own.get(panel.column[4:]) for panel in OVER_ROUNDS}
            if number == len(result.report.metrics):
                row |= pick(own | dict(metrics.all_edits))
                row[GAP] = gap_to_global(result, results)
            yield row


def pick(metrics: Mapping[str, object]) -> dict[str, object]:
    """Take the metrics that a table shows."""
    names = [name for name in SHOWN if name not in EARLIER or name == "retention"]
    return {name: metrics.get(name) for name in names if name != GAP}


def gap_to_global(result: TrialResult, results: Sequence[TrialResult]) -> float | None:
    """Return how far an update is from that of one machine with all requests."""
    wanted = {**result.trial.labels, MERGE: GLOBAL}
    for other in results:
        if other.seed == result.seed and dict(other.trial.labels) == wanted:
            own, theirs = (
                load_delta(each.folder / "delta.safetensors")[0]
                for each in (result, other)
            )
            return relative_difference(own, theirs)
    return None


def labels_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns that distinguish trials, in their order."""
    names = list(frame.columns)
    return [str(name) for name in names[1 : names.index(ROUND)]]


def vary(frame: pd.DataFrame) -> list[str]:
    """Return the labels that distinguish trials of a seed; merges if none does."""
    edited = frame[frame[MERGE] != UNEDITED]
    return [key for key in labels_of(frame) if edited[key].nunique() > 1] or [MERGE]


def last_rounds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of last rounds, settings with fewer rounds included."""
    keys = ["seed", *labels_of(frame)]
    last = frame.groupby(keys, sort=False, dropna=False)[ROUND].transform("max")
    chosen: pd.DataFrame = frame[frame[ROUND] == last]
    return chosen


def picture_of(
    frame: pd.DataFrame, last: pd.DataFrame, varied: Sequence[str], rounds: int
) -> str:
    """Draw lines over the one number that is swept, or over rounds; else bars."""
    edited = frame[frame[MERGE] != UNEDITED]
    panels = [panel for panel in BARS if last[panel.column].notna().any()]
    panels = panels or [p for p in ACCURACIES if last[p.column].notna().any()]
    swept = [key for key in varied if key not in {EDITOR, MERGE}]
    if len(swept) == 1 and pd.api.types.is_numeric_dtype(edited[swept[0]]):
        others = [key for key in varied if key != swept[0]] or [MERGE]
        return lines_over(last[last[MERGE] != UNEDITED], panels, swept[0], others)
    if rounds > 1:
        measured = [p for p in OVER_ROUNDS if edited[p.column].notna().any()]
        return lines_over(edited, measured or panels, ROUND, varied)
    shown = last[last[MERGE] != UNEDITED]
    named = shown.assign(variant=[name_row(row, varied) for _, row in shown.iterrows()])
    return draw_groups(named, "variant", panels)


def lines_over(
    frame: pd.DataFrame, panels: Sequence[Panel], x: str, keys: Sequence[str]
) -> str:
    """Draw panels against a number, a line for each choice of the other labels."""
    named = frame.assign(variant=[name_row(row, keys) for _, row in frame.iterrows()])
    return draw_panels(
        named,
        panels,
        x=x,
        x_label=x,
        lines="variant",
        names=list(dict.fromkeys(named["variant"])),
    )


def name_row(row: "pd.Series[float]", keys: Sequence[str]) -> str:
    """Name a line or bar by its labels."""
    return ", ".join(str(row[key]) for key in keys)
