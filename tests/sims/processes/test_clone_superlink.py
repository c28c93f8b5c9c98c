"""Each clone has a SuperLink of its own, which can be ended alone."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sims.processes import clone_superlink
from sims.processes.clone_superlink import (
    DATABASE,
    RECORD,
    Started,
    call_flwr,
    choose_port,
    ensure_superlink,
    find_superlink,
    stop_superlink,
)
from tests.processes import is_gone, lives, needs_proc, processes_of

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()


port = int(sys.argv[sys.argv.index("--port") + 1])
HTTPServer(("127.0.0.1", port), Healthy).serve_forever()
"""
FLWR = """
import os, sys

print(os.environ["FLWR_HOME"], *sys.argv[1:])
sys.exit(7)
"""


@pytest.fixture
def homes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Path]]:
    """Lend the homes of two clones; the programs of Flower are small ones."""
    for name, code in (("flower-superlink", SERVER), ("flwr", FLWR)):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\n{code}")
        program.chmod(0o755)
    monkeypatch.setattr(clone_superlink, "executable", lambda name: tmp_path / name)
    found = tmp_path / "one" / ".flwr", tmp_path / "two" / ".flwr"
    yield found
    for home in found:
        stop_superlink(home)


@needs_proc
def test_two_clones_never_share_a_superlink(homes: tuple[Path, Path]) -> None:
    """Each starts its own once; ending one leaves the other."""
    one, two = homes
    assert ensure_superlink(one) == ensure_superlink(one) != ensure_superlink(two)
    first, second = find_superlink(one), find_superlink(two)
    assert first is not None
    assert second is not None
    closed = processes_of("RAY_AUTH_MODE=token")
    assert {first.process, second.process} <= {*closed}
    assert f":{first.port}" in (one / "config.toml").read_text()
    assert stop_superlink(one) == first.process
    assert is_gone(first.process)
    assert lives(second.process)
    assert find_superlink(one) is None
    assert stop_superlink(one) is None
    assert ensure_superlink(one) == first.port  # the same again


@needs_proc
def test_a_process_that_only_has_the_number_is_not_ended(tmp_path: Path) -> None:
    """Systems give numbers of ended processes to new ones."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        record = Started(process=other.pid, port=1)
        (tmp_path / RECORD).write_text(record.model_dump_json())
        assert find_superlink(tmp_path) is None
        assert stop_superlink(tmp_path) is None
        assert other.poll() is None
        other.kill()


def test_a_port_that_others_use_is_passed_over(tmp_path: Path) -> None:
    """The next free one is taken, and the same one again once it is free."""
    port = choose_port(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert choose_port(tmp_path) == port + 1
    assert choose_port(tmp_path) == port


@needs_proc
def test_flwr_is_called_with_the_home_of_the_clone(
    homes: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its exit code and its options pass through; the user's own home is not read."""
    assert call_flwr(["run", ".", "--stream"], homes[0]) == 7
    assert capfd.readouterr().out == f"{homes[0]} run . --stream\n"
    assert os.environ.get("FLWR_HOME") != str(homes[0])


def test_a_home_that_was_never_used_has_nothing_to_stop(tmp_path: Path) -> None:
    """And nothing is made there."""
    assert stop_superlink(tmp_path / ".flwr") is None
    assert not (tmp_path / ".flwr").exists()
    (tmp_path / RECORD).write_text("{")
    assert find_superlink(tmp_path) is None
    assert not (tmp_path / DATABASE).exists()
