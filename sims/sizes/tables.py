"""Estimates, laid out for terminals, pages and programs."""

import json
from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from sims.sizes.computing import count_target_operations
from sims.sizes.estimate import Estimate

Value = Callable[[Estimate], float]

SIZES: Sequence[tuple[str, Value]] = (
    ("up: largest reply of a node", lambda e: e.largest_up),
    ("down: largest message to a node", lambda e: e.largest_down),
    ("up: a node in a round", lambda e: e.round_up),
    ("down: a node in a round", lambda e: e.round_down),
    ("server's connection in a round", lambda e: e.round_traffic),
    ("memory: server, merges of the sum", lambda e: e.server_memory),
    ("memory: server, merges of each party", lambda e: e.server_memory_each),
    ("memory: server, karcher", lambda e: e.server_memory_karcher),
    ("memory: server, regmean", lambda e: e.server_memory_regmean),
    ("memory: SuperLink, while replies wait", lambda e: e.link_memory),
    ("memory: node, activations left out", lambda e: e.node_memory),
    ("disk: weights", lambda e: e.weights),
    ("disk: covariance", lambda e: e.covariance_file),
    ("disk: a checkpoint", lambda e: e.checkpoint),
    ("disk: the result", lambda e: e.delta_file),
    ("disk: server in all", lambda e: e.server_disk),
    ("disk: node in all", lambda e: e.node_disk),
)
"""Figures in bytes."""

OPERATIONS = "computing: a node's targets, 10¹² operations at most"
SECONDS = "time of a round, computing left out"


def rows_of(estimates: Sequence[Estimate]) -> list[list[str]]:
    """Return one row a figure: its name, then one column an estimate."""
    rows = [
        ["exchanges of a round, evaluation included"]
        + [f"{each.messages:.3g}" for each in estimates]
    ]
    for name, value in SIZES:
        rows.append([name, *(write_size(value(each)) for each in estimates)])
    operations = map(count_operations, estimates)
    rows.append([OPERATIONS, *(f"{each / 1e12:.3g}" for each in operations)])
    rows.append([SECONDS, *(write_seconds(each.round_seconds) for each in estimates)])
    return rows


def count_operations(estimate: Estimate) -> float:
    """Count the operations of a node's targets."""
    return count_target_operations(estimate.shape, estimate.order.requests)


def heads_of(estimates: Sequence[Estimate]) -> list[str]:
    """Name the columns by their parties."""
    return ["", *(f"{each.order.parties} parties" for each in estimates)]


def caption(estimate: Estimate) -> str:
    """Describe what all columns have in common."""
    shape, order = estimate.shape, estimate.order
    layers = ", ".join(map(str, shape.layers))
    return (
        f"{shape.name}: {shape.parameters / 1e9:.2f} billion parameters in "
        f"{order.dtype}; layers {layers}, each {shape.d_out} × {shape.d_in}; "
        f"{order.requests} requests a party and round, {order.editor}, "
        f"{order.schedule}, {order.encoding}; {order.bandwidth:g} Mbit/s at the server"
    )


def to_table(estimates: Sequence[Estimate]) -> Table:
    """Lay out for a terminal."""
    table = Table(title=caption(estimates[0]), title_justify="left", box=SIMPLE_HEAD)
    first, *others = heads_of(estimates)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right")
    for row in rows_of(estimates):
        table.add_row(*row)
    return table


def to_markdown(estimates: Sequence[Estimate]) -> str:
    """Lay out for a page."""
    heads = heads_of(estimates)
    rule = ["---", *("---:" for _ in estimates)]
    lines = [heads, rule, *rows_of(estimates)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{caption(estimates[0])}.\n\n{table}\n"


def to_json(estimates: Sequence[Estimate]) -> str:
    """Write bytes and seconds as numbers."""
    return json.dumps(
        [
            {
                "model": each.shape.name,
                "parameters": each.shape.parameters,
                "layers": list(each.shape.layers),
                "d_out": each.shape.d_out,
                "d_in": each.shape.d_in,
                **each.order.model_dump(),
                "messages": each.messages,
                "bytes": {name: round(value(each)) for name, value in SIZES},
                "operations": count_operations(each),
                "seconds": each.round_seconds,
            }
            for each in estimates
        ],
        indent=2,
    )


def write_size(size: float) -> str:
    """Write bytes in decimal units, three figures."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            value = size / factor
            decimals = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{size:.0f} B"


def write_seconds(seconds: float) -> str:
    """Write a time in a unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
