"""Scores of every editor on the embedded model, next to MEMIT's.

Ten parties edit together with the merge `collabedit`: ten requests each in one round,
and two each in eight rounds. Scores are of all requests so far after the last round,
mean over the seeds, which draw the requests. Settings of editors are those of
`SETTINGS`: chosen by hand after a few runs with seed 0, for this model alone. Run it
with

    python -m benchmarks.editors [--seeds 0 1 2] [--editors NAME ...]
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from editing.editors.choice import EDITORS
from server.config import read_scenario
from server.report.data import RoundMetrics, read_report
from sims.runs.in_process import run_in_process
from strategies.scenario import FlatValue, flatten

SCENARIO = Path("sims/scenarios/default.toml")
SETTINGS: Mapping[str, Mapping[str, float]] = {
    "alphaedit": {"threshold": 3e-3, "ridge": 0.3},
    "betaedit": {
        "threshold": 0.1,
        "text_weight": 300.0,
        "ridge": 0.1,
        "renew_after": 50,
    },
    "lyaplock": {"budget": 5.0},
    "emmet": {"slack": 0.3},
    "ultraedit": {"learning_rate": 4e-4},
    "stableedit": {"learning_rate": 3e-3},
}
SHAPES: Mapping[str, Mapping[str, FlatValue]] = {
    "1 round of 100": {"run.rounds": 1, "parties.requests-per-round": 10},
    "8 rounds of 20": {"run.rounds": 8, "parties.requests-per-round": 2},
}
FIELDS = ("score", "rewrite_success", "paraphrase_success", "neighborhood_success")


def run_once(name: str, shape: Mapping[str, FlatValue], seed: int) -> RoundMetrics:
    """Run one editor, and read the metrics of all requests after the last round."""
    with tempfile.TemporaryDirectory() as scratch:
        flat = {
            **flatten(read_scenario(SCENARIO)),
            "editor.name": name,
            "editor.settings": json.dumps(SETTINGS.get(name, {})),
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


def main() -> None:
    """Print one row an editor and shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--editors", nargs="+", default=list(EDITORS))
    given = parser.parse_args()
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
