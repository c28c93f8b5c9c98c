"""Runs on a SuperLink of the user's own, known by what `flwr` answers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from editing.base.errors import InputError
from sims.errors import RunFailedError, RunLostError
from sims.runs.connections import (
    Connected,
    note,
    read_connected,
    refuse_going,
    run_on_connection,
)
from sims.runs.unfinished import CONNECTED
from strategies.scenario import FlatValue
from tests.trees import ROOT

FLWR = """#!{python}
import json, os, sys, time
from pathlib import Path
place = Path(__file__).parent
with (place / "calls").open("a") as calls:
    calls.write(json.dumps([sys.argv[1:], os.getcwd(), sorted(os.environ)]) + "\\n")
if sys.argv[1] == "run":
    print(json.dumps({{"run-id": 77}}))
elif sys.argv[1] == "log" and (place / "slow").exists():
    time.sleep(60)
elif sys.argv[1] == "list":
    answers = (place / "answers").read_text().split()
    (place / "answers").write_text(" ".join(answers[1:] or answers))
    if answers[0] == "away":
        sys.exit("no SuperLink answers")
    errors = {{"starting": "Unavailable.", "forgotten": "Run ID not found."}}
    if error := errors.get(answers[0]):
        print(json.dumps({{"success": False, "error-message": error}}))
        sys.exit(0)
    runs = [{{"status": answers[0], "status-details": "as given"}}]
    print(json.dumps({{"success": True, "runs": runs}}))
else:
    print("{{}}")
"""


@pytest.fixture
def flwr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in Flower's place, that answers what its folder says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "flwr").write_text(FLWR.format(python=sys.executable))
    (folder / "flwr").chmod(0o755)
    monkeypatch.setattr(
        "sims.processes.superlink.executable", lambda name: str(folder / name)
    )
    monkeypatch.setattr("sims.processes.superlink.AGAIN_SECONDS", 0.01)
    return folder


def calls_of(flwr: Path) -> list[list[str]]:
    """What was asked."""
    lines = (flwr / "calls").read_text().splitlines()
    return [json.loads(line)[0] for line in lines]


def has_asked(flwr: Path, word: str) -> bool:
    """Whether a call with this first word is written down, and whole."""
    calls = flwr / "calls"
    text = calls.read_text() if calls.exists() else ""
    return text.endswith("\n") and calls_of(flwr)[-1][0] == word


def flat_of(draft: Path) -> dict[str, FlatValue]:
    """Settings that say where results go."""
    return {"output.directory": str(draft / "run"), "run.rounds": 2}


def test_a_run_is_followed_to_its_end_over_a_restart(
    flwr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SuperLink that is away for a moment is asked again; nodes see no simulation."""
    (flwr / "answers").write_text("running away starting finished:completed")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLLABEDIT_HOME", "/simulated")
    run_on_connection(flat_of(tmp_path), "hospital", tmp_path, verbose=False)
    assert read_connected(tmp_path) == Connected(connection="hospital", run="77")
    words = [call[0] for call in calls_of(flwr)]
    assert words == ["run", "log", "list", "log", "list", "list", "list"]
    assert calls_of(flwr)[0][:3] == ["run", str(ROOT), "hospital"]
    lines = (flwr / "calls").read_text().splitlines()
    assert {json.loads(line)[1] for line in lines} == {str(tmp_path)}
    assert "COLLABEDIT_HOME" not in lines[0]


def test_results_on_another_file_system_are_no_success(
    flwr: Path, tmp_path: Path
) -> None:
    """The run ended well, and what it wrote is not here."""
    (flwr / "answers").write_text("finished:completed")
    with pytest.raises(RunFailedError, match="`hospital` has another file system"):
        run_on_connection(flat_of(tmp_path), "hospital", tmp_path, verbose=False)


def test_a_superlink_that_forgot_the_run_is_not_asked_again(
    flwr: Path, tmp_path: Path
) -> None:
    """It was started again without its database."""
    (flwr / "answers").write_text("running forgotten")
    with pytest.raises(RunFailedError, match="does not know the run 77"):
        run_on_connection(flat_of(tmp_path), "hospital", tmp_path, verbose=False)


def test_a_superlink_that_stays_away_leaves_it_open_what_became_of_the_run(
    flwr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run may still be going on there."""
    monkeypatch.setattr("sims.runs.connections.SILENT_SECONDS", 0.1)
    (flwr / "answers").write_text("running starting")
    with pytest.raises(RunLostError, match=r"Unavailable\."):
        run_on_connection(flat_of(tmp_path), "hospital", tmp_path, verbose=False)


def test_a_failed_run_says_why_and_where_its_log_is(flwr: Path, tmp_path: Path) -> None:
    """By Flower's number of it."""
    (flwr / "answers").write_text("finished:failed")
    with pytest.raises(RunFailedError, match=r"as given.*`flwr log 77 hospital`"):
        run_on_connection(flat_of(tmp_path), "hospital", tmp_path, verbose=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_stops_its_run(
    flwr: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Nobody would follow it."""
    (flwr / "slow").touch()
    code = f"""
import signal
import sims.processes.superlink, sims.runs.connections
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sims.processes.superlink.executable = lambda name: {str(flwr)!r} + "/" + name
place = Path({str(tmp_path)!r})
sims.runs.connections.run_on_connection(
    {flat_of(tmp_path)!r}, "hospital", place, verbose=False
)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE
    ) as process:
        try:
            while not has_asked(flwr, "log"):
                assert process.poll() is None
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert calls_of(flwr)[-1][:3] == ["stop", "77", "hospital"], said


@pytest.mark.parametrize(
    ("answer", "goes_on"),
    [
        ("running", True),
        ("pending", True),
        ("finished:failed", False),
        ("forgotten", False),
        ("away", False),
        ("starting", False),
    ],
)
def test_a_run_that_goes_on_is_not_begun_a_second_time(
    flwr: Path, tmp_path: Path, answer: str, goes_on: bool
) -> None:
    """Two would write into one folder; one that is over, or forgotten, may go on."""
    (flwr / "answers").write_text(answer)
    note(tmp_path, Connected(connection="hospital", run="77"))
    if not goes_on:
        refuse_going(tmp_path, "hospital")
        return
    with pytest.raises(InputError, match=r"still running.*`flwr stop 77 hospital`"):
        refuse_going(tmp_path, "hospital")


def test_a_run_that_was_killed_before_it_had_a_number_may_go_on(
    flwr: Path, tmp_path: Path
) -> None:
    """Nobody need be asked."""
    note(tmp_path, Connected(connection="hospital"))
    refuse_going(tmp_path, "hospital")
    assert not (flwr / "calls").exists()


@pytest.mark.parametrize("content", [None, "{", '{"run": "1"}'])
def test_a_simulated_run_is_not_resumed_with_real_nodes(
    tmp_path: Path, content: str | None
) -> None:
    """They have other requests."""
    if content is not None:
        (tmp_path / CONNECTED).write_text(content)
    with pytest.raises(InputError, match="was not begun with --connection"):
        refuse_going(tmp_path, "hospital")
