"""Flower's simulation computes what the grid in this process computes."""

from pathlib import Path

import pytest

from editing.algebra.deltas import load_delta
from server.monitoring.events import EVENTS, RunEnded, read_events
from server.report.data import read_report
from sims.runs.flower import run_under_flower
from sims.runs.in_process import run_in_process
from strategies.scenario import FlatValue
from tests.federation import assert_same_bits, settings_of

Tables = dict[str, dict[str, FlatValue]]

SINGLE: Tables = {}
EVERYTHING: Tables = {
    "run": {"rounds": 2},
    "editing": {"schedule": "alone"},
    "prior": {"memory-keys": "edited"},
    "parties": {"conflicts": "first", "deduplicate": True, "skip-known": 0.001},
    "requests": {"phrasings": 1},
}
"""Every exchange that there is, in two rounds."""


@pytest.mark.parametrize("tables", [SINGLE, EVERYTHING], ids=["single", "everything"])
def test_both_engines_give_one_delta_bit_for_bit(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    """The app's bundle in processes of its own, and the tree in this one."""
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
