"""Result folders: the runs in them, and their case files.

Three writers are understood: this project, MEMIT (``<n>_edits-case_<id>.json``), and
CollabEdit, which puts MEMIT's object under ``global_edit`` or ``collaborative_edit``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from editing.base.errors import InputError
from editing.base.validation import find_faults
from editing.evaluation.cases import sum_cases
from editing.evaluation.definitions import define, define_all
from editing.evaluation.metrics import KINDS
from editing.files.text import explain_text_error, parse_json, read_text
from sims.results.folders.means import ReportedMeans, read_means
from sims.results.folders.runs import (
    CASE_NAME,
    LEVELS,
    REPORT,
    RUN_FILES,
    Fault,
    Run,
    number_of,
)

NegativeLogLikelihood = Annotated[float, Field(ge=-1e-3)]
Tokens = Annotated[list[bool], Field(min_length=1)]
CaseMetrics = Mapping[str, float]


class CaseFileError(InputError):
    """A case file does not hold a case."""


class _Written(BaseModel):
    """What others wrote: unknown fields are theirs, known ones must be right."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, strict=True, allow_inf_nan=False
    )


class Likelihoods(_Written):
    """How unlikely the two objects are after one prompt."""

    target_new: NegativeLogLikelihood
    target_true: NegativeLogLikelihood | None = None


class Post(_Written):
    """Metrics of the edited model; a list that was not written is empty."""

    rewrite_prompts_probs: list[Likelihoods] = []
    rewrite_prompts_correct: list[bool] = []
    paraphrase_prompts_probs: list[Likelihoods] = []
    paraphrase_prompts_correct: list[bool] = []
    paraphrase_prompts_same_direction: list[bool] = []
    neighborhood_prompts_probs: list[Likelihoods] = []
    neighborhood_prompts_correct: list[bool] = []
    attribute_prompts_probs: list[Likelihoods] = []
    attribute_prompts_correct: list[bool] = []
    rewrite_prompts_token_correct: list[Tokens] = []
    paraphrase_prompts_token_correct: list[Tokens] = []
    neighborhood_prompts_token_correct: list[Tokens] = []
    locality_questions_correct: list[Tokens] = []
    locality_questions_unchanged: list[Tokens] = []
    portability_questions_correct: list[Tokens] = []
    wikibigedit_update_questions_correct: list[Tokens] = []
    wikibigedit_rephrase_questions_correct: list[Tokens] = []
    wikibigedit_persona_questions_correct: list[Tokens] = []
    wikibigedit_multi_hop_questions_correct: list[Tokens] = []
    wikibigedit_locality_questions_correct: list[Tokens] = []
    mquake_edit_questions_acc: list[bool] = []
    mquake_instance_questions_acc: list[bool] = []
    mquake_multi_hop_questions_acc: list[bool] = []
    qaedit_locality_questions_unchanged: list[bool] = []
    rewrite_prompts_generated_exact: list[bool] = []
    rewrite_prompts_generated_contains: list[bool] = []
    paraphrase_prompts_generated_exact: list[bool] = []
    paraphrase_prompts_generated_contains: list[bool] = []
    objects_agree: bool = False
    ngram_entropy: float | None = None
    reference_score: float | None = None
    essence_score: float | None = None

    @model_validator(mode="after")
    def check_objects(self) -> "Post":
        """Validate that a list has one form.

        Raises:
            ValueError: If some of its prompts have a true object and others none.
        """
        for name in type(self).model_fields:
            if not name.endswith("_probs"):
                continue
            if len({each.target_true is None for each in getattr(self, name)}) > 1:
                raise ValueError(f"some entries of `{name}` have no `target_true`")
        return self


@dataclass(frozen=True, slots=True)
class MeasuredCase:
    """What was measured of one request.

    Attributes:
        metrics: By name, scaled as `MetricSums.means` does.
        definitions: The ids of their definitions.
    """

    metrics: CaseMetrics
    definitions: Mapping[str, str]


class Case(_Written):
    """One request, and the model's metrics of it.

    Attributes:
        case_id: Its number.
        post: Its metrics.
        definitions: The ids that its writer gave to figures; others, and those of
            earlier versions, are as `editing.evaluation.definitions.define` says.
    """

    case_id: int
    post: Post
    definitions: dict[str, str] = {}

    def measure(self) -> MeasuredCase:
        """Reduce the case to its metrics."""
        post = self.post.model_dump(exclude_none=True)
        metrics = sum_cases([{"case_id": self.case_id, "post": post}]).means()
        metrics.pop("score", None)
        known = define_all(metrics) | self._define_questions() | self.definitions
        return MeasuredCase(metrics, {n: known[n] for n in metrics if n in known})

    def _define_questions(self) -> dict[str, str]:
        """Define accuracies of MEMIT's zsRE, which are by token and have no objects."""
        return {
            f"{kind}_acc": define(f"{kind}_token_acc")
            for kind in KINDS
            if not getattr(self.post, f"{kind}_prompts_probs")
        }


@dataclass(frozen=True, slots=True)
class RunCases:
    """The contents of a run's case files.

    Attributes:
        parts: The metrics of the cases by the part of the run they belong to: a merge
            of a comparison, a level of CollabEdit, or ``""``.
        faults: The files that are no case.
        definitions: The ids of these metrics' definitions, in the same places.
        evaluated: Of a part that a report gave as a whole, how many cases it is over.
    """

    parts: Mapping[str, Sequence[CaseMetrics]]
    faults: tuple[Fault, ...]
    definitions: Mapping[str, Sequence[Mapping[str, str]]]
    evaluated: Mapping[str, int] = field(default_factory=dict)


def read_run(run: Run, first: int | None = None) -> RunCases:
    """Read the cases of a run, in each folder those with the `first` lowest numbers."""
    parts: dict[str, list[MeasuredCase]] = {}
    faults = [
        Fault(path, "no case file by its name")
        for path in run.files
        if path.name not in RUN_FILES and not CASE_NAME.fullmatch(path.name)
    ]
    seen: dict[tuple[str, int], str] = {}
    for path in _first_files(run, first):
        try:
            measured = measure_file(path)
            for level in measured:
                _note_case(path, level, seen)
        except CaseFileError as error:
            faults.append(Fault(path, str(error)))
            continue
        place = path.parent.relative_to(run.path)
        for level, case in measured.items():
            part = (place / level).as_posix()
            parts.setdefault("" if part == "." else part, []).append(case)
    if not any(CASE_NAME.fullmatch(path.name) for path in run.files):
        return read_reported(run, faults, first)
    return RunCases(
        {part: [case.metrics for case in each] for part, each in parts.items()},
        tuple(faults),
        {part: [case.definitions for case in each] for part, each in parts.items()},
    )


def read_reported(run: Run, faults: Sequence[Fault], first: int | None) -> RunCases:
    """Read the means in the reports of a run without case files, as of real nodes."""
    parts: dict[str, ReportedMeans] = {}
    found = list(faults)
    reports = [path for path in run.files if path.name == REPORT]
    if first is not None:
        reports, reason = [], "holds no case files, of which --first takes some"
        found.append(Fault(run.path, reason))
    elif not reports:
        found.append(Fault(run.path, "holds no case files"))
    for path in reports:
        place = path.parent.relative_to(run.path)
        try:
            means = read_means(path)
        except InputError as error:
            found.append(Fault(path, str(error)))
            continue
        for merge, each in means.items():
            part = (place / merge).as_posix()
            parts["" if part == "." else part] = each
    return RunCases(
        {part: [each.metrics] for part, each in parts.items() if each.metrics},
        tuple(found),
        {part: [each.definitions] for part, each in parts.items() if each.metrics},
        {part: each.evaluated for part, each in parts.items() if each.metrics},
    )


def _first_files(run: Run, first: int | None) -> list[Path]:
    """The case files by folder and number, of each folder the first numbers.

    Numbers and not files are counted, and broken files among them, so that runs are
    compared on the same cases.
    """
    folders: dict[Path, dict[int, list[Path]]] = {}
    for path in run.files:
        if CASE_NAME.fullmatch(path.name):
            numbered = folders.setdefault(path.parent, {})
            numbered.setdefault(number_of(path), []).append(path)
    return [
        path
        for numbered in folders.values()
        for number in sorted(numbered)[:first]
        for path in numbered[number]
    ]


def _note_case(path: Path, level: str, seen: dict[tuple[str, int], str]) -> None:
    """Count a case once.

    Raises:
        CaseFileError: If another file of the folder holds it.
    """
    key = (str(path.parent / level), number_of(path))
    before = seen.setdefault(key, path.name)
    if before != path.name:
        raise CaseFileError(f"case {key[1]} was read before, from {before}")


def read_case(path: Path) -> dict[str, CaseMetrics]:
    """Read a case's metrics alone; see `measure_file`."""
    return {level: case.metrics for level, case in measure_file(path).items()}


def measure_file(path: Path) -> dict[str, MeasuredCase]:
    """Measure a case, by level if the file has levels and else under ``""``.

    Raises:
        CaseFileError: If the file is not JSON or a field is missing or wrong.
    """
    try:
        value = parse_json(read_text(path))
    except OSError as error:
        raise CaseFileError(f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CaseFileError(f"not JSON ({explain_text_error(error)})") from None
    if not isinstance(value, dict):
        raise CaseFileError(f"wanted a JSON object, got {type(value).__name__}")
    if not value.keys() & set(LEVELS):
        return {"": _measure(value, number_of(path))}
    filled = {level: value[level] for level in LEVELS if value.get(level)}
    if not filled:
        raise CaseFileError(f"{' and '.join(LEVELS)} are both empty")
    number = number_of(path)
    return {level: _measure(case, number, level) for level, case in filled.items()}


def _measure(value: object, number: int, level: str = "") -> MeasuredCase:
    """Check one case and reduce it to its metrics.

    Raises:
        CaseFileError: If a field is missing or wrong, or there is nothing to measure.
    """
    try:
        case = Case.model_validate(value)
    except ValidationError as error:
        fault = find_faults(error, Case, within=level)[0]
        raise CaseFileError(str(fault)) from None
    if case.case_id != number:
        raise CaseFileError(f"`case_id` is {case.case_id}, and the name says {number}")
    measured = case.measure()
    if not measured.metrics:
        raise CaseFileError("`post` holds no prompt that was evaluated")
    return measured
