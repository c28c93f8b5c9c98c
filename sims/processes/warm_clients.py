"""Client processes that start warm: forked from one that has the libraries loaded.

Flower starts a process for every message, and each loads torch and transformers again,
which takes longer than most messages. This program takes the place of Flower's own
`flower-superexec` next to a SuperNode, and takes its options::

    flower-supernode --isolation process --host 127.0.0.1 --port 9094 ...
    python -m sims.processes.warm_clients --insecure --only-bundle SHA256 ...

With `--only-bundle` it runs the app in the versions that are named and no other; see
`sims.processes.bundles`. Every message still has a process of its own, which runs the
app that the run brought along, and nothing of one message is left for the next: only
libraries are shared, by the system's copying of what is written. It needs a system that
can fork, so no Windows.
"""

import argparse
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import IO

from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

from sims.processes.bundles import read_digest, run_only
from sims.processes.fork_server import status_of

LIBRARIES = (
    "flwr.clientapp",
    "flwr.supernode.runtime.run_clientapp",
    "jaxtyping",
    "pydantic",
    "safetensors.torch",
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)
"""What a client loads that is no part of the app."""

OURS = ("clients", "editing", "strategies")
"""Packages of the app, which each run brings along in its own version."""

POLL_SECONDS = "0.1"
"""How often the SuperNode is asked for a message; Flower's own default is a second."""


@dataclass(frozen=True, slots=True)
class Task:
    """One message's process, as the keeper receives it.

    Attributes:
        runtime_api_address: Where the SuperNode hands out the message.
        token: With which it does.
        insecure: Whether that is without TLS.
        root_certificates_path: Of whoever signed the SuperNode's certificate.
        parent_pid: The process with which this one ends.
    """

    runtime_api_address: str
    token: str
    insecure: bool
    root_certificates_path: str | None
    parent_pid: int | None


class WarmExecutor(SubprocessExecutor):
    """Has one kind of process forked by a keeper, and others started as Flower does."""

    def __init__(
        self,
        keeper: IO[str],
        kind: TaskType = TaskType.CLIENT_APP,
        *,
        closed: bool = False,
    ) -> None:
        """Take the pipe to the keeper, what it forks, and whether nothing else runs."""
        self.keeper, self.kind, self.closed = keeper, kind, closed

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Ask the keeper for a process; start it cold if there is no keeper.

        So is one that is to install what its app depends on, which may be other
        versions of the libraries.
        """
        if spec.task_type is not self.kind or spec.runtime_dependency_install:
            return self.launch_cold(spec, "is no plain client")
        task = {name: getattr(spec, name) for name in Task.__dataclass_fields__}
        try:
            self.keeper.write(json.dumps(asdict(Task(**task))) + "\n")
            self.keeper.flush()
        except OSError:
            return self.launch_cold(spec, "came after the keeper had ended")
        return LaunchResult.accepted()

    def launch_cold(self, spec: ExecutionSpec, reason: str) -> LaunchResult:
        """Start a process as Flower does, which looks at no bundle."""
        if self.closed:
            return LaunchResult.failed(
                f"Refused a process of the kind {spec.task_type}: it {reason}, and "
                "this node runs approved code alone (`--only-bundle`)"
            )
        return super().launch(spec)


def main() -> None:
    """Fork the keeper, then do what `flower-superexec` does."""
    os.environ.setdefault("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", POLL_SECONDS)
    approved, sys.argv[1:] = read_approved(sys.argv[1:])
    keeper = fork_keeper(partial(run_client, approved=approved))
    use_keeper(keeper, TaskType.CLIENT_APP, closed=bool(approved))
    flower_superexec()


def read_approved(words: Sequence[str]) -> tuple[frozenset[str], list[str]]:
    """Read the approved bundles off a command line; the rest is Flower's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--only-bundle", action="append", default=[], type=read_digest, dest="approved"
    )
    found, rest = parser.parse_known_args(words)
    return frozenset(found.approved), rest


def fork_keeper(run: Callable[[Task], None]) -> IO[str]:
    """Fork a process that keeps the libraries, and give the pipe that it reads."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as tasks:
            keep(tasks, run)
        os._exit(0)
    os.close(reading)
    return os.fdopen(writing, "w", encoding="utf-8")


def use_keeper(keeper: IO[str], kind: TaskType, *, closed: bool = False) -> None:
    """Have `flower-superexec` in this process ask a keeper for one kind of process.

    Args:
        keeper: The pipe to it.
        kind: What it forks.
        closed: Whether all else is refused.
    """
    executor = WarmExecutor(keeper, kind, closed=closed)
    # Flower lets nobody name an executor of his own.
    run_superexec.get_executor = lambda *_, **__: executor  # type: ignore[attr-defined]


def keep(tasks: IO[str], run: Callable[[Task], None]) -> None:
    """Load the libraries and fork a process for each task, until there are no more.

    Args:
        tasks: One JSON object a line; it ends with the process that writes it.
        run: Does a task, in its process.
    """
    load_libraries(LIBRARIES)
    fork_for_each(tasks, lambda line: run(Task(**json.loads(line))))


def fork_for_each(lines: IO[str], do: Callable[[str], None]) -> None:
    """Fork a process for each line, until there are no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for clients
    # An interrupt is for the clients, which tell their SuperNode, and for the writer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in lines:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os._exit(status_of(partial(do, line)))


def load_libraries(libraries: Sequence[str]) -> None:
    """Load what processes need, and nothing of the app.

    Raises:
        RuntimeError: If a part of the app was loaded with it: a run's own version
            would never be.
    """
    # Asking for devices otherwise starts CUDA, which no forked process can use then.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    gc.disable()  # next to nothing of what is loaded is ever free again
    for name in libraries:
        importlib.import_module(name)
    gc.enable()
    if loaded := [name for name in OURS if name in sys.modules]:
        raise RuntimeError(f"{', '.join(loaded)}: loaded before any run brought it")
    gc.collect()
    gc.freeze()  # a collection would write to every object, and so copy its page


def run_client(task: Task, approved: Collection[str] = ()) -> None:
    """Do what `flwr-clientapp` does.

    Args:
        task: The message's process.
        approved: The SHA-256 of each bundle that may run; any may if there are none.
    """
    from flwr.supercore.tls import validate_and_resolve_root_certificates
    from flwr.supernode.runtime.run_clientapp import run_clientapp

    if approved:
        run_only(approved)
    certificates = validate_and_resolve_root_certificates(
        task.root_certificates_path, task.insecure
    )
    run_clientapp(
        runtime_api_address=task.runtime_api_address,
        token=task.token,
        insecure=task.insecure,
        certificates=certificates,
        parent_pid=task.parent_pid,
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main()
