"""Seconds a request for its keys and hidden states, at equal results.

    python -m benchmarks.keys [--shape gpt2] [--count N] [--threads N] [--quick]

Three ways to read, layer by layer, the keys of the edited layers and the hidden states
at the last of them. *Published* is what MEMIT's program does: whole prompts in every
context, padded in the order given, through the whole model. *Whole prompts* are put
into batches of like length, and no block is run after the last one read, as this
project did before. *Ours* is `editing.models.activations`. The model is the embedded
one, or of a published shape with random weights.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.shapes import SHAPES, Case, make_case
from benchmarks.targets import EMBEDDED
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig
from editing.memit.context_templates import choose_templates
from editing.memit.keys import contexts_of, extract_keys
from editing.memit.residuals import read_hidden
from editing.models.activations import BlockInputs, Relay
from editing.models.loading import EditableModel
from editing.models.token_rows import (
    BARE,
    TokenRow,
    order_by_length,
    pad_rows,
    tokenize_prompt,
)
from editing.requests.edit_request import read_requests, sample_requests

PUBLISHED_BATCH = 128
"""Prompts of a batch in MEMIT's program."""

REPEATS = 3

Readings = list[Tensor]
"""Keys of each edited layer, in order, and hidden states at the last."""


@dataclass(frozen=True)
class Timed:
    """What was read, and the seconds of all threads that it took, at best."""

    found: Readings
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the three ways in turn, compare what they read, and write a table."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    case = load_embedded(options.count) if options.shape is None else make_case(options)
    ways: dict[str, Callable[[Case], Readings]] = {
        "published": read_published,
        "whole prompts": read_whole,
        "ours": read_ours,
    }
    timed = _race(case, ways, 1 if options.quick else REPEATS)
    sys.stdout.write(_report(options, case, timed))
    return 0


def load_embedded(count: int) -> Case:
    """Load the embedded model, its context templates and some of its requests."""
    chosen = choose_hyperparameters(EditingConfig(), str(EMBEDDED))
    model = chosen.load(str(EMBEDDED), "float32", "cpu")
    pool = read_requests(EMBEDDED / "requests.json")
    return Case(
        model,
        sample_requests(pool, count, seed=0),
        choose_templates(model, EditingConfig(), EMBEDDED),
        chosen.fit(model),
    )


def read_published(case: Case) -> Readings:
    """Run every prompt whole, to the scores, once for each layer's keys."""
    rows, bare = _rows_of(case), _rows_of(case)[: len(case.requests)]
    layers, model = case.parameters.layers, case.model
    found, hidden = [], torch.empty(0)
    for layer in layers:
        keys = _batches(model, rows, model.down_projection(layer), PUBLISHED_BATCH)
        found.append(_average(keys, len(bare)))
        block = model.block(layers[-1])
        hidden = _batches(model, bare, block, PUBLISHED_BATCH, output=True)
    return [*found, hidden]


def read_whole(case: Case) -> Readings:
    """Run whole prompts, sorted by length, up to the block that is read."""
    rows, bare = _rows_of(case), _rows_of(case)[: len(case.requests)]
    layers, model = case.parameters.layers, case.model
    found, hidden = [], torch.empty(0)
    for layer in layers:
        keys = _sorted(model, rows, model.down_projection(layer), model.block(layer))
        found.append(_average(keys, len(bare)))
        block = model.block(layers[-1])
        hidden = _sorted(model, bare, block, block, output=True)
    return [*found, hidden]


def read_ours(case: Case) -> Readings:
    """Read as a party does, which begins where the layer before left off."""
    layers, model = case.parameters.layers, case.model
    found, hidden, kept = [], torch.empty(0), None
    for layer in layers:
        last = layer == layers[-1] or layer == 0
        relay = Relay(start=kept, kept=None if last else BlockInputs(layer))
        read = extract_keys(model, case.requests, case.templates, [layer], relay)
        found.append(read[layer])
        hidden = read_hidden(model, case.requests, layers[-1], relay)
        kept = relay.kept
    return [*found, hidden]


def _rows_of(case: Case) -> list[TokenRow]:
    """Each request's prompt, bare and then in every context."""
    return [
        tokenize_prompt(case.model.tokenizer, template, each.prompt, each.subject)
        for template in (BARE, *contexts_of(case.templates))
        for each in case.requests
    ]


def _average(keys: Tensor, count: int) -> Tensor:
    bare, *others = keys.view(-1, count, keys.shape[-1])
    mean: Tensor = (bare + torch.stack(others).mean(dim=0)) / 2
    return mean


def _sorted(
    model: EditableModel,
    rows: list[TokenRow],
    module: nn.Module,
    last: nn.Module,
    *,
    output: bool = False,
) -> Tensor:
    order = order_by_length(rows)
    found = _batches(
        model, [rows[place] for place in order], module, 256, last, output=output
    )
    return found[torch.argsort(torch.tensor(order))]


@torch.no_grad()
def _batches(
    model: EditableModel,
    rows: list[TokenRow],
    module: nn.Module,
    size: int,
    last: nn.Module | None = None,
    *,
    output: bool = False,
) -> Tensor:
    """Read a module's input or output at subjects; stop after `last`, if any."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], given: Any) -> None:  # noqa: ANN401
        state = given if isinstance(given, Tensor) else given[0]
        seen.append(state if output else args[0])

    def stop(*_: object) -> None:
        raise StopIteration

    found = []
    with ExitStack() as hooks:
        hooks.callback(module.register_forward_hook(keep).remove)
        if last is not None:
            hooks.callback(last.register_forward_hook(stop).remove)
        for start in range(0, len(rows), size):
            batch = pad_rows(rows[start : start + size], model.device)
            masked = {"attention_mask": batch.attention_mask}
            with suppress(StopIteration):
                model.model(input_ids=batch.input_ids, use_cache=False, **masked)
            states = seen.pop().view(*batch.input_ids.shape, -1)
            found.append(states[torch.arange(len(states)), batch.subjects])
    return torch.cat(found)


def _race(
    case: Case, ways: dict[str, Callable[[Case], Readings]], repeats: int
) -> dict[str, Timed]:
    """Run all ways in turn, so that a busy machine slows all alike."""
    best: dict[str, Timed] = {}
    for _ in range(repeats):
        for name, read in ways.items():
            start = time.process_time()
            found = read(case)
            seconds = time.process_time() - start
            if name not in best or seconds < best[name].cpu:
                best[name] = Timed(found, seconds)
    return best


def _report(options: argparse.Namespace, case: Case, timed: dict[str, Timed]) -> str:
    count, layers = len(case.requests), len(case.parameters.layers)
    first, ours = timed["published"], timed["ours"]
    rows_of = _rows_of(case)
    whole = sum(len(row.ids) for row in rows_of) / count
    beginnings = {
        row.ids[: size + 1] for row in rows_of for size in range(row.subject + 1)
    }
    rows = "".join(
        f"| {name} | {1000 * each.cpu / count:.2f} | {first.cpu / each.cpu:.1f} |\n"
        for name, each in timed.items()
    )
    gaps = [
        float((mine - theirs).norm() / theirs.norm())
        for mine, theirs in zip(ours.found, first.found, strict=True)
    ]
    return (
        f"{options.shape or 'embedded'}: {count} requests in {len(case.templates)} "
        f"contexts, {layers} layers one by one, {options.threads} threads, float32\n\n"
        "| keys and hidden states | ms of CPU a request | ratio |\n|---|--:|--:|\n"
        f"{rows}\nlargest relative difference: {max(gaps):.1e}; tokens a request: "
        f"{whole:.1f} whole, {len(beginnings) / count:.1f} distinct up to the subject\n"
    )


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keys")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="else the embedded one")
    parser.add_argument("--count", type=int, help="requests; 100, or 16 of a shape")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch")
    parser.add_argument("--quick", action="store_true", help="few requests, once")
    options = parser.parse_args(arguments)
    usual = 4 if options.quick else 16 if options.shape else 100
    options.count = options.count or usual
    options.device, options.dtype, options.seed = "cpu", "float32", 0
    return options


if __name__ == "__main__":
    raise SystemExit(main())
