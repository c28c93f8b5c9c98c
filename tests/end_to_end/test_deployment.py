"""Real processes with TLS and node authentication compute what one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

from editing.algebra.deltas import load_delta
from editing.requests.edit_request import EditRequest
from server.config import read_scenario
from sims.cli.options import DEFAULT_SCENARIO
from sims.processes.federation import Federation
from sims.processes.superlink import CONNECTION
from sims.runs.agreement import AGREEMENT
from sims.runs.engines import WITH_FILES
from sims.runs.jobs import execute
from tests.federation import assert_same_bits, assert_same_delta, world_requests
from tests.hosts import Hosts
from tests.processes import is_gone, needs_proc, processes_of
from tests.sites import STORED, command_here, wait_until
from tests.trees import ROOT

PARTIES, ROUNDS = 2, 2
SUMMED = 3
"""The fewest parties of a secure sum."""

SECURE = '"secure_sum": true'
MARK = "STARTED_BY_TEST_IN"
SECONDS = 900.0
"""After which a test gives up; it takes a tenth of that on two idle cores."""


def settings_for(world: Path, rounds: int, parties: int = PARTIES) -> list[str]:
    """Write settings under which no rotation is drawn, and little is exchanged.

    Two parties cannot sum under masks.
    """
    secure = {} if parties > PARTIES else {"privacy.secure-sum": "false"}
    settings = {
        "model.path": world,
        "requests.source": world / "requests.json",
        "parties.count": parties,
        "parties.requests-per-round": 1,
        "run.rounds": rounds,
        "run.encoding": "dense",
        "editing.schedule": "frozen-uniform",
        **secure,
    }
    return [f"--set={key}={value}" for key, value in settings.items()]


def start(folder: Path, *arguments: str, home: str = "") -> subprocess.Popen[str]:
    """Start a command of ours in a folder."""
    own = {"PYTHONPATH": str(ROOT), MARK: str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "sims", *arguments],
        cwd=folder,
        env={**os.environ, **own, **({"FLWR_HOME": home} if home else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a command, and give its exit code and what it said."""
    said, _ = process.communicate(timeout=SECONDS)
    return process.returncode, said


@needs_proc
def test_a_local_deployment_gives_the_bits_of_one_process_and_leaves_no_process(
    world: Path, tmp_path: Path
) -> None:
    """Under masks, whose keys each process finds on its node's disk, by default.

    Without rotations; and the command says that it looked. The update is that of a run
    in which the server sees each party's statistics.
    """
    words = ["deploy-local", "--parties", str(SUMMED), "--output", "found"]
    settings = settings_for(world, 1, SUMMED)
    chosen = [each.removeprefix("--set=") for each in settings]
    code, said = finish(start(tmp_path, *words, *settings))
    assert code == 0, said
    assert "Sums are masked." in said
    assert "bit for bit equal" in said
    plain = read_scenario(DEFAULT_SCENARIO, [*chosen, "privacy.secure-sum=false"])
    execute(plain, tmp_path / "plain", WITH_FILES)
    deltas = [
        load_delta(tmp_path / folder / "delta.safetensors")[0]
        for folder in ("found", "plain")
    ]
    assert_same_delta(deltas[0], deltas[1], STORED)
    agreement = json.loads((tmp_path / "found" / AGREEMENT).read_text())
    assert agreement == {"difference": 0.0, "tolerance": 0.0}
    assert len(list((tmp_path / "found").glob("case_*.json"))) == SUMMED
    assert SECURE in (tmp_path / "found" / "params.json").read_text()
    mark = f"{MARK}={tmp_path}"  # all processes have it
    assert all(is_gone(process) for process in processes_of(mark))


def hands() -> list[list[EditRequest]]:
    """List each party's requests, as a simulation of the world shares them out."""
    requests = world_requests()
    return [requests[party::PARTIES][:ROUNDS] for party in range(PARTIES)]


def cut_after_a_round(
    federation: Federation, run: subprocess.Popen[str], draft: Path
) -> str:
    """Kill the SuperLink once a round is completed, and start it again.

    Returns:
        What the command that followed the run printed.
    """
    kept = draft / "checkpoint" / "collabedit.safetensors"
    wait_until(lambda: kept.exists() or run.poll() is not None, "a completed round")
    assert kept.exists(), run.communicate()[0]
    federation.server.kill()
    federation.restart_server()
    code, said = finish(run)
    assert code == 1, said
    return said


def folders_of_cases(folder: Path) -> set[Path]:
    """List the folders in which nodes keep the cases of a run."""
    return {path.parent for path in folder.glob("node_*/home/collabedit/*/cases")}


@needs_proc
def test_a_run_on_a_connection_resumes_after_its_superlink_was_killed(
    world: Path, tmp_path: Path, two_hosts: Hosts
) -> None:
    """With the bits of an uninterrupted run, and what the nodes had kept of it."""
    settings = settings_for(world, ROUNDS)
    whole = tmp_path / "whole"
    command_here("run", *settings, "--engine=in-process", f"--output={whole}")
    federation = two_hosts.federation
    two_hosts.give(hands())
    earlier = folders_of_cases(federation.folder)
    home = federation.link.environment["FLWR_HOME"]
    real = ("--connection", CONNECTION)
    run = start(tmp_path, "run", *settings, *real, "--output=cut", home=home)
    draft = tmp_path / "cut.unfinished"
    said = cut_after_a_round(federation, run, draft)
    assert f"--resume {draft} --connection {CONNECTION}" in said
    code, said = finish(start(tmp_path, "run", "--resume=cut", home=home))
    assert (code, "--connection NAME" in said) == (2, True), said
    code, said = finish(start(tmp_path, "run", "--resume=cut", *real, home=home))
    assert code == 0, said
    assert "round 1 · targets" not in said
    kept = folders_of_cases(federation.folder) - earlier
    assert len(kept) == PARTIES
    assert len({path.name for path in kept}) == 1  # one name for both of Flower's runs
    deltas = [
        load_delta(folder / "delta.safetensors")[0]
        for folder in (tmp_path / "cut", whole)
    ]
    assert_same_bits(*deltas)
