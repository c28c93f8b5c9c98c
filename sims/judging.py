"""Judge a model, edited or not, by the prompts of edit requests."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from editing.architectures import EditableModel
from editing.deltas import Delta, applied, load_delta
from editing.embedded import resolve_model, resolve_source
from editing.errors import InputError
from editing.evaluation import evaluate_requests, sum_cases
from editing.hyperparameter_choice import load_named
from editing.request_forms import ZsreTarget
from editing.requests import read_requests
from server.report import write_whole
from server.report_tables import headings, write_number
from sims.console import ProgressEvent, hush_libraries, open_console, showing


def judge_delta(
    model_path: str,
    requests: Path,
    output: Path,
    delta: Path | None = None,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    hyperparameters: str | None = None,
    zsre_target: ZsreTarget = "answers",
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

    Raises:
        InputError: If the output exists, or an input cannot be read or does not fit.
    """
    if output.exists():
        raise InputError(f"{output} exists and is never overwritten; name another file")
    place = resolve_model(model_path)
    source = resolve_source(str(requests), place, "requests.json", "--requests")
    asked = read_requests(source, zsre_target=zsre_target)
    hush_libraries()
    model = load_named(place, dtype, device, hyperparameters)
    with showing(open_console(stderr=True)) as show, edited(model, delta):
        cases = evaluate_requests(
            model,
            asked,
            on_batch=lambda done: show(ProgressEvent(phase="evaluation", done=done)),
        )
    metrics = sum_cases(cases).means()
    result = {
        "model": model_path,
        "delta": None if delta is None else str(delta),
        "requests": str(source),
        "metrics": metrics,
        "cases": cases,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, json.dumps(result, indent=2) + "\n")
    show_metrics(metrics, output)


@contextmanager
def edited(model: EditableModel, path: Path | None) -> Iterator[None]:
    """Add a delta file's updates to a model within the block.

    Raises:
        InputError: If the file cannot be read or was made for another model.
    """
    if path is None:
        yield
        return
    try:
        delta, metadata = load_delta(path)
    except ValueError as error:
        raise InputError(str(error)) from None
    check_base(metadata.get("base"), model, path)
    check_fit(delta, model, path)
    with applied(delta, model.model):
        yield


def check_base(base: object, model: EditableModel, path: Path) -> None:
    """Hold the model to the one that a delta was made for, if the file tells.

    Raises:
        InputError: If it is another one.
    """
    if base is not None and base != model.fingerprint:
        raise InputError(
            f"{path} was made for a model with weights {str(base)[:12]}…, and this "
            f"has {model.fingerprint[:12]}…; give that run's model, and its --dtype"
        )


def check_fit(delta: Delta, model: EditableModel, path: Path) -> None:
    """Hold a delta's names and widths to a model's edited weights.

    Raises:
        InputError: If a name is unknown or a width differs.
    """
    layers = range(model.block_count)
    widths = {model.weight_name(layer): model.widths(layer) for layer in layers}
    for name, update in delta.items():
        if widths.get(name) != tuple(update.shape):
            raise InputError(
                f"{path}: `{name}` is {tuple(update.shape)}, and the model's is "
                f"{widths.get(name, 'not there')}; was the delta made for this model?"
            )


def show_metrics(metrics: Mapping[str, float], output: Path) -> None:
    """Print the metrics, and where the cases lie."""
    console = open_console()
    names = list(metrics)
    width = max(map(len, headings(names)), default=0)
    for name, heading in zip(names, headings(names), strict=True):
        console.print(f"{heading:{width}}  {write_number(name, metrics[name]):>7}")
    console.print(f"Cases: {output}", soft_wrap=True, highlight=False)
