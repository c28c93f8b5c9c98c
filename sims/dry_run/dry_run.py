"""A dry run: everything that a run needs is looked for, and the rest is estimated.

Configurations, tokenizer, requests and the beginning of texts are read. No weights are
loaded, nothing is started and nothing is written.
"""

from collections.abc import Callable, Sequence
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from editing.base.errors import InputError
from editing.sources.embedded import resolve_model
from server.config import RunConfig
from sims.dry_run.findings import FAULTS, Finding, look
from sims.dry_run.inputs import (
    find_prior,
    fit_requests,
    read_hyperparameters,
    read_merges,
    read_requests,
)
from sims.dry_run.machine import (
    check_device,
    check_disk,
    check_memory,
    estimate_run,
)
from sims.dry_run.model import find_configuration, find_weights, read_tokenizer
from sims.sizes.estimate import Estimate
from sims.sizes.shapes import ModelShape, read_shape
from sims.sizes.tables import to_table


def dry_run(config: RunConfig, console: Console) -> list[str]:
    """Look for all that a run needs, and print what was found and what it will take.

    Returns:
        What is missing.
    """
    findings, estimate = find_needs(config)
    console.print(lay_out(findings))
    if estimate is not None:
        console.print(to_table([estimate]))
    return [each.part for each in findings if not each.ready]


def dry_runs(
    configs: Sequence[RunConfig], names: Sequence[str], console: Console
) -> None:
    """Look for all that each of several runs needs.

    Args:
        configs: The runs.
        names: What distinguishes each.
        console: Where to print.

    Raises:
        InputError: If something is missing, after all of it was printed.
    """
    missing = dict[str, None]()
    for name, config in zip(names, configs, strict=True):
        if name:
            console.print(name, markup=False, highlight=False)
        missing |= dict.fromkeys(dry_run(config, console))
    if missing:
        raise InputError(f"the run cannot start yet, it lacks: {', '.join(missing)}")
    console.print("Everything is there. Call the command without --dry-run to start.")


def lay_out(findings: Sequence[Finding]) -> Table:
    """Lay out what was found for a terminal; details fold, whoever wrote them."""
    table = Table(box=SIMPLE_HEAD)
    for head in ("needed", "there", "what"):
        table.add_column(head, overflow="fold", no_wrap=head != "what")
    for each in findings:
        state = "yes" if each.ready else "no"
        style = None if each.ready else "bold"
        table.add_row(each.part, state, Text(each.detail), style=style)
    return table


def find_needs(config: RunConfig) -> tuple[list[Finding], Estimate | None]:
    """Look for each thing that a run needs; no fault keeps the next from being found.

    Returns:
        What was found, and the run's sizes if the model's shape is known.
    """
    path = resolve_model(config.model.path)
    shape = find_shape(config, path)
    checks: dict[str, Callable[[], str]] = {
        "merges": partial(read_merges, config),
        "configuration": partial(find_configuration, path),
        "tokenizer": partial(read_tokenizer, path),
        "weights": partial(find_weights, path, shape),
        "hyperparameters": partial(read_hyperparameters, config, path),
        "requests": partial(read_requests, config),
        "context": partial(fit_requests, config, path),
        "covariance": partial(find_prior, config, path),
        "device": partial(check_device, config),
    }
    estimate = None
    if shape is not None:
        estimate = estimate_run(config, shape)
        checks["memory"] = partial(check_memory, config, estimate)
        checks["disk"] = partial(check_disk, estimate)
    return [look(part, check) for part, check in checks.items()], estimate


def find_shape(config: RunConfig, path: str) -> ModelShape | None:
    """Read the model's shape, by its configuration or its published name."""
    try:
        return read_shape(path, config.editing.layers)
    except FAULTS:
        return None
