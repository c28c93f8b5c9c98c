"""Laws of the steps that a federation in containers takes once."""

import http.server
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import deploy.operator
from deploy.steps import (
    BAD_INPUT,
    hand_out_credentials,
    is_healthy,
    main,
    public_keys,
    read_arguments,
    write_example_requests,
)
from editing.base.errors import InputError
from editing.requests.edit_request import read_requests
from sims.processes.credentials import make_credentials
from sims.processes.superlink import free_port

NODES = 3


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Make the folders that are mounted into the steps that hand files out."""
    names = ["credentials", "superlink", "public"]
    for kind in ("node", "requests"):
        names += [f"{kind}-{number}" for number in range(NODES + 1)]
    for name in names:
        (tmp_path / name).mkdir()
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_each_program_gets_its_own_files_and_no_others(volumes: Path) -> None:
    """A node its key, the server its certificate, and nobody the authority's key."""
    hand_out_credentials(volumes, NODES, ["superlink"])
    made = contents(volumes / "credentials" / "federation")
    authority = made["certificates/ca.crt"]
    for number in range(NODES):
        assert contents(volumes / f"node-{number}") == {
            "ca.crt": authority,
            "node.key": made[f"keys/node_{number}"],
        }
    assert contents(volumes / f"node-{NODES}") == {}
    assert set(contents(volumes / "superlink")) == {
        "ca.crt",
        "server.pem",
        "server.key",
    }
    public = contents(volumes / "public")
    assert public.pop("ca.crt") == authority
    assert len(public) == NODES
    assert not any(b"PRIVATE KEY" in data for data in public.values())


def test_private_files_are_readable_by_their_owner_alone(volumes: Path) -> None:
    """Copies as well, whatever the user's mask."""
    before = os.umask(0)
    try:
        hand_out_credentials(volumes, NODES, [])
    finally:
        os.umask(before)
    for path in volumes.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_credentials_are_made_once_and_nodes_are_added_to_them(volumes: Path) -> None:
    """Whoever joined before is known by the same key afterwards."""
    hand_out_credentials(volumes, NODES, ["superlink"])
    before = contents(volumes)
    hand_out_credentials(volumes, NODES, ["superlink"])
    assert contents(volumes) == before
    hand_out_credentials(volumes, NODES + 1, ["superlink"])
    after = contents(volumes)
    assert {name: after[name] for name in before} == before
    assert f"node-{NODES}/node.key" in after


def test_a_key_that_a_party_put_there_is_its_own_and_stays(
    volumes: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Before the first start or later; others receive its public half."""
    theirs = make_credentials(tmp_path_factory.mktemp("theirs") / "made", 2)
    own = [volumes / f"node-{number}" / "node.key" for number in range(NODES)]
    own[0].write_bytes(theirs.node_key(0).read_bytes())
    hand_out_credentials(volumes, NODES, ["superlink"])
    own[1].write_bytes(theirs.node_key(1).read_bytes())
    third = own[2].read_bytes()
    hand_out_credentials(volumes, NODES, ["superlink"])
    for number in (0, 1):
        assert own[number].read_bytes() == theirs.node_key(number).read_bytes()
        received = volumes / "public" / "keys" / f"node_{number}.pub"
        assert received.read_bytes() == theirs.node_public_key(number).read_bytes()
    assert own[2].read_bytes() == third
    made = volumes / "credentials" / "federation" / "keys" / "node_2.pub"
    received = volumes / "public" / "keys" / "node_2.pub"
    assert received.read_bytes() == made.read_bytes()


def test_a_key_that_is_none_is_named(volumes: Path) -> None:
    """The others could not register the node."""
    (volumes / "node-1" / "node.key").write_text("a key")
    with pytest.raises(InputError, match=r"node-1/node\.key: is no private key"):
        hand_out_credentials(volumes, NODES, ["superlink"])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ([], 3),
        (["parties.count=2"], 2),
        (["run.min-parties=2", "output.checkpoint=/app/results/night"], 2),
        (["output.checkpoint=/app/results/night"], 1),
    ],
    ids=["keys", "fewer", "gone on with", "by one"],
)
def test_a_run_waits_for_as_many_nodes_as_it_has_parties(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    wanted: int,
) -> None:
    """A node that was unregistered for good keeps its key, and no run waiting."""
    (tmp_path / "keys").mkdir()
    for number in range(3):
        (tmp_path / "keys" / f"node_{number}.pub").touch()
    received: list[object] = []
    monkeypatch.setattr(deploy.operator, "connect", lambda *_: "link")
    monkeypatch.setattr(
        deploy.operator, "wait_for_nodes", lambda _, count, __: received.append(count)
    )
    monkeypatch.setattr(
        deploy.operator, "run", lambda *given: received.append(given[-1])
    )
    words = [word for each in settings for word in ("--set", each)]
    places = ["--public", str(tmp_path), "--scratch", str(tmp_path)]
    assert main(["run", *places, *words]) == 0
    assert received[0] == wanted
    given = received[1]
    assert isinstance(given, list)
    assert given[len(given) - len(settings) :] == settings


def test_public_keys_come_in_the_nodes_order(tmp_path: Path) -> None:
    """By number, not by letters."""
    (tmp_path / "keys").mkdir()
    for number in (10, 2, 0):
        (tmp_path / "keys" / f"node_{number}.pub").touch()
    assert [key.stem for key in public_keys(tmp_path)] == [
        "node_0",
        "node_2",
        "node_10",
    ]


def test_example_requests_are_each_node_s_own_and_never_overwritten(
    volumes: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file that is there might be somebody's real one."""
    scratch = tmp_path_factory.mktemp("scratch")
    write_example_requests(volumes, scratch, NODES)
    files = [volumes / f"requests-{n}" / "requests.jsonl" for n in range(NODES)]
    hands = [read_requests(file) for file in files]
    prompts = {request.rewrite_prompt for hand in hands for request in hand}
    assert len(prompts) == sum(map(len, hands)) == NODES * 10
    assert list(scratch.iterdir()) == []
    before = contents(volumes)
    files[0].unlink()
    with pytest.raises(InputError, match=re.escape(str(files[1]))):
        write_example_requests(volumes, scratch, NODES)
    assert not files[0].exists()
    assert files[1].read_bytes() == before["requests-1/requests.jsonl"]


@pytest.fixture
def server() -> Iterator[str]:
    """Lend a server that answers at /health alone."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_health_is_an_answer_without_an_error(server: str) -> None:
    """From a program that listens."""
    assert is_healthy(f"{server}/health", None)
    assert not is_healthy(f"{server}/other", None)
    assert main(["healthy", f"{server}/health"]) == 0
    assert main(["healthy", f"http://127.0.0.1:{free_port()}/health"]) == 1


def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its own exit code."""
    scratch = tmp_path / "scratch"
    (tmp_path / "keys").mkdir()
    words = ["--public", str(tmp_path), "--scratch", str(scratch)]
    code = main(["credentials", "--nodes=1", "--hosts=http://x"])
    assert code == BAD_INPUT
    received = capsys.readouterr().err
    assert received.startswith("Error: --host http://x:")
    assert received.count("\n") == 1
    assert read_arguments(["run", *words, "a.toml"]).scenario == Path("a.toml")
