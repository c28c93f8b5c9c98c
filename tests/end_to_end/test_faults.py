"""Parties that are slow, killed or stopped, by signals to real processes.

A round continues with the other parties, all its layers use the same requests, and a
party that was lost comes back in a later round.
"""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.federation import assert_same_delta, world_requests
from tests.hosts import Hosts
from tests.processes import needs_proc
from tests.sites import (
    STORED,
    Sites,
    lay_out,
    run_to_end,
    start_until_accepted,
    working_client,
)

TIMEOUT = 20.0
"""Seconds that no exchange of healthy parties takes on a machine that has time."""

SHARE = 1.5
"""Nor does one take so many times what the start of two takes, on any machine."""


@needs_proc
def test_a_round_continues_without_lost_parties_and_all_of_them_come_back(
    world: Path, tmp_path: Path, lasting_hosts: Hosts
) -> None:
    """One is slow, one machine dies, one client is killed, and one node is stopped."""
    sites = lay_out(world, tmp_path, world_requests(), 4, 3)
    started = time.monotonic()
    with lasting_hosts.joined_by(2):
        timeout = max(TIMEOUT, SHARE * (time.monotonic() - started))
        lasting_hosts.give(sites.hands)
        lose_parties(lasting_hosts, sites, timeout)
    taken = [sites.contributors(number) for number in (1, 2, 3)]
    assert taken[0] == [0]
    assert taken[1] in ([0], [0, 2], [0, 3], [0, 2, 3])  # a minute is over, or not yet
    assert taken[2] == [0, 1, 2, 3]
    assert_same_delta(sites.delta(), sites.edit_here(taken), STORED)
    # A party may have answered with its targets before it is lost.
    found = {
        party: outcome for _, party, outcome in sites.exchanges(1) if outcome != "ok"
    }
    late, gone, no_client = "it did not reply", "it cannot be reached", "its client"
    assert found.keys() == {1, 2, 3}
    assert found[1].startswith((late, no_client))  # whichever minute is over first
    assert found[2].startswith((late, gone))
    assert found[3].startswith((late, no_client))
    first, second, third = (len(each.refusals) for each in sites.rounds())
    assert (first, third) == (3, 0)
    assert second >= 1


@needs_proc
def test_a_party_killed_amid_a_secure_sum_is_not_in_it(
    world: Path, tmp_path: Path, lasting_hosts: Hosts
) -> None:
    """It has given its shares; the others take its masks off, and the sum is theirs.

    Each message meets a process that finds its keys on the node's disk.
    """
    usual = lay_out(world, tmp_path, world_requests(), 4, 1)
    sites = replace(usual, flat={**usual.flat, "editing.schedule": "frozen-uniform"})
    with lasting_hosts.joined_by(2):
        lasting_hosts.give(sites.hands)
        federation, lost = lasting_hosts.federation, lasting_hosts.hosts[2]
        run = federation.link.submit({**sites.flat, "privacy.secure-sum": True})
        sites.wait_for("targets", 1)
        lost.kill()
        run_to_end(federation, run)
    (outcome,) = sites.rounds()
    assert len(outcome.refusals) == 1
    lost_parties = {party for _, party, found in sites.exchanges(1) if found != "ok"}
    assert lost_parties == {2}
    assert_same_delta(sites.delta(), sites.edit_here([[0, 1, 3]]), STORED)
    phases = [phase for phase, _, found in sites.exchanges(1) if found == "ok"]
    assert phases.count("query.shares") == 4
    assert phases.count("train.targets") == 3
    assert phases.count("query.unmask") == 2 * 3


def lose_parties(hosts: Hosts, sites: Sites, timeout: float) -> None:
    """Run to the end while three parties are lost, and one of them twice.

    Args:
        hosts: Four machines.
        sites: Their run.
        timeout: Of each exchange, in seconds.
    """
    healthy, slow, dead, killed = hosts.hosts
    federation = hosts.federation
    with ThreadPoolExecutor() as pool:
        run = federation.link.submit({**sites.flat, "run.timeout": timeout})
        # The first round, while targets are computed.
        sites.wait_for("targets", 1)
        before = [each for host in (slow, killed) for each in host.clients()]
        client = working_client(slow, before)
        os.kill(client, signal.SIGSTOP)
        os.kill(working_client(killed, before), signal.SIGKILL)
        dead.kill()
        back = pool.submit(start_until_accepted, dead)
        sites.wait_for("exchange", 1)
        os.kill(client, signal.SIGCONT)
        # The second round, between its layers.
        sites.wait_for("exchange", 2)
        slow.stop()
        slow.start()
        # The third round is to find all of them: the second one ends no sooner.
        sites.wait_for("evaluation", 2)
        last = working_client(healthy, [])
        os.kill(last, signal.SIGSTOP)
        assert back.result() >= 1
        os.kill(last, signal.SIGCONT)
        run_to_end(federation, run)
