"""The server's side fails: the server app, the SuperLink, and who comes uninvited."""

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.monitoring.status import read_status
from sims.processes.federation import deployed
from sims.runs.status import advise
from tests.federation import assert_same_delta, world_requests
from tests.processes import needs_proc
from tests.sites import STORED, lay_out, run_to_end, wait_for_end, wait_until

DOWN_SECONDS = 5.0
"""How long the SuperLink is away; Flower gives a run up after a minute."""


@pytest.mark.end_to_end
@needs_proc
def test_a_run_goes_on_after_its_server_app_and_its_link_were_killed(
    world: Path, tmp_path: Path
) -> None:
    """The server app in the middle of a round, the SuperLink in the middle of another.

    What comes out is what an uninterrupted run gives.
    """
    sites = lay_out(world, tmp_path, world_requests(), 2, 3)
    nodes = sites.node_configs()
    with deployed(tmp_path / "processes", nodes, database=True, apart=True) as programs:
        assert programs.executor is not None
        programs.link.submit(sites.flat)
        sites.wait_for("exchange", 2)
        assert sites.checkpoint.exists()
        apps = programs.executor.processes("flwr-serverapp")
        assert len(apps) == 1
        programs.executor.signal(signal.SIGKILL, apps)
        # The same command again goes on from the last whole round.
        run = programs.link.submit(sites.flat)
        sites.wait_for("targets", 3)
        programs.server.kill()
        time.sleep(DOWN_SECONDS)
        programs.restart_server()
        run_to_end(programs, run)
    assert_same_delta(sites.delta(), sites.edit_here([[0, 1]] * 3), STORED)
    assert [each.refusals for each in sites.rounds()] == [()] * 3


@pytest.mark.end_to_end
@needs_proc
def test_a_killed_link_takes_its_server_app_along_and_the_status_says_how_to_go_on(
    world: Path, tmp_path: Path
) -> None:
    """A party's mistake stands there by its class; its operator reads all of it."""
    sites = lay_out(world, tmp_path, world_requests(), 2, 1)
    nodes = sites.node_configs()
    broken = Path(str(nodes[0]["requests-path"]))
    broken.write_text('[{"prompt": "{} works for"', encoding="utf-8")
    events = sites.events_file
    with deployed(tmp_path / "processes", nodes, database=True) as programs:
        run = programs.link.submit(sites.flat)
        sites.wait_for("targets", 1)
        wait_until(lambda: error_of(events) is not None, "the party to be left out")
        programs.server.kill()
        programs.restart_server()
        status, _ = wait_for_end(programs, run)
        programs.wait_until_online()
        logs = [program.read_log() for program in (programs.server, programs.nodes[0])]
    assert status == "finished:failed"
    assert [str(broken) in log for log in logs] == [False, True]
    assert not sites.results.exists()
    found = read_status(events)
    assert found.state == "running"
    assert error_of(events) == "it reported requests that are malformed"
    advice = advise(found, events.parent, datetime.now(UTC) + timedelta(hours=1))
    assert "start it again with the same settings" in advice[1]


def error_of(events: Path) -> str | None:
    """What the status says of the first party."""
    return read_status(events).parties[0].error
