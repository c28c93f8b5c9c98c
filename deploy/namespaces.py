"""A federation on hosts of its own, all of them network namespaces of this machine.

Each host has its own network stack with one address and meets the others through a
switch, which is a namespace, too: this machine's own network is left as it is. The
SuperLink runs on one host and each SuperNode on another, with TLS under the server's
name and with node authentication, and the operator works on the SuperLink's host::

    sudo .venv/bin/python -m deploy.namespaces --nodes 2

It needs root and the program ``ip`` (Linux's iproute2), and removes all that it made.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from editing.base.errors import InputError
from server.output import refuse_existing
from sims.errors import RunFailedError
from sims.processes.credentials import Credentials, make_credentials
from sims.processes.federation import (
    clean_environment,
    describe_keeper,
    make_place,
    party_name,
)
from sims.processes.programs import Program
from sims.processes.superlink import (
    APP,
    QUIET,
    executable,
    interruptible,
    last_lines,
    scratch_folder,
    write_toml,
)
from sims.splitting import SplitOrder, split_source
from strategies.scenario import FlatValue

BAD_INPUT, FAILED, SKIPPED = 2, 1, 77
"""Exit codes; the last one means skipped, as in test harnesses."""

SERVER = "superlink.test"
"""The name that nodes know the server by; ``test`` is reserved (RFC 2606)."""

PORT = 8000
"""Where the SuperLink listens, and each SuperNode for its own client processes."""

NETWORK = "10.213.77"
CONFIGURATION = Path("/etc/netns")
"""Files of ``/etc`` for one namespace, as ``ip netns exec`` shows them."""

MODEL = APP / "sims" / "embedded"
SCENARIO = APP / "sims" / "scenarios" / "quick.toml"
START_SECONDS = 60.0


@dataclass(frozen=True)
class Host:
    """A network namespace that plays a host.

    Attributes:
        namespace: Its name.
        address: Its address in the network of all.
    """

    namespace: str
    address: str

    def command(self, words: Sequence[str]) -> list[str]:
        """Write the command that runs a program on this host."""
        return ["ip", "netns", "exec", self.namespace, *words]


def reason_to_skip() -> str | None:
    """Return why this machine cannot simulate hosts; None if it can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and the program `ip` (iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"ce-{os.getpid()}-probe"
    done = subprocess.run(
        ["ip", "netns", "add", probe], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return f"network namespaces cannot be made here: {done.stderr.strip()}"
    ip("netns", "delete", probe)
    return None


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Yield hosts that reach each other; the first one has the server's name.

    Args:
        count: How many, 250 at most.
    """
    mark = f"ce-{os.getpid()}"
    switch = f"{mark}-switch"
    with ExitStack() as stack:
        stack.enter_context(namespace(switch))
        ip("-n", switch, "link", "add", "switch", "type", "bridge")
        ip("-n", switch, "link", "set", "switch", "up")
        made = []
        for number in range(count):
            host = Host(f"{mark}-{number}", f"{NETWORK}.{1 + number}")
            stack.enter_context(namespace(host.namespace))
            plug(host, switch, f"port{number}")
            made.append(host)
        yield made


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """Yield a network namespace in which the server's name has its address."""
    ip("netns", "add", name)
    files = CONFIGURATION / name
    existed = CONFIGURATION.exists()
    try:
        files.mkdir(parents=True)
        lines = f"127.0.0.1 localhost\n{NETWORK}.1 {SERVER}\n"
        (files / "hosts").write_text(lines, encoding="utf-8")
        ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "delete", name)
        shutil.rmtree(files, ignore_errors=True)
        if not existed:
            CONFIGURATION.rmdir()


def plug(host: Host, switch: str, port: str) -> None:
    """Connect a host with a switch by a pair of virtual interfaces."""
    ends = ["peer", "name", "eth0", "netns", host.namespace]
    ip("-n", switch, "link", "add", port, "type", "veth", *ends)
    ip("-n", switch, "link", "set", port, "master", "switch", "up")
    ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    ip("-n", host.namespace, "link", "set", "eth0", "up")


def ip(*words: str) -> None:
    """Call ``ip``.

    Raises:
        RunFailedError: If it fails.
    """
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RunFailedError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")


def link_program(folder: Path, host: Host, made: Credentials) -> Program:
    """Describe the SuperLink of the federation."""
    command = [executable("flower-superlink"), "--host", "0.0.0.0"]
    command += ["--port", str(PORT), "--enable-supernode-auth"]
    command += ["--ssl-ca-certfile", str(made.authority)]
    command += ["--ssl-certfile", str(made.server_certificate)]
    command += ["--ssl-keyfile", str(made.server_key)]
    command += ["--disable-runtime-dependency-installation"]
    place = make_place(folder / "superlink", clean_environment())
    return place.program("superlink", host.command(command))


def node_programs(
    folder: Path, host: Host, made: Credentials, number: int, requests: Path
) -> list[Program]:
    """Describe the SuperNode of one party, and what forks its client processes."""
    environment = clean_environment()
    place = make_place(folder / f"node_{number}", environment)
    settings = place.folder / "node.toml"
    config: dict[str, FlatValue] = {
        "name": party_name(number),
        "partition-id": number,
        "requests-path": str(requests),
        "model-path": str(MODEL),
    }
    settings.write_text(write_toml(config), encoding="utf-8")
    command = [executable("flower-supernode"), "--superlink", f"{SERVER}:{PORT}"]
    command += ["--root-certificates", str(made.authority)]
    command += ["--auth-supernode-private-key", str(made.node_key(number))]
    command += ["--isolation", "process", "--host", "127.0.0.1", "--port", str(PORT)]
    command += ["--node-config", str(settings)]
    node = place.program(f"node {number}", host.command(command))
    keeper = describe_keeper(folder, number, PORT, environment)
    return [node, replace(keeper, command=host.command(keeper.command))]


def wait_until_healthy(host: Host, server: Program, made: Credentials) -> None:
    """Wait for the SuperLink to answer under its name.

    Raises:
        RunFailedError: If it ends or stays silent.
    """
    words = ["healthy", f"https://{SERVER}:{PORT}/health"]
    words += ["--authority", str(made.authority)]
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.is_running:
        if take_step(host, words) == 0:
            return
    state = "did not answer" if server.is_running else "ended"
    raise RunFailedError(f"the SuperLink {state}: {last_lines(server.log)}")


def take_step(host: Host, words: Sequence[str]) -> int:
    """Take a step of `deploy.steps` on a host, and give its exit code."""
    command = host.command([sys.executable, "-m", "deploy.steps", *words])
    environment = {**clean_environment(), **QUIET}
    return subprocess.run(command, cwd=APP, env=environment, check=False).returncode


def lay_out_public_files(folder: Path, made: Credentials) -> Path:
    """Copy what an operator needs: the authority's certificate and the public keys."""
    public = folder / "public"
    (public / "keys").mkdir(parents=True)
    shutil.copy(made.authority, public / "ca.crt")
    for number in made.node_numbers():
        shutil.copy(made.node_public_key(number), public / "keys")
    return public


def federate(folder: Path, nodes: int, output: Path, settings: Sequence[str]) -> None:
    """Run the quick scenario among hosts of its own.

    Args:
        folder: For all that is written on the way.
        nodes: How many hosts apart from the SuperLink's.
        output: The folder to make for the results.
        settings: What is put over the scenario, as ``table.key=value``.

    Raises:
        RunFailedError: If it ended without a result.
    """
    made = make_credentials(folder / "credentials", nodes, [SERVER])
    split_source(SplitOrder(source="embedded", parties=nodes, sizes=4), folder / "own")
    public = lay_out_public_files(folder, made)
    operator = ["--superlink", f"{SERVER}:{PORT}", "--public", str(public)]
    operator += ["--scratch", str(folder / "operator")]
    chosen = [f'output.directory="{output}"', *settings]
    given = [word for each in chosen for word in ("--set", each)]
    with hosts(1 + nodes) as (first, *others), ExitStack() as programs:
        server = start(programs, link_program(folder, first, made))
        wait_until_healthy(first, server, made)
        if take_step(first, ["register", *operator]) != 0:
            raise RunFailedError("the nodes were not registered")
        for number, host in enumerate(others):
            requests = folder / "own" / f"party_{number}.jsonl"
            for program in node_programs(folder, host, made, number, requests):
                start(programs, program)
        run = ["run", *operator, "--model", str(MODEL), *given, str(SCENARIO)]
        if take_step(first, run) != 0:
            raise RunFailedError("the run did not complete; see above")


def start(programs: ExitStack, program: Program) -> Program:
    """Start a program that ends with a block."""
    programs.callback(program.terminate)
    program.start()
    return program


def main(words: Sequence[str] | None = None) -> int:
    """Run a federation with the options of the command line, and print the result.

    Returns:
        0, 1 if the run failed, or `SKIPPED` where nothing could be tried.
    """
    parser = argparse.ArgumentParser(
        prog="python -m deploy.namespaces", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("results/namespaces"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args(words)
    reason = reason_to_skip()
    if reason is not None:
        sys.stderr.write(f"Skipped: {reason}\n")
        return SKIPPED
    output = arguments.output.absolute()
    try:
        refuse_existing(output)
        with interruptible(), scratch_folder() as folder:
            federate(folder, arguments.nodes, output, arguments.settings)
    except (InputError, RunFailedError) as error:
        sys.stderr.write(f"Error: {' '.join(str(error).split())}\n")
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    sys.stdout.write(f"{1 + arguments.nodes} hosts; results: {output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
