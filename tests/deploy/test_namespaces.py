"""Laws of hosts that are network namespaces; most need root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import namespaces
from deploy.namespaces import (
    CONFIGURATION,
    SERVER,
    SKIPPED,
    Host,
    hosts,
    ip,
    main,
    reason_to_skip,
)
from sims.errors import RunFailedError

needs_hosts = pytest.mark.skipif(
    reason_to_skip() is not None, reason=str(reason_to_skip())
)
SAY = """
import socket, sys
server = socket.create_server(("0.0.0.0", 8000))
print("ready", flush=True)
server.accept()[0].sendall(b"hello")
"""
ASK = f"""
import socket
with socket.create_connection(("{SERVER}", 8000), timeout=5) as asked:
    print(asked.getsockname()[0], asked.recv(9).decode())
"""


def left_over() -> list[str]:
    """What of this process's hosts is still there."""
    printed = subprocess.run(
        ["ip", "netns", "list"], capture_output=True, text=True, check=True
    ).stdout
    places = CONFIGURATION.glob("*") if CONFIGURATION.is_dir() else []
    names = [*printed.split(), *(place.name for place in places)]
    return [name for name in names if name.startswith(f"ce-{os.getpid()}-")]


@needs_hosts
def test_hosts_reach_the_server_by_its_name_from_addresses_of_their_own() -> None:
    """Through the switch."""
    with hosts(3) as (server, *others):
        with subprocess.Popen(
            server.command([sys.executable, "-c", SAY]), stdout=subprocess.PIPE
        ) as said:
            assert said.stdout is not None
            assert said.stdout.readline() == b"ready\n"
            answer = subprocess.run(
                others[1].command([sys.executable, "-c", ASK]),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        assert answer.split() == [others[1].address, "hello"]
        assert len({host.address for host in (server, *others)}) == 3
    assert left_over() == []


@needs_hosts
def test_this_machine_s_own_network_is_left_as_it_is() -> None:
    """No interface more, while hosts are there and afterwards."""

    def interfaces() -> list[str]:
        return sorted(path.name for path in Path("/sys/class/net").iterdir())

    before = interfaces()
    with hosts(2):
        assert interfaces() == before
        assert left_over() != []
    assert interfaces() == before


@needs_hosts
def test_hosts_go_when_the_block_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whatever was made of them when making them fails."""
    with pytest.raises(ZeroDivisionError), hosts(2):
        raise ZeroDivisionError
    assert left_over() == []
    monkeypatch.setattr(namespaces, "NETWORK", "nowhere")
    with pytest.raises(RunFailedError, match="address add"), hosts(2):
        pass
    assert left_over() == []


@needs_hosts
def test_a_call_that_fails_says_what_was_called() -> None:
    """With what `ip` says of it."""
    with pytest.raises(RunFailedError, match="`ip netns delete no-such-host` failed: "):
        ip("netns", "delete", "no-such-host")


def test_a_host_s_command_is_run_in_its_namespace() -> None:
    """As `ip` wants it."""
    host = Host("a", "10.0.0.1")
    assert host.command(["b", "c"]) == ["ip", "netns", "exec", "a", "b", "c"]


def test_it_skips_with_a_reason_where_it_cannot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With an exit code of its own, and nothing tried."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["--output", str(tmp_path / "results")]) == SKIPPED
    printed = capsys.readouterr().err
    assert printed.startswith("Skipped: network namespaces need ")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "`ip`" in (namespaces.reason_to_skip() or "")


@needs_hosts
def test_results_that_are_there_are_not_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Refused before anything is started."""
    assert main(["--output", str(tmp_path)]) == namespaces.BAD_INPUT
    assert str(tmp_path) in capsys.readouterr().err
