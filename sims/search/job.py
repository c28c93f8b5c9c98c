"""The search from the command line: model and requests in, a folder out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig
from editing.memit.context_templates import choose_templates
from editing.requests.edit_request import EditRequest, read_requests
from editing.sources.embedded import resolve_model, resolve_source
from sims.console import hush_libraries, open_console
from sims.search.bench import SEARCH, Bench, split_requests, text_for
from sims.search.candidates import read_layers, split_budget
from sims.search.results import describe, write_search
from sims.search.search import Outcome, Search


@dataclass(frozen=True, slots=True)
class SearchOrder:
    """What a search is run with.

    Attributes:
        model: A model's folder, a hub name or ``embedded``.
        requests: Any source of requests; ``embedded`` takes the model's own.
        text: Text of the covariances; None takes the model's own text, or ``self``.
        tokens: Tokens that a covariance reads; None as in a run.
        count: Requests of each part.
        trials: Trials in all.
        layers: Layers that may be edited, as `read_layers` reads them.
        seed: Draws the parts and the context templates.
        dtype: The model's precision.
        device: Where it computes.
        command: The command that the record names.
    """

    model: str
    requests: str
    text: str | None = None
    tokens: int | None = None
    count: int = 50
    trials: int = 24
    layers: str | None = None
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    command: str = ""


def run_search(order: SearchOrder, output: Path) -> Outcome:
    """Search, print a line a trial, and write the folder; gives the outcome.

    A mistake in the order is an `InputError`, most of them before the model is loaded.
    """
    path = resolve_model(order.model)
    budget = split_budget(order.trials)
    source = resolve_source(order.requests, path, "requests.json", "--requests")
    parts = split_requests(read_requests(source), order.count, order.seed)
    # All searched models vary the layers, so those given here are never edited as such.
    choice = choose_hyperparameters(EditingConfig(layers=(0,)), path)
    console = open_console(stderr=True)

    def show(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    show(f"Loading {order.model} …")
    hush_libraries()
    model = choice.load(path, order.dtype, order.device)
    usable = read_layers(order.layers, model.block_count)
    sampling = EditingConfig(context_seed=order.seed)
    templates = choose_templates(model, sampling, Path(path))
    text = text_for(path, order.text)
    bench = Bench(model, parts, templates, text, path, order.tokens)
    show(f"Searching with {len(parts[SEARCH])} requests; covariances from {text}")
    outcome = Search(
        bench,
        choice.fit(model),
        usable,
        budget,
        lambda number, trial: show(f"{number:2}/{budget.total}  {describe(trial)}"),
    ).run()
    write_search(output.absolute(), outcome, order.command, settings_of(order, parts))
    return outcome


def settings_of(
    order: SearchOrder, parts: Mapping[str, Sequence[EditRequest]]
) -> dict[str, object]:
    """Record what a search was run with, the requests of each part by case id."""
    return {
        **{name: value for name, value in asdict(order).items() if name != "command"},
        "parts": {
            part: [each.case_id for each in listed] for part, listed in parts.items()
        },
    }
