"""What a simulation uses of this machine."""

import os

import pytest

from sims.processes.superlink import CONNECTION
from sims.runs.flower import count_cores, superlink
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
    with superlink() as link:
        assert link.call(["list", CONNECTION, "--format", "json"])["runs"] == []
        scratch, mark = link.scratch, f"FLWR_HOME={link.environment['FLWR_HOME']}"
        started = processes_of(mark)
        assert started
    assert all(is_gone(process) for process in started)
    assert not scratch.exists()
