"""MLflow has the numbers of each round, in a file of this machine."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from editing.base.errors import InputError
from server.monitoring.events import Event, RunEnded
from server.monitoring.mlflow_log import DATABASE, MlflowLog
from tests.server.events import ended, merging


def write(folder: Path, events: Sequence[Event], place: str = "run_000") -> None:
    """Log events as one process does."""
    log = MlflowLog(folder, "run_000", folder / place)
    for event in events:
        log(event)


@pytest.mark.process  # MLflow asks git for a commit, in one
def test_rounds_are_kept_and_a_resumed_run_replaces_what_it_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run of MLflow's for each merge; another run of ours is left alone."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write(
        tmp_path,
        [
            merging(),
            ended(1, (7, "late"), score=1.0),
            merging("ties"),
            ended(1, score=2.0),
            ended(2, score=3.0),
            RunEnded(error="the disk is full"),
        ],
    )
    write(tmp_path, [merging("dare"), ended(1, score=9.0)], "other's run_000")
    write(tmp_path, [merging("dare"), ended(1, score=8.0), RunEnded(folder="/r")])
    write(tmp_path, [merging("ties", 1), ended(2, score=4.0), RunEnded(folder="/r")])

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / DATABASE}")
    experiment = client.get_experiment_by_name("collabedit")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    equal = [run for run in found if run.data.tags["collabedit.merge"] == "dare"]
    assert sorted(run.info.status for run in equal) == ["FINISHED", "RUNNING"]
    runs = {run.data.tags["collabedit.merge"]: run for run in found if run not in equal}
    assert runs.keys() == {"collabedit", "ties"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    histories = {
        merge: [
            (each.step, each.value)
            for each in client.get_metric_history(run.info.run_id, "score")
        ]
        for merge, run in runs.items()
    }
    assert histories == {"collabedit": [(1, 1.0)], "ties": [(1, 2.0), (2, 4.0)]}
    assert runs["collabedit"].data.metrics["refusals"] == 1
    assert runs["collabedit"].data.metrics["groups/rewrite_acc.known"] == 25


def test_without_the_package_the_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done, with what to install."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="pip install mlflow"):
        MlflowLog(tmp_path / "ml", "run_000")
    assert list(tmp_path.iterdir()) == []
