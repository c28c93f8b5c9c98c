"""Parties that are slow, killed or stopped, by signals to real processes.

A round goes on with the others, all its layers speak of the same requests, and who was
lost comes back in a later round.
"""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sims.processes.federation import deployed
from tests.federation import assert_same_delta, world_requests
from tests.processes import needs_proc
from tests.sites import (
    CLIENT,
    STORED,
    lay_out,
    run_to_end,
    send_signal,
    start_until_accepted,
    working_client,
)

TIMEOUT = 45.0
"""Seconds that no exchange of healthy parties takes on a machine that has time."""

SHARE = 5.0
"""Nor does one take so many times what it took to start them, on any machine."""


@pytest.mark.end_to_end
@needs_proc
def test_a_round_goes_on_without_who_is_lost_and_all_of_them_come_back(
    world: Path, tmp_path: Path
) -> None:
    """One is slow, one machine dies, one client is killed, and one node is stopped."""
    sites = lay_out(world, tmp_path, world_requests(), 4, 3)
    started = time.monotonic()
    with (
        deployed(tmp_path / "processes", sites.node_configs()) as programs,
        ThreadPoolExecutor() as pool,
    ):
        _, slow, dead, killed = programs.nodes
        timeout = max(TIMEOUT, SHARE * (time.monotonic() - started))
        run = programs.link.submit({**sites.flat, "run.timeout": timeout})
        # The first round, while targets are computed.
        sites.wait_for("targets", 1)
        before = [each for node in (slow, killed) for each in node.processes(CLIENT)]
        client = working_client(slow, before)
        send_signal(client, signal.SIGSTOP)
        send_signal(working_client(killed, before), signal.SIGKILL)
        dead.kill()
        back = pool.submit(start_until_accepted, dead)
        sites.wait_for("exchange", 1)
        send_signal(client, signal.SIGCONT)
        # The second round, between its layers.
        sites.wait_for("exchange", 2)
        slow.terminate()
        slow.start()
        run_to_end(programs, run)
        assert back.result() >= 1
    taken = [sites.contributors(number) for number in (1, 2, 3)]
    assert taken[0] == [0]
    assert taken[1] in ([0], [0, 2], [0, 3], [0, 2, 3])  # a minute is over, or not yet
    assert taken[2] == [0, 1, 2, 3]
    assert_same_delta(sites.delta(), sites.edit_here(taken), STORED)
    found = {
        party: outcome
        for phase, party, outcome in sites.exchanges(1)
        if phase == "train.targets"
    }
    late, gone, no_client = "it did not reply", "it cannot be reached", "its client"
    assert found[0] == "ok"
    assert found[1].startswith((late, no_client))  # whichever minute is over first
    assert found[2].startswith((late, gone))
    assert found[3].startswith((late, no_client))
    first, second, third = (len(each.refusals) for each in sites.rounds())
    assert (first, third) == (3, 0)
    assert second >= 1
