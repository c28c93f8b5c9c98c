"""Commands and files of a federation's programs; `tests/end_to_end` runs them."""

import os
import stat
import tomllib
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args

from sims.processes.credentials import Credentials, make_credentials
from sims.processes.federation import Federation, clean_environment, describe
from strategies.scenario import FlatValue

CONFIG: dict[str, FlatValue] = {
    "partition-id": 1,
    "requests-path": '/a folder/it\'s "mine"/ä=1.jsonl',
}


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Those of two nodes."""
    return make_credentials(tmp_path_factory.mktemp("c") / "made", 2)


@pytest.fixture
def federation(credentials: Credentials, tmp_path: Path) -> Federation:
    """A federation that is laid out, and nothing of which runs."""
    return describe(
        tmp_path,
        [{"partition-id": 0}, CONFIG],
        credentials,
        {"PATH": os.defpath},
        database=True,
        apart=True,
        warm=True,
    )


def option(command: list[str], name: str) -> str:
    """Give an option's value."""
    return command[command.index(name) + 1]


def test_a_node_config_arrives_as_flower_reads_it(federation: Federation) -> None:
    """Whatever is in a path."""
    config = option([*federation.nodes[1].command], "--node-config")
    assert parse_config_args([config]).items() >= CONFIG.items()


def test_every_node_has_a_name(credentials: Credentials, tmp_path: Path) -> None:
    """Logs, status and lists show it; a name that was given stays."""
    nodes: list[dict[str, FlatValue]] = [{"partition-id": 0}, {"name": "Hospital A"}]
    found = describe(tmp_path, nodes, credentials, {"PATH": os.defpath}).nodes
    configs = [option([*node.command], "--node-config") for node in found]
    names = [parse_config_args([config])["name"] for config in configs]
    assert names == ["party-0", "Hospital A"]


def test_all_listen_on_the_loopback_interface_at_ports_of_their_own(
    federation: Federation,
) -> None:
    """With TLS, and keys to join by."""
    programs = [federation.server, *federation.nodes]
    for each in programs:
        assert option([*each.command], "--host") == "127.0.0.1"
        assert "--insecure" not in each.command
    ports = {option([*each.command], "--port") for each in programs}
    assert len(ports) == 3
    assert "--enable-supernode-auth" in federation.server.command
    keys = [
        option([*node.command], "--auth-supernode-private-key")
        for node in federation.nodes
    ]
    assert keys == [str(federation.credentials.node_key(each)) for each in (0, 1)]


def test_nobody_shares_a_home_but_a_node_and_its_keeper(
    federation: Federation,
) -> None:
    """Flower's bundles and the parties' folders lie there."""
    nodes = [node.environment["FLWR_HOME"] for node in federation.nodes]
    keepers = [each.environment["FLWR_HOME"] for each in federation.keepers]
    assert keepers == nodes
    assert len({federation.server.environment["FLWR_HOME"], *nodes}) == 3
    assert len({program.log for program in federation.programs}) == 6


def test_the_connection_trusts_the_federations_authority_alone(
    federation: Federation,
) -> None:
    """By Flower's own configuration file."""
    home = Path(federation.link.environment["FLWR_HOME"])
    tables = tomllib.loads((home / "config.toml").read_text())["superlink"]
    assert tables[federation.link.connection] == {
        "address": f"127.0.0.1:{federation.port}",
        "root-certificates": str(federation.credentials.authority),
    }


def test_what_starts_server_apps_shares_a_secret_with_the_superlink(
    federation: Federation,
) -> None:
    """Which nobody else can read."""
    assert federation.executor is not None
    name = "--superexec-auth-secret-file"
    secret = option([*federation.server.command], name)
    assert option([*federation.executor.command], name) == secret
    assert stat.S_IMODE(Path(secret).stat().st_mode) == 0o600
    assert len(Path(secret).read_bytes()) >= 32


def test_real_nodes_see_nothing_of_a_simulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would share its folders."""
    monkeypatch.setenv("COLLABEDIT_HOME", "/simulated")
    monkeypatch.setenv("OTHER", "kept")
    found = clean_environment()
    assert "COLLABEDIT_HOME" not in found
    assert found["OTHER"] == "kept"
