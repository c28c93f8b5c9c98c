"""The first minute of `make demo`: its phases, and what each process costs.

    python -m benchmarks.first_minute [--other TREE] [--cached]

Runs `python -m sims compare` with empty caches, as a new user does, or with the user's
own. Times are from its start: of its own lines, and of the events of the run. CPU
seconds are summed over the processes of one kind; on a machine that is busy with other
things they grow less than times do. Linux alone lists processes (``/proc``). With
another checkout of this project both run in turn, and the deltas of all merges are
compared bit for bit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import torch

from editing.algebra.deltas import load_delta
from server.monitoring.events import (
    EVENTS,
    MergeStarted,
    PhaseProgress,
    RunStarted,
    read_events,
)
from sims.processes.guard import children
from sims.processes.programs import command_line
from sims.processes.superlink import APP

LOOK_SECONDS = 0.1
TICKS = os.sysconf("SC_CLK_TCK")
CLIENTS, CLIENT_NAME = "clients", "client"
"""What simulated clients are called here, and what their processes call themselves."""

PROGRAMS = {
    "sims compare": "command line",
    "guard.py": "guards",
    "warm_simulation": "server and what it is forked from",
    "flower-superlink": "SuperLink",
    "flower-superexec": "SuperLink",
    "flwr-simulation": "server and what it is forked from",
    "flwr run": "flwr run, log, list",
    "flwr log": "flwr run, log, list",
    "flwr list": "flwr run, log, list",
    "ray::Client": CLIENTS,
    "ray/": "the rest of Ray",
    "ray::": "the rest of Ray",
}
"""What a process is called, by a word of its command line: the last that it has had."""


@dataclass
class Demo:
    """What was seen of one run.

    Attributes:
        lines: What it printed, with seconds since its start.
        phases: Seconds since its start at which each phase was over.
        cpu: CPU seconds of each process, by number.
        kinds: What each process is.
    """

    lines: list[tuple[float, str]] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)

    def look(self, root: int) -> None:
        """Take note of a process and of all that it started, as far as they live."""
        found = [root]
        for process in found:  # grows while it is read
            found += children(process)
        for process in found:
            line = command_line(process)
            known = [kind for word, kind in PROGRAMS.items() if word in line]
            if name_of(process) == CLIENT_NAME:
                known = [CLIENTS]
            if known and self.kinds.get(process) != CLIENTS:
                self.kinds[process] = known[0]
            used = max(cpu_seconds(process), self.cpu.get(process, 0.0))
            self.cpu[process] = used

    def by_kind(self) -> dict[str, float]:
        """Sum the CPU seconds of all processes of one kind."""
        found: dict[str, float] = {}
        for process, seconds in self.cpu.items():
            kind = self.kinds.get(process, "others")
            found[kind] = found.get(kind, 0.0) + seconds
        return found


def name_of(process: int) -> str:
    """What a process calls itself; empty if it is gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def cpu_seconds(process: int) -> float:
    """CPU seconds that a process used so far, without those of its children."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def run_demo(tree: Path, folder: Path, *, cached: bool = False) -> Demo:
    """Run the demo of a checkout once, into `folder` / ``run``; with empty caches."""
    environment = {
        "COLLABEDIT_CACHE": str(folder / "targets"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    environment = {**os.environ, **({} if cached else environment)}
    command = [sys.executable, "-m", "sims", "compare", "--output", str(folder / "run")]
    demo, began, start = Demo(), time.monotonic(), time.time()
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            demo.lines.append((time.monotonic() - began, line.rstrip()))

    reader = Thread(target=read)
    reader.start()
    while process.poll() is None:
        demo.look(process.pid)
        time.sleep(LOOK_SECONDS)
    reader.join()
    demo.lines.append((time.monotonic() - began, "exit"))
    if process.returncode:
        raise SystemExit("\n".join(line for _, line in demo.lines))
    demo.phases = {"first line": demo.lines[0][0]}
    demo.phases |= phases_of(folder / "run" / EVENTS, start, demo.lines)
    return demo


def phases_of(
    events: Path, start: float, lines: Sequence[tuple[float, str]]
) -> dict[str, float]:
    """Name the ends of a run's phases, in the order of their first moments."""
    found = {
        "settings checked": at(lines, "Starting Flower"),
        "table shown": at(lines, "Report:"),
        "all processes ended": at(lines, "exit"),
    }
    merges = []
    for event in read_events(events):
        moment = event.time.timestamp() - start
        if isinstance(event, RunStarted):
            found["Flower started, the server runs"] = moment
        elif isinstance(event, MergeStarted):
            found["prior and norms" if not merges else merges[-1]] = moment
            merges.append(event.merge)
        elif isinstance(event, PhaseProgress) and event.is_last:
            name = f"{event.merge}: {event.phase}" if event.merge else event.phase
            found[name if len(merges) == 1 or not event.merge else merges[-1]] = moment
    return dict(sorted(found.items(), key=lambda item: item[1]))


def at(lines: Sequence[tuple[float, str]], word: str) -> float:
    """The moment of the first line that has a word."""
    return next(moment for moment, line in lines if word in line)


def compare_deltas(first: Path, second: Path) -> str:
    """Say whether two runs computed the same deltas, bit for bit."""
    files = sorted(first.glob("*/delta.safetensors"))
    for file in files:
        ours, _ = load_delta(file)
        others, _ = load_delta(second / file.relative_to(first))
        same = ours.keys() == others.keys()
        if not same or not all(torch.equal(ours[n], others[n]) for n in ours):
            return f"the deltas of {file.parent.name} differ"
    return f"{len(files)} deltas are equal bit for bit"


def tabulate(title: str, columns: Sequence[dict[str, float]]) -> str:
    """Lay out numbers by name, one column a run."""
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [f"| {title} | " + " | ".join(["s"] * len(columns)) + " |"]
    rows.append("|---|" + "--:|" * len(columns))
    for name in names:
        cells = [f"{c[name]:.1f}" if name in c else "" for c in columns]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Run the demo, or two, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="another checkout, which runs first")
    parser.add_argument("--cached", action="store_true", help="use your own caches")
    arguments = parser.parse_args()
    other = arguments.other
    trees = [*([other.absolute()] if other else []), APP]
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, str(number)) for number in range(len(trees))]
        demos = []
        for tree, folder in zip(trees, folders, strict=True):
            folder.mkdir()
            demos.append(run_demo(tree, folder, cached=arguments.cached))
        sums = [demo.by_kind() for demo in demos]
        totals = [{**each, "all": sum(each.values())} for each in sums]
        out = sys.stdout.write
        out(tabulate("over after", [demo.phases for demo in demos]) + "\n\n")
        out(tabulate("CPU", totals) + "\n")
        if other:
            out(f"\n{compare_deltas(*(folder / 'run' for folder in folders))}\n")


if __name__ == "__main__":
    main()
