"""Nodes that are not registered are refused, whatever credentials they show."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from sims.processes.credentials import Credentials, make_credentials
from sims.processes.federation import (
    Federation,
    clean_environment,
    describe_node,
)
from sims.processes.programs import Program
from tests.hosts import Hosts
from tests.sites import wait_until

UNAUTHORIZED = "401"
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
