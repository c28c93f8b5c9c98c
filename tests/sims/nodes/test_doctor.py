"""The checks of a node as its operator calls them, with the options of its programs."""

from pathlib import Path

import pytest

from sims.cli.main import main
from sims.nodes.doctor import NodeOptions, examine_start, read_config
from sims.nodes.places import is_loopback
from sims.processes.bundles import build_bundle, digest_of
from sims.processes.credentials import Credentials, make_credentials
from sims.processes.superlink import free_port
from tests.trees import ROOT


@pytest.fixture(scope="module")
def bundle() -> bytes:
    """Build the bundle of this tree once: that takes seconds."""
    return build_bundle(ROOT)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: bytes) -> list[str]:
    """Write the files of a node, and give the options that it is started with."""
    monkeypatch.setattr("sims.nodes.doctor.build_bundle", lambda _: bundle)
    tmp_path.chmod(0o700)
    for name in ("FLWR_HOME", "COLLABEDIT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    made: Credentials = make_credentials(tmp_path / "made", 1)
    (tmp_path / "requests.jsonl").write_text("private")
    config = tmp_path / "node.toml"
    config.write_text(
        f'partition-id = 0\nrequests-path = "{tmp_path}/requests.jsonl"\n'
    )
    return [
        "--superlink",
        f"127.0.0.1:{free_port()}",
        "--root-certificates",
        str(made.authority),
        "--auth-supernode-private-key",
        str(made.node_key(0)),
        "--node-config",
        str(config),
        "--isolation",
        "process",
        "--host",
        "127.0.0.1",
        "--only-bundle",
        digest_of(bundle),
    ]


def examined(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Call the command, and give its alarms."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *words])
    lines = capsys.readouterr().out.splitlines()
    alarms = [line for line in lines if line.startswith("ALARM: ")]
    assert len(lines) - len(alarms) == sum(line.startswith("ok: ") for line in lines)
    assert ended.value.code == (1 if alarms else 0)
    return alarms


def test_of_a_closed_node_nothing_but_the_missing_server_is_said(
    node: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With options of Flower's that are none of the doctor's; it writes nothing."""
    flowers = ["flower-supernode", *node, "--port", "9094", "--max-retries=3"]
    (alarm,) = examined(flowers, capsys)
    assert "cannot be asked" in alarm


def test_each_open_door_is_an_alarm_of_its_own(
    node: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder, a bundle that ran, and how the programs are started."""
    (tmp_path / "xdg_cache_home").touch()
    (tmp_path / "flwr_home" / "apps" / "strangers.foreign.1.0.0.12345678").mkdir(
        parents=True
    )
    words = node[: node.index("--isolation")]
    alarms = examined([*words, "--host", "0.0.0.0", *node[-2:]], capsys)
    seen = [
        "cannot be asked",
        "--isolation process",
        "--host 0.0.0.0",
        "strangers.foreign.1.0.0.12345678",
        "the cache",
    ]
    for text in seen:
        assert sum(text in alarm for alarm in alarms) == 1, text


def test_a_setting_that_the_node_would_refuse_is_an_alarm(
    node: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As is a file that is not there."""
    (tmp_path / "node.toml").write_text("partition-id = -7\n")
    assert any("partition-id" in alarm for alarm in examined(node, capsys))
    (tmp_path / "node.toml").unlink()
    assert any("--node-config" in alarm for alarm in examined(node, capsys))


def test_a_digest_that_is_none_is_bad_input(
    node: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not an alarm: nothing was checked."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *node, "--only-bundle", "abc"])
    assert ended.value.code == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["node.txt", "node.toml", "", "a=[[", "a=1 b=~"])
def test_settings_that_cannot_be_read_are_one_alarm(
    node: list[str], given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, a folder, or no settings; all that needs none of them is checked."""
    words = ["doctor", *node, "--node-config", given]
    with pytest.raises(SystemExit):
        main(words)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("ALARM: --node-config: ") for line in lines) == 1
    assert any(line.startswith("ok: FLWR_HOME") for line in lines)


@pytest.mark.parametrize(
    ("line", "alarm"),
    [
        ('model-path = "/no/such/model"', "model-path"),
        (f'model-path = "/{"a" * 999}"', "too long"),
        ('model-path = "{here}"', "has no config.json"),
        ('covariance-path = "/no/such.npz"', "covariance-path"),
        ('hypernetwork-path = "/no/such"', "hypernetwork-path"),
        ('text-path = "~nobody-of-this-name/x"', "no such user"),
        ('private-folder = "~nobody-of-this-name/x"', "no such user"),
        ('target-cache = "/proc/\\u0000"', "target-cache"),
        ("require-secure-sum = true", "without `key-path`"),
    ],
)
def test_what_stops_a_node_is_an_alarm(
    node: list[str],
    line: str,
    alarm: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One for each setting, besides the server that is not there."""
    with (tmp_path / "node.toml").open("a") as file:
        file.write(line.replace("{here}", str(tmp_path)) + "\n")
    _, found = examined(node, capsys)
    assert alarm in found


def test_without_the_parties_key_a_line_says_what_fails(
    node: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not an alarm: a federation may do without secure sums."""
    with pytest.raises(SystemExit):
        main(["doctor", *node])
    out = capsys.readouterr().out
    assert "ok: without `key-path` secure sums and comparisons fail at this node" in out


@pytest.mark.parametrize(
    "place", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:\u0669", "a:0", "..:80"]
)
def test_a_server_s_address_that_is_none_is_bad_input(
    node: list[str], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other port is asked in its place."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *node, "--superlink", place])
    assert ended.value.code == 2
    assert f"--superlink {place!r}: wanted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_loopback_addresses_are_known(host: str, *, expected: bool) -> None:
    """By their address, not by how they are written."""
    assert is_loopback(host) == expected
    assert bool([*examine_start(NodeOptions("a:1", host=host))]) != expected


def test_a_node_s_settings_are_read_as_flower_does() -> None:
    """From a text or a file, and there may be none."""
    assert read_config('partition-id=3 requests-path="/a b.jsonl"').partition_id == 3
    assert read_config(None).partition_id == -1


@pytest.mark.process  # Git's
def test_a_clone_s_bundle_and_files_are_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The digest alone on its line, for a shell; another folder is refused."""
    with pytest.raises(SystemExit):
        main(["bundle", "--files"])
    first, *files = capsys.readouterr().out.splitlines()
    assert first == digest_of(build_bundle(ROOT))
    assert any(line.endswith("  clients/app.py") for line in files)
    with pytest.raises(SystemExit) as ended:
        main(["bundle", str(tmp_path)])
    assert ended.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_proxy_of_the_containers_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Byte for byte."""
    words = ["--certificates", "/credentials", "--scratch", "/tmp"]
    with pytest.raises(SystemExit):
        main(["proxy-config", *words, "--superlink", "superlink:8000", "--listen=8000"])
    assert capsys.readouterr().out == (ROOT / "deploy" / "proxy.conf").read_text()


@pytest.mark.parametrize("option", ["--certificates", "--scratch"])
def test_an_empty_folder_of_the_proxy_is_not_this_one(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell's variable may be unset."""
    words = ["--certificates", "/a", "--scratch", "/b"]
    with pytest.raises(SystemExit) as ended:
        main(["proxy-config", *words, option, ""])
    assert ended.value.code == 2
    assert f"{option}: wanted a folder" in capsys.readouterr().err
