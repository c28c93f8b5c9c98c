"""The system in a few calls: for a notebook, a script, or a program of one's own.

`merge` merges tensors. `Machine` edits, evaluates and saves a model on one machine.
`federate` runs a federation, from a scenario or from lists of requests, and gives
pandas frames. Editors and merges of one's own go wherever a name goes:
``package.module:ClassName``.

Settings are those of a scenario, by their dotted names: ``{"parties.count": 3}``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from clients.own_requests import shared_requests
from editing.algebra.deltas import applied, load_delta
from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.answers.gradients import read_answers
from editing.answers.moments import sum_moments
from editing.answers.rule import AnswerRule, Given
from editing.base.errors import InputError
from editing.editors.base import Editor
from editing.editors.choice import EditorChoice
from editing.editors.system import LayerState
from editing.evaluation.answers import measure_answers
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.evaluation.generated_texts import add_texts
from editing.files.atomic import write_private
from editing.memit.pipeline import edit_alone
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from editing.sources.embedded import resolve_model
from server.config import RunConfig, change_scenario
from server.output import choose_folder, create_output_folder
from server.preparation import Preparation, prepare
from server.report.data import Report, RoundMetrics, RunReport, read_report
from sims.runs.jobs import execute
from sims.splitting import write_lines
from strategies.merges.base import Merge, MergeContext
from strategies.merges.choice import read_merge
from strategies.rounds.state import EditedLayer

SCENARIOS = Path(__file__).resolve().parent / "scenarios"

ENGINES = ("in-process", "flower")

Changes = Mapping[str, object]
"""Settings by their dotted names, over those of a scenario."""


def read_settings(
    scenario: str | Path = "default", changes: Changes | None = None
) -> RunConfig:
    """Read a scenario, and put settings over it; a mistake is a `ConfigurationError`.

    Args:
        scenario: A TOML file, or the name of one in ``sims/scenarios``.
        changes: Settings that win over the file's.
    """
    known = SCENARIOS / f"{scenario}.toml"
    parts = [
        (name.replace("-", "_").split("."), value)
        for name, value in (changes or {}).items()
    ]
    return change_scenario(known if known.is_file() else Path(scenario), parts)


def merge(
    parties: Sequence[tuple[Tensor, Tensor]],
    covariance: Tensor,
    prior_weight: float,
    by: str | Merge = "collabedit",
    editor: str | Editor = "memit",
    context: MergeContext | None = None,
) -> Float[Tensor, "d_out d_in"]:
    """Merge the edits of a layer, in float64.

    An unknown merge or editor, or a merge that needs what is not given, is an
    `InputError`; a prior that does not carry the solve is an `IllConditionedError`.

    Args:
        parties: Keys (n × d_in) and residuals (n × d_out) of each; rows are edits.
        covariance: ``C₀`` (d_in × d_in), the second moment of keys over plain text.
        prior_weight: ``λ``.
        by: The merge.
        editor: What is solved.
        context: Layer, round, seed and weight, for merges that draw or need it.

    Raises:
        InputError: If the editor solves other values than residuals.
    """
    check_tensors(parties, covariance)
    chosen = by if isinstance(by, Merge) else read_merge(by)
    solver = editor if isinstance(editor, Editor) else EditorChoice(name=editor).build()
    if solver.answers is not None:
        raise InputError(
            f"`{solver.name}` solves values made of keys and gradients at the answers, "
            "not residuals; edit with `Machine.edit` or `federate`"
        )
    state = LayerState(Prior(covariance.double(), prior_weight))
    system = solver.system(replace(state, kept=solver.begin(state)))
    found = [
        LayerStatistics.of_pairs(keys.double(), residuals.double())
        for keys, residuals in parties
    ]
    return chosen(found, system, context or MergeContext())


def check_tensors(parties: Sequence[tuple[Tensor, Tensor]], covariance: Tensor) -> None:
    """Refuse tensors that no edits can have.

    Raises:
        InputError: Naming the first.
    """
    width = len(covariance)
    if covariance.shape != (width, width) or not bool(covariance.isfinite().all()):
        raise InputError(
            f"the covariance is {tuple(covariance.shape)}, or not all of it is finite; "
            "wanted d_in × d_in"
        )
    if not parties:
        raise InputError("there are no parties to merge")
    outer = parties[0][1].shape[-1]
    for number, (keys, residuals) in enumerate(parties):
        wanted = (len(keys), width), (len(keys), outer)
        if (keys.shape, residuals.shape) != wanted:
            raise InputError(
                f"party {number}: keys are {tuple(keys.shape)} and residuals "
                f"{tuple(residuals.shape)}; wanted {wanted[0]} and {wanted[1]}"
            )
        if not bool(keys.isfinite().all() and residuals.isfinite().all()):
            raise InputError(f"party {number}: keys or residuals are not finite")


@dataclass(frozen=True, slots=True)
class Machine:
    """A model on one machine, with all that an edit of it needs.

    Attributes:
        settings: Those that it was loaded with.
        preparation: The model, its plan, and its covariance.
    """

    settings: RunConfig
    preparation: Preparation

    @classmethod
    def load(
        cls, scenario: str | Path = "default", changes: Changes | None = None
    ) -> "Machine":
        """Load the model of a scenario; see `read_settings`.

        A setting, or a file that it names, that does not fit is an `InputError`.
        """
        settings = read_settings(scenario, changes)
        return cls(settings, prepare(settings))

    @property
    def model(self) -> EditableModel:
        """The model, unedited; ``model.model`` is transformers'."""
        return self.preparation.model

    def requests(self) -> list[EditRequest]:
        """Read the scenario's requests, in the order in which parties are given them.

        A source that cannot be read is an `InputError`.
        """
        own = self.settings
        return shared_requests(own.model, own.requests, own.parties)

    def edit(self, requests: Sequence[EditRequest]) -> dict[str, Tensor]:
        """Compute the update for all requests at once; the model stays as it is.

        A request that does not fit the model is an `InputError`, a prior that does not
        carry the solve an `IllConditionedError`.

        Returns:
            Updates by the name of their weight, in float64.
        """
        if not requests:
            raise InputError("there are no requests to edit with")
        prepared, editor = self.preparation, self.settings.editor.build()
        plan = prepared.plan
        if prepared.answers is not None:
            return self._edit_answers(requests, prepared.answers)
        edited = prepared.layers(0.0, self.settings.run, editor=editor)
        solvers = {number: _Solver(each) for number, each in edited.items()}
        return edit_alone(self.model, requests, plan, solvers)

    def _edit_answers(
        self, requests: Sequence[EditRequest], rule: AnswerRule
    ) -> dict[str, Tensor]:
        editor, own = self.settings.editor.build(), self.settings
        edited = self.preparation.layers(0.0, own.run, editor=editor)
        pairs = read_answers(self.model, requests, [*edited])
        moments = sum_moments(pairs, products=rule.whitens)
        found = rule.statistics(pairs, Given(moments, resolve_model(own.model.path)))
        return {
            self.model.weight_name(n): _Solver(layer).solve(found[n])
            for n, layer in edited.items()
        }

    def evaluate(
        self,
        requests: Sequence[EditRequest],
        update: Mapping[str, Tensor] | None = None,
    ) -> pd.Series:
        """Measure the model on the requests' prompts, with an update if one is given.

        Returns:
            Metrics by name, successes in per cent.
        """
        with applied(update or {}, self.model.model):
            chosen = self.settings.evaluation
            cases = evaluate_requests(self.model, requests, chosen)
            if chosen.generated_answers != "never":
                found = measure_answers(self.model, requests, chosen)
                cases = add_texts(cases, found)
        return pd.Series(sum_cases(cases).means(), dtype=float)

    def save(self, update: Mapping[str, Tensor], folder: Path) -> None:
        """Write the edited model to a new folder, as transformers reads it.

        A folder that exists is an `InputError`.
        """
        with (
            create_output_folder(folder.absolute()) as draft,
            applied(update, self.model.model),
        ):
            self.model.model.save_pretrained(draft)
            self.model.tokenizer.save_pretrained(draft)


@dataclass(frozen=True, slots=True)
class _Solver:
    """What an editor solves for a layer, and the steps after it."""

    layer: EditedLayer

    def solve(self, statistics: LayerStatistics) -> Float[Tensor, "d_out d_in"]:
        return self.layer.merge(read_merge("collabedit"), [statistics], None, 1)


@dataclass(frozen=True, slots=True)
class Results:
    """What a federation leaves.

    Attributes:
        folder: All files, the report page among them.
        report: What is in its ``report.json``.
    """

    folder: Path
    report: Report

    @property
    def merges(self) -> pd.DataFrame:
        """A row a merge: its metrics after the last round, cost and difference."""
        rows = [_describe(run) | _numbers(run.metrics[-1]) for run in self.report.runs]
        return pd.DataFrame(rows).set_index("merge")

    @property
    def rounds(self) -> pd.DataFrame:
        """A row a merge and round: the metrics of the round's requests after it."""
        rows = [
            {"merge": run.merge, "round": number} | _numbers(metrics)
            for run in self.report.runs
            for number, metrics in enumerate(run.metrics, start=1)
        ]
        return pd.DataFrame(rows).set_index(["merge", "round"])

    def update(self, merge: str) -> dict[str, Tensor]:
        """Read a merge's update, by the name of its weight.

        Raises:
            InputError: If no such merge was run.
        """
        names = [run.merge for run in self.report.runs]
        if merge not in names:
            raise InputError(f"There is no merge {merge!r} here, only {names}")
        own = self.folder if len(names) == 1 else self.folder / merge
        return load_delta(own / "delta.safetensors")[0]


def federate(
    scenario: str | Path = "default",
    requests: Sequence[Sequence[EditRequest]] | None = None,
    *,
    merges: Sequence[str] = (),
    changes: Changes | None = None,
    folder: Path | None = None,
    engine: str = "in-process",
) -> Results:
    """Run a federation, and read its results.

    A setting or request that does not fit is an `InputError`, a run that ends without a
    result a `RunFailedError`.

    Args:
        scenario: As in `read_settings`.
        requests: Those of each party, over all rounds; the scenario's if None. A round
            takes an equal share of them, and the first rounds what is left over.
        merges: Merges to compare, ``global`` among them for one machine with all
            requests; the scenario's own if there are none.
        changes: Settings over the scenario's.
        folder: The folder to make for the results; the next free one if None.
        engine: ``in-process``, or ``flower`` for Flower's simulation.
    """
    if engine not in ENGINES:
        raise InputError(f"there is no engine {engine!r}, only {', '.join(ENGINES)}")
    given = dict(changes or {})
    if merges:
        given |= {"run.compare": True, "run.merges": list(merges)}
    with TemporaryDirectory() as scratch:
        if requests is not None:
            rounds = read_settings(scenario, given).run.rounds
            given |= _lay_out(requests, rounds, Path(scratch) / "requests.jsonl")
        settings = read_settings(scenario, given)
        place = (folder or choose_folder(settings)).absolute()
        execute(settings, place, engine)
    return Results(place, read_report(place / "report.json"))


def _lay_out(
    requests: Sequence[Sequence[EditRequest]], rounds: int, file: Path
) -> dict[str, object]:
    """Write all requests to a file, so that each party takes its own in each round."""
    sizes = [
        [len(own) // rounds + (number < len(own) % rounds) for own in requests]
        for number in range(rounds)
    ]
    ahead = [iter(own) for own in requests]
    ordered = [
        next(own)
        for row in sizes
        for own, n in zip(ahead, row, strict=True)
        for _ in range(n)
    ]
    write_private(file, write_lines(ordered))
    return {
        "requests.source": str(file),
        "parties.count": len(requests),
        "parties.requests-per-round": sizes,
        "parties.split": "contiguous",
        "parties.allow-empty": True,
    }


def _describe(run: RunReport) -> dict[str, object]:
    return {
        "merge": run.merge,
        "difference_to_global": run.relative_difference_to_global,
        "seconds": run.seconds,
        "bytes_per_party": run.bytes_per_party,
    }


def _numbers(metrics: RoundMetrics) -> dict[str, float]:
    """List what was measured, by name."""
    known = metrics.model_dump(exclude={"groups"}) | metrics.groups
    return {
        name: float(value)
        for name, value in known.items()
        if isinstance(value, int | float)
    }
