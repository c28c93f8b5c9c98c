"""Strangers are refused: nodes, parties that are others, and programs for nodes."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from flwr.common.constant import ErrorCode
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from sims.nodes.checks import ask_control, check_clock, check_control
from sims.nodes.proxy import ProxyOrder, write_proxy
from sims.processes.bundles import build_bundle, digest_of
from sims.processes.credentials import Credentials, make_credentials
from sims.processes.federation import (
    Federation,
    clean_environment,
    describe_node,
)
from sims.processes.programs import Program
from sims.processes.superlink import free_port
from tests.federation import assert_same_delta, world_requests
from tests.hosts import Hosts
from tests.sites import STORED, lay_out, run_to_end, wait_until

UNAUTHORIZED = "401"
REFUSED = ErrorCode.LOAD_CLIENT_APP_EXCEPTION
FOREIGN = {
    "pyproject.toml": """
[project]
name = "foreign"
version = "1.0.0"
description = "Asks every node for its file"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "strangers"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "clients.app:app"

[tool.flwr.app.config]
output = ""
""",
    "server/app.py": """
import json
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    asked = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
    said = [
        f"error {reply.error.code}: {reply.error.reason}"
        if reply.has_error() else reply.content["said"]["text"]
        for reply in grid.send_and_receive(asked, timeout=60)
    ]
    Path(context.run_config["output"]).write_text(json.dumps(said))
""",
    "clients/app.py": """
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.query()
def query(message, context):
    text = Path(context.node_config["requests-path"]).read_text()
    said = RecordDict({"said": ConfigRecord({"text": text})})
    return Message(said, reply_to=message)
""",
}
"""An app that shows every node's requests to whoever starts it."""

TRUST, KEY = "--root-certificates", "--auth-supernode-private-key"


def without(program: Program, *options: str) -> Program:
    """The same program, some of whose options and their values are left out."""
    words = iter(program.command)
    kept = [each for each in words if each not in options or not next(words)]
    return replace(program, command=kept)


def has_ended(program: Program) -> bool:
    """Whether a program has ended by itself."""
    return not program.is_running


@pytest.fixture
def federation(lasting_hosts: Hosts) -> Federation:
    """A SuperLink with two nodes."""
    return lasting_hosts.federation


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Keys and an authority that the SuperLink knows nothing of."""
    return make_credentials(tmp_path_factory.mktemp("foreign") / "credentials", 1)


def test_nobody_joins_without_a_registered_key_over_a_trusted_line(
    federation: Federation, foreign: Credentials, tmp_path: Path
) -> None:
    """Each stranger is turned away with a reason, and no node more is listed."""
    known, port = federation.states(), federation.port

    def stranger(number: int, trusted: Credentials, key: Path) -> Program:
        environment = clean_environment()
        return describe_node(tmp_path, number, {}, trusted, port, environment, key=key)

    ours, own = federation.credentials, federation.credentials.node_key(0)
    other = foreign.node_key(0)
    plain = without(stranger(3, ours, own), TRUST, KEY)
    strangers = {
        "Failed to activate SuperNode": stranger(0, ours, other),
        "CERTIFICATE_VERIFY_FAILED": stranger(1, foreign, own),
        "must be registered": without(stranger(2, ours, own), KEY),
        "Failed to initialize the connection": replace(
            plain, command=[*plain.command, "--insecure", "--max-retries", "1"]
        ),
    }
    for program in strangers.values():
        program.start()
    for reason, program in strangers.items():
        wait_until(partial(has_ended, program), reason)
        program.terminate()
        assert reason in program.read_log()
    assert federation.states() == known
    assert list(known.values()).count("online") == len(federation.nodes)


def test_a_registered_key_is_worth_nothing_to_who_does_not_own_it(
    federation: Federation, foreign: Credentials
) -> None:
    """Public keys are public: every request is signed with the private one."""
    public = load_ssh_public_key(federation.credentials.node_public_key(0).read_bytes())
    private = load_ssh_private_key(foreign.node_key(0).read_bytes(), None)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    request = ActivateNodeRequest(
        public_key=public_key_to_bytes(public), heartbeat_interval=30
    )
    with (
        FleetHttpClient.from_server_address(
            f"127.0.0.1:{federation.port}",
            insecure=False,
            root_certificates=federation.credentials.authority.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(private, public),
            ],
        ) as client,
        pytest.raises(Exception, match=UNAUTHORIZED),
    ):
        client.ActivateNode(request)


def test_nodes_run_no_app_but_the_approved_one(
    world: Path, tmp_path: Path, lasting_hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger who may start runs is not shown their requests.

    All hosts are started with the digest of this clone's bundle, and still run that:
    the next test has them do so.
    """
    sites = lay_out(world, tmp_path, world_requests(), 2, 1)
    lasting_hosts.give(sites.hands)
    app, output = tmp_path / "foreign", tmp_path / "said.json"
    for name, text in FOREIGN.items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text)
    digest, link = digest_of(build_bundle(app)), lasting_hosts.federation.link
    with monkeypatch.context() as patched:
        patched.setattr("sims.processes.superlink.APP", app)
        run_to_end(lasting_hosts.federation, link.submit({"output": str(output)}))
    said = json.loads(output.read_text())
    assert len(said) == len(lasting_hosts.hosts)
    assert all(each.startswith(f"error {REFUSED}: ") for each in said)
    for host in lasting_hosts.hosts:
        assert f"Refused bundle {digest}" in host.keeper.read_log()


def test_a_party_s_number_belongs_to_its_key(
    world: Path, tmp_path: Path, lasting_hosts: Hosts
) -> None:
    """Who says another's, or one that nobody has, is left out; the others are not."""
    sites = lay_out(world, tmp_path, world_requests(), 2, 1)
    credentials = lasting_hosts.federation.credentials
    keys = [credentials.node_public_key(each).read_text() for each in (0, 1)]
    with lasting_hosts.joined_by(2, claims=(0, 7)):
        lasting_hosts.give([*sites.hands, *sites.hands])
        federation = lasting_hosts.federation
        settings = {**sites.flat, "parties.keys": json.dumps(keys)}
        run_to_end(federation, federation.link.submit(settings))
    assert sites.contributors(1) == [0, 1]
    (metrics,) = sites.rounds()
    reasons = sorted(each.reason for each in metrics.refusals)
    assert len(reasons) == 2
    assert reasons[0].startswith("it claims to be party 0, and its registered key is")
    assert reasons[1].startswith("it claims to be party 7, and there are 2")
    assert_same_delta(sites.delta(), sites.edit_here([[0, 1]]), STORED)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_the_proxy_lets_nodes_in_and_nobody_else(
    lasting_hosts: Hosts, tmp_path: Path
) -> None:
    """A node joins through it; a doctor there sees closed doors, and open ones else."""
    federation = lasting_hosts.federation
    authority = federation.credentials.authority
    place, file = f"127.0.0.1:{free_port()}", tmp_path / "proxy.conf"
    order = ProxyOrder(
        PurePosixPath(authority.parent.absolute()),
        PurePosixPath(tmp_path),
        f"127.0.0.1:{federation.port}",
        place,
    )
    file.write_text(write_proxy(order))
    command = ["nginx", "-e", "stderr", "-c", str(file)]
    log = tmp_path / "proxy.log"
    with Program("proxy", command, tmp_path, clean_environment(), log).running():
        wait_until(lambda: can_be_asked(place, authority), "the proxy")
        assert not check_control(place, ask_control(place, authority)).alarm
        direct = ask_control(order.superlink, authority)
        assert check_control(order.superlink, direct).alarm
        assert direct.ends is not None
        assert not check_clock(direct).alarm
        with lasting_hosts.joined_by(1, through=place):
            assert list(federation.states().values()).count("online") == 3
    assert "error" not in log.read_text()


def can_be_asked(place: str, authority: Path) -> bool:
    """Whether a server has begun to listen."""
    try:
        ask_control(place, authority)
    except OSError:
        return False
    return True
