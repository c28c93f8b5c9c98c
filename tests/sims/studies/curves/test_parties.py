"""The same requests, held by more and more parties."""

from pathlib import Path

import pytest
import torch

from editing.algebra.deltas import save_delta
from server.report.data import RoundMetrics
from sims.studies.curves.parties import Parties
from sims.studies.study import TrialResult
from tests.sims.studies.made_up import configure, make_pool, result_of

STUDY = Parties()
SMALL = ("parties.count=2", "parties.requests-per-round=3")


def make_results(folder: Path) -> list[TrialResult]:
    """Make results up: averages lose a tenth of the update with each further party."""
    found = []
    for trial in STUDY.trials(make_pool(6), configure(STUDY, *SMALL), 0):
        merge, count = trial.labels["merge"], int(trial.labels["parties"])
        lost = 0.1 * (count - 1) if merge == "simple-average" else 0.0
        own = folder / trial.name
        own.mkdir()
        save_delta({"w": torch.ones(2, 2) * (1 - lost)}, own / "delta.safetensors", {})
        found.append(result_of(trial, [RoundMetrics(score=100 * (1 - lost))], own))
    return found


def test_every_trial_has_the_same_requests() -> None:
    """In the same order, and no more parties than requests."""
    trials = STUDY.trials(make_pool(6), configure(STUDY, *SMALL), 0)
    assert len({tuple(r.case_id for r in trial.requests) for trial in trials}) == 1
    assert len({trial.requests for trial in trials}) == 1
    counts = [t.labels["parties"] for t in trials if t.labels["merge"] == "ties"]
    assert counts == [1, 2, 5]


def test_updates_are_compared_with_one_party_s(tmp_path: Path) -> None:
    """By `collabedit`, whose own is at no distance."""
    frame = STUDY.tabulate(make_results(tmp_path))
    found = frame.set_index(["merge", "parties"])["difference"]
    assert [found["collabedit", count] for count in (1, 2, 5)] == [0, 0, 0]
    assert found["simple-average", 5] == pytest.approx(0.4, rel=1e-6)
    said = STUDY.state(frame)
    assert "With 1 party and with 5 the same requests score" in said
    assert "collabedit 100.0 and 100.0 (difference up to 0.0e+00)" in said
    assert "simple-average 100.0 and 60.0 (difference up to 4.0e-01)" in said
    scores, updates = STUDY.draw(frame)
    assert list(scores.table.loc["simple-average"]) == pytest.approx([100, 90, 60])
    assert list(updates.table.columns) == [
        f"relative_difference.{count} parties" for count in (1, 2, 5)
    ]
