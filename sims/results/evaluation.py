"""Evaluate a model, edited or not, on the prompts of edit requests."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from editing.algebra.deltas import applied
from editing.base.errors import InputError
from editing.evaluation.answers import answer_locality, measure_answers
from editing.evaluation.cases import (
    CaseRecord,
    evaluate_requests,
    predict_locality,
    sum_cases,
)
from editing.evaluation.definitions import define_all
from editing.evaluation.generated_texts import add_texts, measure_texts
from editing.files.atomic import write_private
from editing.files.json_text import dump_json
from editing.hyperparameters.choice import load_named
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest, read_requests
from editing.requests.forms.zsre import ZsreTarget
from editing.requests.joining import TargetSpace
from editing.sources.embedded import resolve_model, resolve_source
from server.monitoring.events import PhaseProgress
from server.report.tables import headings, write_number
from sims.console import Show, hush_libraries, open_console, showing
from sims.deltas.files import check_shapes, find_delta, read_update
from sims.results.measures import (
    Measures,
    Sources,
    measure_further,
    note_texts,
    read_sources,
)


def evaluate_with_delta(
    model_path: str,
    requests: Path,
    output: Path,
    delta: Path | None = None,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    hyperparameters: str | None = None,
    zsre_target: ZsreTarget = "answers",
    target_space: TargetSpace = "auto",
    measures: Measures | None = None,
) -> None:
    """Write the metrics and cases of a model, with a delta if one is given, to a file.

    Args:
        model_path: A model's folder, hub name or ``embedded``.
        requests: A source of edit requests, or ``embedded``.
        output: The JSON file to write.
        delta: Updates to add first.
        dtype: The precision of the weights.
        device: Where to compute.
        hyperparameters: A file or preset that names the model's modules, where its
            folder has none and its family is not known.
        zsre_target: Which field of zsRE's records was edited in.
        target_space: Whether a space is put between prompts and targets.
        measures: What is measured besides the requests' prompts.

    Raises:
        InputError: If the output exists, or an input cannot be read or does not fit.
    """
    if output.exists():
        raise InputError(f"{output} exists and is never overwritten; name another file")
    place = resolve_model(model_path)
    source = resolve_source(str(requests), place, "requests.json", "--requests")
    asked = read_requests(source, zsre_target=zsre_target, target_space=target_space)
    wanted = measures or Measures()
    sources = read_sources(wanted, source)
    hush_libraries()
    model = load_named(place, dtype, device, hyperparameters)
    with showing(open_console(stderr=True)) as show:
        before = read_unedited(model, asked, wanted)
        unedited = {} if delta is None else measure_further(model, wanted, sources)
        with edited(model, delta):
            cases = evaluate_cases(model, asked, wanted, sources, before, show)
            further = measure_further(model, wanted, sources)
    metrics = sum_cases(cases).means()
    result = {
        "model": model_path,
        "delta": None if delta is None else str(delta),
        "requests": str(source),
        "metrics": metrics,
        "definitions": define_all(metrics, wanted.evaluation),
        **{name: {"after": further[name]} for name in further if delta is None},
        **{n: {"before": unedited[n], "after": further[n]} for n in unedited},
        "notes": note_texts(wanted, cases),
        "cases": cases,
    }
    write_private(output, dump_json(result, 2) + "\n")  # its cases hold requests
    show_metrics(metrics, output)
    show_further(unedited, further, note_texts(wanted, cases))


@dataclass(frozen=True, slots=True)
class Unedited:
    """What the unedited model says to questions of locality, by request.

    Attributes:
        predicted: As `predict_locality` returns it.
        answered: As `answer_locality` does, if answers are generated.
    """

    predicted: Sequence[Sequence[tuple[int, ...]]]
    answered: Sequence[Sequence[str]] | None = None


def read_unedited(
    model: EditableModel, asked: Sequence[EditRequest], measures: Measures
) -> Unedited:
    """Ask the model before an edit."""
    own = measures.evaluation
    answered = answer_locality(model, asked, own) if measures.answers else None
    return Unedited(predict_locality(model, asked), answered)


def evaluate_cases(
    model: EditableModel,
    asked: Sequence[EditRequest],
    measures: Measures,
    sources: Sources,
    before: Unedited,
    show: Show,
) -> list[CaseRecord]:
    """Evaluate the requests' prompts, and the texts generated for them if asked for."""
    cases = evaluate_requests(
        model,
        asked,
        measures.evaluation,
        before=before.predicted,
        on_batch=lambda done: show(PhaseProgress(phase="evaluation", done=done)),
    )
    if measures.answers:
        found = measure_answers(
            model,
            asked,
            measures.evaluation,
            lambda done: show(PhaseProgress(phase="answers", done=done)),
            before=before.answered,
        )
        cases = add_texts(cases, found)
    if not measures.writes:
        return cases
    total = sum(len(each.generation_prompts) for each in asked)
    texts = measure_texts(
        model,
        asked,
        measures.evaluation,
        measures.seed,
        references=sources.references,
        target_ids=sources.target_ids,
        on_batch=lambda done: show(
            PhaseProgress(phase="generation", done=done, total=total)
        ),
    )
    return add_texts(cases, texts)


@contextmanager
def edited(model: EditableModel, path: Path | None) -> Iterator[None]:
    """Add a delta file's updates, or a run's, to a model within the block.

    Raises:
        InputError: If it was made for another model.
    """
    if path is None:
        yield
        return
    file = find_delta(path)
    base = file.metadata.get("base")
    if base is not None and base != model.fingerprint:
        raise InputError(
            f"{file.path} was made for a model with weights {str(base)[:12]}…, and "
            f"this has {model.fingerprint[:12]}…; give that run's model and --dtype"
        )
    check_shapes(file, model.model)
    with applied({name: read_update(file, name) for name in file.shapes}, model.model):
        yield


def show_metrics(metrics: Mapping[str, float], output: Path) -> None:
    """Print the metrics, and the path of the cases."""
    console = open_console()
    names = list(metrics)
    width = max(map(len, headings(names)), default=0)
    for name, heading in zip(names, headings(names), strict=True):
        console.print(f"{heading:{width}}  {write_number(name, metrics[name]):>7}")
    console.print(f"Cases: {output}", soft_wrap=True, highlight=False)


def show_further(
    unedited: Mapping[str, object], further: Mapping[str, object], notes: Sequence[str]
) -> None:
    """Print what was measured besides requests, before and after if both are known."""
    console = open_console()
    for name, after in _lines_of(further).items():
        before = _lines_of(unedited).get(name)
        value = f"{after:.4g}" if before is None else f"{before:.4g} → {after:.4g}"
        console.print(f"{name}  {value}", markup=False, highlight=False)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _lines_of(further: Mapping[str, object]) -> dict[str, float]:
    """Name every number in one line."""
    lines: dict[str, float] = {}
    for name, value in further.items():
        if isinstance(value, Mapping):
            lines |= {
                f"{task} {metric.removesuffix(',none')}": number
                for task, numbers in value.items()
                for metric, number in numbers.items()
            }
        else:
            lines[name.capitalize()] = float(str(value))
    return lines
