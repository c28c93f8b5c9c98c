"""What the embedded model reaches: ten parties, ten requests each, draws 0, 1 and 2.

``python -m benchmarks.embedded`` runs the comparison of all merges once for each draw,
in this process, and prints a table of means as Markdown.
"""

import logging
import sys
import tempfile
from pathlib import Path
from statistics import fmean

from server.config import read_scenario
from server.report.data import Report, read_report
from sims.runs.in_process import run_in_process
from strategies.scenario import flatten

SCENARIO = Path("sims/scenarios/default.toml")
DRAWS = (0, 1, 2)
COLUMNS = (
    "score",
    "rewrite_success",
    "paraphrase_success",
    "neighborhood_success",
    "rewrite_acc",
    "held_out_acc",
)
GROUPS = ("paraphrase_success.same_direction", "paraphrase_success.other_direction")


def run_draw(seed: int, folder: Path) -> Report:
    """Compare all merges on the requests of one draw."""
    output = folder / f"draw_{seed}"
    settings = [f"requests.seed={seed}", "run.compare=true"]
    config = read_scenario(SCENARIO, [*settings, f'output.directory="{output}"'])
    run_in_process(flatten(config), config.parties.count, folder / f"private_{seed}")
    return read_report(output / "report.json")


def rows(reports: list[Report]) -> list[list[str]]:
    """One row a merge: the mean over draws of each column."""
    table = []
    for index, run in enumerate(reports[0].runs):
        last = [report.runs[index].metrics[-1] for report in reports]
        means = [fmean(getattr(each, name) for each in last) for name in COLUMNS]
        means += [fmean(each.groups[name] for each in last) for name in GROUPS]
        gaps = [report.runs[index].relative_difference_to_global for report in reports]
        gap = max(each for each in gaps if each is not None)
        table.append([run.merge, *(f"{mean:.1f}" for mean in means), f"{gap:.1e}"])
    return table


def main() -> None:
    """Run all draws and print the table."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        reports = [run_draw(seed, Path(scratch)) for seed in DRAWS]
    heads = ["merge", *COLUMNS, *GROUPS, "largest difference to global"]
    lines = [heads, ["---"] * len(heads), *rows(reports)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
