"""Flower's simulation computes what the grid in this process computes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from editing.algebra.deltas import load_delta
from server.monitoring.events import EVENTS, RunEnded, read_events
from server.report.data import read_report
from sims.processes.guard import children
from sims.processes.programs import command_line
from sims.runs.flower import run_under_flower
from sims.runs.in_process import run_in_process
from strategies.scenario import FlatValue
from tests.federation import assert_same_bits, settings_of
from tests.processes import listening

Tables = dict[str, dict[str, FlatValue]]

SINGLE: Tables = {
    "gate": {"requests": 1, "max_drop": 100.0},
    "editor": {"name": "emmet", "settings": '{"slack": 0.3}'},
}
"""One round of another editor, measured before its update is accepted."""

EVERYTHING: Tables = {
    "run": {"rounds": 2},
    "editing": {"schedule": "alone"},
    "prior": {"memory-keys": "edited"},
    "parties": {"conflicts": "first", "deduplicate": True, "skip-known": 0.001},
    "requests": {"phrasings": 1},
    "privacy": {"secure-sum": True},
}
"""Every exchange that there is, in two rounds."""


LOOPBACK = "0100007F"


def look(
    others: set[int],
    doors: set[tuple[str, str]],
    names: set[str],
    threads: set[int],
) -> None:
    """Look at all processes that this one has started, and that they have.

    Args:
        others: Those that are of other tests, such as a federation that many share.
        doors: Gains the addresses at which they listen, with their command lines.
        names: Gains what they call themselves.
        threads: Gains how many threads those have that clients are forked from, which
            are the forker and the keeper two generations above it.
    """
    above: dict[int, int] = {}
    found = [os.getpid()]
    for process in found:  # grows while it is read
        below = [each for each in children(process) if each not in others]
        above |= dict.fromkeys(below, process)
        found += below
    for process in found[1:]:
        program = command_line(process)
        found_at = listening(process)
        # What ended or became another program meanwhile is looked at again.
        if program and program == command_line(process):
            doors |= {(at, program) for at in found_at}
        with suppress(OSError):  # gone meanwhile
            name = Path(f"/proc/{process}/comm").read_text().strip()
            names.add(name)
            orphan = "guard" in command_line(above[process])  # it ends with its parent
            if name == "forker" and not orphan:
                for each in (process, above[above[process]]):
                    threads.add(len(list(Path(f"/proc/{each}/task").iterdir())))


@contextmanager
def closed_to_others() -> Iterator[None]:
    """Check that what runs in a block cannot be joined, and is forked safely.

    Of all processes the SuperLink alone listens, at one port of the loopback interface;
    and no process with threads is forked. Systems without ``/proc`` show neither.
    """
    others = set(children(os.getpid()))
    doors: set[tuple[str, str]] = set()
    names: set[str] = set()
    threads: set[int] = set()
    over = Event()

    def keep_looking() -> None:
        while not over.wait(0.2):
            look(others, doors, names, threads)

    watch = Thread(target=keep_looking)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
    if sys.platform == "linux":
        assert {"client", "forker"} <= names
        assert threads == {1}
        ((address, program),) = doors
        assert address.partition(":")[0] == LOOPBACK
        assert "flower-superlink" in program


@pytest.mark.parametrize("tables", [SINGLE, EVERYTHING], ids=["single", "everything"])
def test_both_engines_give_one_delta_bit_for_bit(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    """The app's bundle in processes that nobody can join, and the tree in this one."""
    monkeypatch.setenv("COLLABEDIT_HOME", str(tmp_path / "private"))
    folders = {name: tmp_path / name for name in ("flower", "here")}
    for name, folder in folders.items():
        # Each computes the covariance for itself.
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache of {name}"))
        watch = tmp_path / f"watch_{name}"
        flat = settings_of(
            world,
            model={"dtype": "float32"},
            output={"directory": str(folder), "watch": str(watch)},
            **tables,
        )
        if name == "flower":
            with closed_to_others():
                run_under_flower(flat, 3)
        else:
            run_in_process(flat, 3, tmp_path / "private here")
        *_, last = read_events(watch / EVENTS)
        assert isinstance(last, RunEnded)
        assert (last.folder, last.error) == (str(folder), None)
    deltas = [load_delta(each / "delta.safetensors")[0] for each in folders.values()]
    assert_same_bits(*deltas)
    reports = [read_report(folder / "report.json") for folder in folders.values()]
    assert reports[0].runs[0].metrics == reports[1].runs[0].metrics
    assert reports[0].unedited == reports[1].unedited
    rounds = 1 + len(reports[0].runs[0].metrics)
    cases = list((tmp_path / "private").rglob("party_*.jsonl"))
    assert len(cases) == 3 * rounds  # of each party after each round, and before any
    assert list((tmp_path / "private").rglob("*.safetensors")) == []
