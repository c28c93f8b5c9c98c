"""The example of an app of one's own runs under `flwr run`."""

import json
from pathlib import Path

import pytest

from editing.algebra.deltas import load_delta
from sims.api import federate
from sims.processes.clone_superlink import call_flwr, stop_superlink
from tests.federation import assert_same_bits
from tests.trees import ROOT

APP = ROOT / "docs" / "examples" / "own_app"


def test_an_app_of_ones_own_edits_as_this_one_does(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its update has the bits of a run in this process; its metrics are averages."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    changes: dict[str, object] = {
        "model.path": str(world),
        "requests.source": str(world / "requests.json"),
        "parties.count": 2,
        "parties.requests-per-round": 2,
        "editing.v-num-grad-steps": 6,
    }
    given = " ".join(f"{key}={json.dumps(value)}" for key, value in changes.items())
    home, found = tmp_path / "home", tmp_path / "found"
    try:
        code = call_flwr(
            [
                *("run", str(APP), "--stream"),
                "--federation-config=num-supernodes=2 client-resources-num-cpus=1",
                f'--run-config={given} own.folder="{found}"',
            ],
            home,
        )
    finally:
        stop_superlink(home)
    assert code == 0
    results = federate(changes=changes, folder=tmp_path / "here")
    update, _ = load_delta(found / "delta.safetensors")
    assert_same_bits(update, results.update("collabedit"))
    averages = json.loads((found / "averages.json").read_text())
    assert averages["1"]["score"] == pytest.approx(
        results.merges["score"]["collabedit"]
    )
