"""A federation that several tests share: the hosts stay, runs come and go.

A start costs more than a short run: a SuperLink, a SuperNode a party, and a process
that holds the libraries from which the party's client processes are forked. Each test
gives the parties the requests of its own run, and leaves all hosts running.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from editing.requests.edit_request import EditRequest, to_counterfact
from sims.processes.credentials import make_credentials
from sims.processes.federation import (
    ACCEPTED,
    Federation,
    clean_environment,
    deployed,
    describe_keeper,
    describe_node,
)
from sims.processes.guard import children
from sims.processes.programs import Program
from sims.processes.superlink import free_port
from strategies.scenario import FlatValue
from tests.federation import write_json

WORK_SECONDS = 0.3
"""CPU time after which a client process has its message; it needs several times that
to load the app, and only then begins to answer."""


@dataclass(frozen=True)
class Host:
    """The machine of one party.

    Attributes:
        node: Its SuperNode.
        keeper: Forks the node's client processes, one a message.
        requests: The party's file of requests.
    """

    node: Program
    keeper: Program
    requests: Path

    @property
    def programs(self) -> tuple[Program, Program]:
        """Both programs."""
        return self.node, self.keeper

    def start(self) -> None:
        """Start the machine."""
        for program in self.programs:
            program.start()

    def stop(self) -> None:
        """Shut the machine down."""
        for program in self.programs:
            program.terminate()

    def kill(self) -> None:
        """Cut its power."""
        for program in self.programs:
            program.kill()

    def clients(self) -> list[int]:
        """List its client processes."""
        programs = self.keeper.processes()[:1]
        return [
            client
            for program in programs
            for keeper in children(program)
            for client in children(keeper)
        ]

    def read_log(self) -> str:
        """Read what its programs print."""
        return "".join(program.read_log() for program in self.programs)


@dataclass(frozen=True)
class Hosts:
    """A SuperLink and the machines of some parties.

    Attributes:
        federation: All that runs from the start.
        hosts: The machines, by party; those that join later come last.
    """

    federation: Federation
    hosts: list[Host] = field(default_factory=list)

    def give(self, requests: Sequence[Sequence[EditRequest]]) -> None:
        """Write each party's requests, for the next run."""
        for host, own in zip(self.hosts, requests, strict=True):
            write_json(host.requests, [to_counterfact(request) for request in own])

    @contextmanager
    def joined_by(
        self, count: int, claims: Sequence[int] = (), through: str = ""
    ) -> Iterator[None]:
        """Add machines, and shut them down after the block.

        Args:
            count: How many.
            claims: Which party each says it is; its own number if there are none.
            through: The address of a proxy; the SuperLink's own if empty.
        """
        first, folder = len(self.hosts), self.federation.folder
        for claim in claims or range(first, first + count):
            number = len([*folder.glob("node_*")])  # machines that left have theirs
            self.federation.register(number)
            host = _describe_host(self.federation, number, claim)
            if through:
                direct = f"127.0.0.1:{self.federation.port}"
                words = host.node.command
                host.node.command = [through if w == direct else w for w in words]
            self.hosts.append(host)
            host.start()
        try:
            for host in self.hosts[first:]:
                host.node.wait_for(ACCEPTED)
            yield
        finally:
            for host in self.hosts[first:]:
                host.stop()
            del self.hosts[first:]


def _describe_host(federation: Federation, number: int, claim: int) -> Host:
    """Lay out one more machine, which says that it is some party."""
    folder, environment = federation.folder, clean_environment()
    requests, port = requests_path(folder, number), free_port()
    node = describe_node(
        folder,
        number,
        {**node_config(folder, number), "partition-id": claim},
        federation.credentials,
        federation.port,
        environment,
        warm=port,
    )
    return Host(node, describe_keeper(folder, number, port, environment), requests)


def requests_path(folder: Path, number: int) -> Path:
    """Name a party's file of requests."""
    return folder / f"requests_{number}.json"


def node_config(folder: Path, number: int) -> dict[str, FlatValue]:
    """Say which party a node is, and where its requests and the common key are."""
    path, key = str(requests_path(folder, number)), str(key_path(folder))
    return {"partition-id": number, "requests-path": path, "key-path": key}


def key_path(folder: Path) -> Path:
    """Name the file of the key that the parties share."""
    return folder / "group.key"


@contextmanager
def hosted(
    folder: Path, parties: int, *, at_most: int, apart: bool = False
) -> Iterator[Hosts]:
    """Lend a federation whose SuperLink can be started again.

    Args:
        folder: To be made, for all that is written.
        parties: How many machines run from the start.
        at_most: How many there may be with those that join later.
        apart: As `deployed` has it.
    """
    credentials = make_credentials(folder / "credentials", at_most)
    configs = [node_config(folder, number) for number in range(parties)]
    with deployed(
        folder,
        configs,
        credentials=credentials,
        database=True,
        apart=apart,
        warm=True,
    ) as federation:
        key_path(folder).write_text("6b" * 32)
        programs = zip(federation.nodes, federation.keepers, strict=True)
        yield Hosts(
            federation,
            [
                Host(*each, requests_path(folder, number))
                for number, each in enumerate(programs)
            ],
        )


def cpu_seconds(process: int) -> float:
    """Read how much CPU time a process has used; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
