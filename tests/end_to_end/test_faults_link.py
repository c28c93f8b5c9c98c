"""The server's side fails: the server app and the SuperLink."""

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from server.monitoring.status import read_status
from sims.runs.status import advise
from tests.federation import assert_same_delta, world_requests
from tests.hosts import Hosts
from tests.processes import needs_proc
from tests.sites import STORED, lay_out, run_to_end, wait_for_end, wait_until

DOWN_SECONDS = 5.0
"""How long the SuperLink is away; Flower gives a run up after a minute."""


@needs_proc
def test_a_run_continues_after_its_server_app_and_its_link_were_killed(
    world: Path, tmp_path: Path, lasting_hosts: Hosts
) -> None:
    """The server app in the middle of a round, the SuperLink in the middle of another.

    The result is that of an uninterrupted run.
    """
    sites = lay_out(world, tmp_path, world_requests(), 2, 3)
    lasting_hosts.give(sites.hands)
    federation = lasting_hosts.federation
    assert federation.executor is not None
    federation.link.submit(sites.flat)
    sites.wait_for("exchange", 2)
    assert sites.checkpoint.exists()
    apps = federation.executor.processes("flwr-serverapp")
    assert len(apps) == 1
    federation.executor.signal(signal.SIGKILL, apps)
    # The same command again resumes after the last completed round.
    run = federation.link.submit(sites.flat)
    sites.wait_for("targets", 3)
    federation.server.kill()
    time.sleep(DOWN_SECONDS)
    federation.restart_server()
    run_to_end(federation, run)
    assert_same_delta(sites.delta(), sites.edit_here([[0, 1]] * 3), STORED)
    assert [each.refusals for each in sites.rounds()] == [()] * 3


@needs_proc
def test_a_killed_link_ends_its_server_app_and_the_status_says_how_to_resume(
    world: Path, tmp_path: Path, two_hosts: Hosts
) -> None:
    """The status has the class of a party's failure; its operator reads all of it."""
    sites = lay_out(world, tmp_path, world_requests(), 2, 1, name="no-folder")
    two_hosts.give(sites.hands)
    federation, host = two_hosts.federation, two_hosts.hosts[0]
    broken = federation.folder / "node_0" / "home" / "collabedit" / "no-folder"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text("a file", encoding="utf-8")
    events = sites.events_file
    run = federation.link.submit(sites.flat)
    sites.wait_for("targets", 1)
    wait_until(lambda: error_of(events) is not None, "the party to be left out")
    federation.server.kill()
    federation.restart_server()
    status, _ = wait_for_end(federation, run)
    federation.wait_until_online()
    logs = [program.read_log() for program in (federation.server, host)]
    assert status == "finished:failed"
    assert [str(broken) in log for log in logs] == [False, True]
    assert not sites.results.exists()
    found = read_status(events)
    assert found.state == "running"
    assert error_of(events) == "it reported files that it cannot use"
    advice = advise(found, events.parent, datetime.now(UTC) + timedelta(hours=1))
    assert "start it again with the same settings" in advice[1]


def error_of(events: Path) -> str | None:
    """Read from the status why the first party was left out."""
    return read_status(events).parties[0].error
