"""Scores of every editor on the embedded model, next to MEMIT's.

Ten parties edit together with the merge `collabedit`: ten requests each in one round,
and two each in eight rounds. Scores are of all requests so far after the last round,
mean over the seeds, which draw the requests. An editor's settings are those of the
scenario of its name, chosen by hand after a few runs with seed 0, for this model alone.
Run it with

    python -m benchmarks.editors [--seeds 0 1 2] [--editors NAME ...]

With --costs it prints what each editor sends at the width of GPT-J instead, and how
many lines of code editors and options have: no docstring, comment or blank line counts.
"""

import argparse
import ast
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from editing.editors.choice import EDITORS
from server.config import read_scenario
from server.report.data import RoundMetrics, read_report
from sims.runs.in_process import run_in_process
from sims.sizes.estimate import Estimate, EstimateOrder
from sims.sizes.shapes import read_shape
from sims.sizes.tables import write_size
from strategies.scenario import FlatValue, flatten

SCENARIOS = Path("sims/scenarios")
SHAPES: Mapping[str, Mapping[str, FlatValue]] = {
    "1 round of 100": {"run.rounds": 1, "parties.requests-per-round": 10},
    "8 rounds of 20": {"run.rounds": 8, "parties.requests-per-round": 2},
}
OPTIONS: Mapping[str, Sequence[str]] = {
    "`norm-anchor`": ["editing/memit/norm_anchor.py"],
    '`target-of = "streams"`': ["editing/memit/search/streams.py"],
    "`sphere`, `rect`, `prune`": ["editing/post_steps/steps.py"],
    "`dare`, `della`": ["strategies/merges/dropping.py"],
    "`breadcrumbs`": ["strategies/merges/breadcrumbs.py"],
    "`sce`": ["strategies/merges/sce.py"],
    "`model-stock`, `karcher`": ["strategies/merges/geometric.py"],
    "`regmean`": ["strategies/merges/regmean.py"],
    "what all editors share": [
        "editing/editors/base.py",
        "editing/editors/system.py",
        "editing/editors/choice.py",
    ],
    "reading at the answers": [
        f"editing/answers/{name}.py"
        for name in ("gradients", "moments", "pairs", "pipeline", "rule", "texts")
    ],
}
"""Where the code of options is, and of what editors have in common."""

FIELDS = ("score", "rewrite_success", "paraphrase_success", "neighborhood_success")


def scenario_of(name: str) -> Path:
    """Return the scenario with an editor's settings for the embedded model."""
    own = SCENARIOS / f"{name}.toml"
    return own if own.is_file() else SCENARIOS / "default.toml"


def run_once(name: str, shape: Mapping[str, FlatValue], seed: int) -> RoundMetrics:
    """Run one editor, and read the metrics of all requests after the last round."""
    with tempfile.TemporaryDirectory() as scratch:
        flat = {
            **flatten(read_scenario(scenario_of(name))),
            "requests.seed": seed,
            "output.directory": str(Path(scratch) / "run"),
            **shape,
        }
        run_in_process(flat, 10, Path(scratch) / "private")
        report = read_report(Path(scratch) / "run" / "report.json")
    return report.runs[0].metrics[-1]


def describe(found: Sequence[RoundMetrics]) -> str:
    """Write means over the seeds, the score's standard deviation next to it."""
    cells = []
    for field in FIELDS:
        values = [float(getattr(each, field) or 0.0) for each in found]
        cell = f"{statistics.mean(values):.1f}"
        if field == "score" and len(values) > 1:
            cell += f" ± {statistics.stdev(values):.1f}"
        cells.append(cell)
    return " | ".join(cells)


def count_code(path: Path) -> int:
    """Count the lines of a file that hold code: no docstring, comment or blank line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = path.read_text(encoding="utf-8").splitlines()
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in texts
        for number, line in enumerate(lines, start=1)
    )


def print_costs(names: Sequence[str]) -> None:
    """Print what a party and the server exchange, keep, and what the code takes."""
    shape, write = read_shape("gpt-j-6b"), sys.stdout.write
    write("| editor | exchanges | up | down | kept at the server | lines |" + "\n")
    write("|---|--:|--:|--:|--:|--:|" + "\n")
    for name in names:
        found = Estimate(shape, EstimateOrder(requests=10, editor=name))
        own = Path("editing/editors") / f"{name}.py"
        kept = found.layer_count * found.own.kept + found.own.moments
        cells = [
            f"`{name}`",
            str(found.exchanges + found.own.pools),
            write_size(found.layer_count * found.statistics + found.own.moments),
            write_size(found.layer_count * found.update + found.own.moments),
            write_size(kept) if kept else "–",
            str(count_code(own)),
        ]
        write(f"| {' | '.join(cells)} |" + "\n")
    write("\n| option | lines |\n|---|--:|\n")
    for name, files in OPTIONS.items():
        write(f"| {name} | {sum(count_code(Path(each)) for each in files)} |" + "\n")


def main() -> None:
    """Print one row an editor and shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--editors", nargs="+", default=list(EDITORS))
    parser.add_argument("--costs", action="store_true")
    given = parser.parse_args()
    if given.costs:
        print_costs(given.editors)
        return
    sys.stdout.write(
        "| editor | requests | score | ES | PS | NS |\n|---|---|--:|--:|--:|--:|" + "\n"
    )
    for name in given.editors:
        for shape, settings in SHAPES.items():
            found = [run_once(name, settings, seed) for seed in given.seeds]
            sys.stdout.write(f"| `{name}` | {shape} | {describe(found)} |" + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
