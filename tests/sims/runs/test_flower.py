"""What a simulation uses of this machine."""

import os
from pathlib import Path

import pytest

from server.monitoring.events import EVENTS, RunEnded, RunStarted, write_event
from sims.processes.superlink import CONNECTION
from sims.processes.workers.ray_settings import ray_settings
from sims.runs.flower import ResultWatch, count_cores, superlink
from tests.processes import is_gone, needs_proc, processes_of


def test_cores_are_those_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not all of the machine's, where there are fewer; and never none."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert count_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_cores() == 1


@needs_proc
def test_a_superlink_answers_in_its_block_and_is_gone_after_it() -> None:
    """With all that it started, and its folder."""
    with superlink() as start:
        link = start.wait()
        assert link.call(["list", CONNECTION, "--format", "json"])["runs"] == []
        assert {*ray_settings()} <= {*link.environment}
        scratch, mark = link.scratch, f"FLWR_HOME={link.environment['FLWR_HOME']}"
        started = processes_of(mark)
        assert started
    assert all(is_gone(process) for process in started)
    assert not scratch.exists()


def test_a_result_is_there_once_the_run_records_it(tmp_path: Path) -> None:
    """Not that of an earlier process, and no run that ended with an error."""
    file = tmp_path / EVENTS
    file.write_text(write_event(RunEnded(folder="earlier")) + "\n")
    is_over = ResultWatch(str(tmp_path))
    assert not is_over()
    for event in (
        RunStarted(run="run_000", rounds=1, parties=2),
        RunEnded(error="no room"),
    ):
        with file.open("a") as events:
            events.write(write_event(event) + "\n")
        assert not is_over()
    with file.open("a") as events:
        events.write(write_event(RunEnded(folder="results")) + "\n")
    assert is_over()
    assert is_over()  # and it stays so
    assert not ResultWatch("")()
