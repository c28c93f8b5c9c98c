"""A federation of real processes on this machine: one SuperLink, one SuperNode a party.

All of it listens on the loopback interface alone, with TLS and node authentication,
and ends with the block that asked for it. Each program has a Flower home, a working
folder and a log of its own, as if it had a machine of its own::

    nodes = [{"partition-id": 0, "requests-path": "/private/0.jsonl"}, ...]
    with deployed(folder, nodes) as federation:
        run = federation.link.submit(flat)         # settings, as `flatten` writes them
        federation.nodes[0].wait_for("flwr-clientapp process")
        federation.nodes[0].kill()                 # as a power cut does
        federation.nodes[0].restart()
        follow_to_end(federation.link, run)
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sims.errors import RunFailedError
from sims.processes.credentials import Credentials, make_credentials
from sims.processes.programs import Program
from sims.processes.superlink import (
    APP,
    CONNECTION,
    QUIET,
    SuperLink,
    executable,
    free_port,
    last_lines,
    search_path,
    wait_until_healthy,
    write_connection,
    write_toml,
)
from strategies.scenario import FlatValue

OWN_VARIABLES = "COLLABEDIT_"
"""Variables of a simulation's parties begin so; a real node must not see them."""

SECRET_BYTES = 32
ONLINE_SECONDS = 120.0
ACCEPTED = "SuperNode ID:"
"""What a node prints once the SuperLink has let it in."""

LIST_SECONDS = 0.3

NodeConfig = Mapping[str, FlatValue]


def party_name(number: int) -> str:
    """Name a party in logs, status and lists where its operator has not named it."""
    return f"party-{number}"


@dataclass(frozen=True)
class Federation:
    """What was started, and how to reach it.

    Attributes:
        folder: Holds homes, logs and credentials of all.
        credentials: Who may join.
        port: Where the SuperLink listens.
        server: The program of the SuperLink.
        link: Its SuperLink.
        nodes: The programs of the SuperNodes, by party.
        executor: Starts server apps where the SuperLink itself does not; else None.
        keepers: Start the nodes' client processes where these themselves do not.
    """

    folder: Path
    credentials: Credentials
    port: int
    server: Program
    link: SuperLink
    nodes: tuple[Program, ...]
    executor: Program | None = None
    keepers: tuple[Program, ...] = ()

    @property
    def programs(self) -> list[Program]:
        """All programs."""
        executors = [self.executor] if self.executor is not None else []
        return [self.server, *executors, *self.nodes, *self.keepers]

    def join(self, number: int) -> None:
        """Register a node and start it."""
        self.register(number)
        self.nodes[number].start()
        if self.keepers:
            self.keepers[number].start()

    def restart_server(self) -> None:
        """Start the SuperLink again, at its port, and wait until it answers."""
        self.server.restart()
        self.wait_for_server()

    def wait_for_server(self) -> None:
        """Wait until the SuperLink answers."""
        authority = self.credentials.authority
        server = self.server
        wait_until_healthy(server.guard, self.port, server.log, authority)

    def register(self, number: int) -> int:
        """Register a node's public key with the SuperLink, and return the node's id."""
        key = str(self.credentials.node_public_key(number).absolute())
        command = ["supernode", "register", key, self.link.connection]
        command += ["--name", party_name(number)]
        answer = self.link.call([*command, "--format", "json"])
        return int(str(answer["node-id"]))

    def states(self) -> dict[int, str]:
        """Return the state of each registered node, such as ``online``, by node id.

        Of a SuperLink that does not answer, none.
        """
        words = ["supernode", "list", self.link.connection, "--format", "json"]
        try:
            listed = self.link.call(words)["nodes"]
        except RunFailedError:
            return {}
        assert isinstance(listed, list)
        return {int(each["node-id"]): str(each["status"]) for each in listed}

    def wait_until_online(self, count: int | None = None) -> None:
        """Wait until `count` nodes are online; all of them if None.

        Raises:
            RunFailedError: If a node ends, or the time is over.
        """
        wanted = len(self.nodes) if count is None else count
        deadline = time.monotonic() + ONLINE_SECONDS
        while list(self.states().values()).count("online") < wanted:
            ended = [node for node in self.nodes if not node.is_running]
            if len(self.nodes) - len(ended) < wanted or time.monotonic() > deadline:
                said = (f"{node.name}: {last_lines(node.log)}" for node in ended)
                raise RunFailedError(
                    f"{wanted} nodes were to come online and did not; {'; '.join(said)}"
                )
            time.sleep(LIST_SECONDS)


@contextmanager
def deployed(
    folder: Path,
    nodes: Sequence[NodeConfig],
    *,
    credentials: Credentials | None = None,
    database: bool = False,
    apart: bool = False,
    warm: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Federation]:
    """Yield a federation whose nodes are all online; it ends with the block.

    Args:
        folder: An empty folder for all that is written.
        nodes: Each node's config, as Flower's ``--node-config`` takes it.
        credentials: Those of as many nodes; new ones if None.
        database: Whether the SuperLink keeps its state in a file, so that it can be
            started again.
        apart: Whether server apps are started by a process next to the SuperLink, so
            that a run lives on while the SuperLink is started again.
        warm: Whether client processes are forked from one that has the libraries
            loaded, see `sims.processes.warm_clients`; it does not end with its node.
        environment: Variables for all programs, over ours.
    """
    given = credentials or make_credentials(folder / "credentials", len(nodes))
    variables = {**clean_environment(), **(environment or {})}
    federation = describe(
        folder, nodes, given, variables, database=database, apart=apart, warm=warm
    )
    try:
        federation.server.start()
        federation.wait_for_server()
        if federation.executor is not None:
            federation.executor.start()
        with ThreadPoolExecutor() as pool:
            list(pool.map(federation.join, range(len(nodes))))
        for node in federation.nodes:
            node.wait_for(ACCEPTED, ONLINE_SECONDS)  # cheaper than asking Flower
        federation.wait_until_online()
        yield federation
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Program.terminate, federation.programs))


def describe(
    folder: Path,
    nodes: Sequence[NodeConfig],
    credentials: Credentials,
    environment: Mapping[str, str],
    *,
    database: bool = False,
    apart: bool = False,
    warm: bool = False,
) -> Federation:
    """Lay out a federation of which nothing runs yet; `deployed` has the arguments."""
    port = free_port()
    place = make_place(folder / "superlink", environment)
    connection = write_connection(CONNECTION, port, credentials.authority.absolute())
    (place.home / "config.toml").write_text(connection, encoding="utf-8")
    own = ["--database", str(place.home / "state.db")] if database else []
    secret = place.home / "executor.secret"
    if apart:
        secret.touch(mode=0o600)
        secret.write_bytes(os.urandom(SECRET_BYTES))
        own += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
    server = place.program("superlink", link_command(credentials, port) + own)
    ports = [free_port() if warm else None for _ in nodes]
    return Federation(
        folder,
        credentials,
        port,
        server,
        SuperLink(place.folder, place.environment),
        tuple(
            describe_node(
                folder,
                number,
                config,
                credentials,
                port,
                environment,
                warm=ports[number],
            )
            for number, config in enumerate(nodes)
        ),
        place.program("executor", executor_command(credentials, port, secret))
        if apart
        else None,
        tuple(
            describe_keeper(folder, number, each, environment)
            for number, each in enumerate(ports)
            if each is not None
        ),
    )


def describe_node(
    folder: Path,
    number: int,
    config: NodeConfig,
    credentials: Credentials,
    port: int,
    environment: Mapping[str, str],
    *,
    key: Path | None = None,
    warm: int | None = None,
) -> Program:
    """Lay out one SuperNode, which is registered and started by others.

    Args:
        folder: Holds a folder for each program.
        number: Which node it is.
        config: Its node config.
        credentials: Whose server it trusts.
        port: Where the SuperLink listens.
        environment: Its environment, but for what is its own.
        key: Its private key; the one that `credentials` has of that number if None.
        warm: The port at which it hands messages to a keeper; None if it starts its
            client processes itself.
    """
    place = make_place(folder / f"node_{number}", environment)
    settings = place.folder / "node.toml"
    named = {"name": party_name(number), **config}
    settings.write_text(write_toml(named), encoding="utf-8")
    command = [executable("flower-supernode"), "--superlink", f"127.0.0.1:{port}"]
    command += ["--root-certificates", str(credentials.authority.absolute())]
    own_key = (key or credentials.node_key(number)).absolute()
    command += ["--auth-supernode-private-key", str(own_key)]
    command += ["--host", "127.0.0.1", "--port", str(warm or free_port())]
    command += ["--isolation", "process"] if warm else []
    return place.program(f"node {number}", [*command, "--node-config", str(settings)])


def describe_keeper(
    folder: Path, number: int, port: int, environment: Mapping[str, str]
) -> Program:
    """Lay out what forks a node's client processes; it lives in the node's place.

    It runs the app of this clone alone.
    """
    from sims.processes.bundles import build_bundle, digest_of  # loads Flower

    place = Place.of(folder / f"node_{number}", {**environment, "PYTHONPATH": str(APP)})
    command = [sys.executable, "-m", "sims.processes.warm_clients", "--insecure"]
    command += ["--runtime-api-address", f"127.0.0.1:{port}"]
    command += ["--only-bundle", digest_of(build_bundle(APP))]
    return place.program(f"keeper {number}", command)


@dataclass(frozen=True)
class Place:
    """The folder and files of one program.

    Attributes:
        folder: Holds its home, its log and the empty folder that it is started in.
        environment: Its environment.
    """

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, environment: Mapping[str, str]) -> "Place":
        """Find the place in a folder, which is made by `make_place`."""
        home = str(folder.absolute() / "home")
        return cls(folder.absolute(), {**environment, "FLWR_HOME": home})

    @property
    def home(self) -> Path:
        """Flower's home of the program."""
        return self.folder / "home"

    def program(self, name: str, command: Sequence[str]) -> Program:
        """Describe a program that lives here."""
        log = self.folder / f"{name.split()[0]}.log"
        return Program(name, command, self.folder / "empty", self.environment, log)


def make_place(folder: Path, environment: Mapping[str, str]) -> Place:
    """Make the folders of one program."""
    place = Place.of(folder, environment)
    for each in (place.home, place.folder / "empty"):
        each.mkdir(parents=True)
    return place


def link_command(credentials: Credentials, port: int) -> list[str]:
    """Write the command of a SuperLink with TLS and node authentication."""
    command = [executable("flower-superlink"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--enable-supernode-auth"]
    for option, path in (
        ("--ssl-ca-certfile", credentials.authority),
        ("--ssl-certfile", credentials.server_certificate),
        ("--ssl-keyfile", credentials.server_key),
    ):
        command += [option, str(path.absolute())]
    return [*command, "--disable-runtime-dependency-installation"]


def executor_command(credentials: Credentials, port: int, secret: Path) -> list[str]:
    """Write the command of what starts server apps next to a SuperLink."""
    command = [executable("flower-superexec")]
    command += ["--runtime-api-address", f"127.0.0.1:{port}"]
    command += ["--root-certificates", str(credentials.authority.absolute())]
    return [*command, "--superexec-auth-secret-file", str(secret)]


def clean_environment() -> dict[str, str]:
    """Our environment, with this Python's programs and without those of simulations."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(OWN_VARIABLES)}
    return {**own, **QUIET, "PATH": search_path()}
