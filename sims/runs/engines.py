"""What carries the messages of a run between server and parties.

Parties are simulated, in Flower's simulation or in this process; or they are real
nodes, started here for the run, or the user's own, reached by a connection of their
Flower configuration.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from editing.base.errors import InputError
from server.config import RunConfig
from sims.console import hush_libraries
from sims.errors import RunFailedError, RunLostError
from sims.processes.fork_server import ForkServer
from sims.runs.flower import Run as Run
from sims.runs.flower import simulation
from sims.runs.unfinished import CHECKPOINT, PARTIES
from strategies.methods import GLOBAL

if TYPE_CHECKING:  # it loads torch
    from sims.runs.in_process import ClientFunction

IN_PROCESS, DEPLOYMENT = "in-process", "deployment"
WITH_FILES = "with-files"
"""In this process, with parties that have files of their own, as real nodes have."""
CONNECTION = "connection:"
"""Prefix of an engine's name that is a connection."""


@contextmanager
def choose_engine(
    name: str, draft: Path, *, verbose: bool, client: "ClientFunction | None" = None
) -> Iterator[tuple[Run, ForkServer | None]]:
    """Load the engine of that name, and it alone; what it starts ends with the block.

    Flower's simulation starts at once, so other work can be done before it is needed;
    with it comes the way to a process that loads the libraries meanwhile.

    Args:
        name: ``flower``, ``in-process``, ``deployment``, ``with-files``, or
            ``connection:`` and one.
        draft: The run's folder.
        verbose: Whether Flower's log is shown.
        client: Answers for the parties instead of their app, in this process alone.

    Raises:
        InputError: If the engine takes no such client.
    """
    if client is not None and name != IN_PROCESS:
        raise InputError(
            f"engine `{name}`: what answers instead of the parties' app runs in this "
            f"process alone. Leave the engine out, or choose `{IN_PROCESS}`"
        )
    if name in {IN_PROCESS, WITH_FILES}:
        from sims.runs.deployment import run_with_files
        from sims.runs.in_process import run_in_process

        hush_libraries()
        logging.getLogger("flwr").setLevel(logging.INFO if verbose else logging.WARNING)
        with_files = partial(run_with_files, draft=draft)
        here = partial(run_in_process, client=client) if client else run_in_process
        yield (here if name == IN_PROCESS else with_files), None
    elif name == DEPLOYMENT:
        from sims.runs.deployment import run_deployed

        yield (lambda flat, _: run_deployed(flat, draft, verbose=verbose)), None
    elif name.startswith(CONNECTION):
        from sims.runs.connections import run_on_connection

        own = name.removeprefix(CONNECTION)
        yield (
            (lambda flat, _: run_on_connection(flat, own, draft, verbose=verbose)),
            None,
        )
    else:
        with simulation(verbose=verbose) as ways:
            yield ways


def describe_start(name: str, config: RunConfig) -> str:
    """Describe what an engine starts, which may take half a minute."""
    parties = config.parties.count
    masks = " Sums are masked." if config.privacy.secure_sum else ""
    if name in {IN_PROCESS, WITH_FILES}:
        return f"Starting the server and {parties} parties in this process …"
    if name == DEPLOYMENT:
        return f"Starting a SuperLink and {parties} SuperNodes …{masks}"
    if name.startswith(CONNECTION):
        return f"Sending the run to `{name.removeprefix(CONNECTION)}` …{masks}"
    return f"Starting Flower's simulation of {parties} parties …"


def has_own_nodes(name: str) -> bool:
    """Whether the user's own nodes take part, whose requests are not known here."""
    return name.startswith(CONNECTION)


@contextmanager
def advising(draft: Path, engine: str, command: str = "run") -> Iterator[None]:
    """Print how to resume a run that was stopped after a completed round.

    Args:
        draft: The run's folder.
        engine: What it runs on.
        command: What it was begun by, ``run`` or ``compare``.

    Raises:
        RunFailedError: If it failed.
    """
    words = f"python -m sims {command} --resume {draft}"
    if has_own_nodes(engine):
        words += f" --connection {engine.removeprefix(CONNECTION)}"
    advice = f"Resume it after its last completed round with: {words}"
    try:
        yield
    except (RunFailedError, KeyboardInterrupt) as stopped:
        is_kept = any((draft / CHECKPOINT).glob("*.safetensors"))
        if isinstance(stopped, KeyboardInterrupt):
            nothing = "No round was completed, so nothing is kept."
            sys.stderr.write(f"Stopped. {advice if is_kept else nothing}\n")
            raise
        if not is_kept and not isinstance(stopped, RunLostError):
            raise
        raise type(stopped)(f"{stopped}. {advice}") from None


def name_run(config: RunConfig, folder: Path, engine: str) -> RunConfig:
    """Name the run, so that its parties find their folders when it is resumed.

    Simulated parties share one folder in that of the run; real nodes serve many runs.
    """
    name = PARTIES
    if has_own_nodes(engine):
        name = config.run.name or f"{folder.name}-{token_hex(4)}"
    named = config.run.model_copy(update={"name": name})
    return config.model_copy(update={"run": named})


def search_path_of(config: RunConfig) -> str:
    """PYTHONPATH for the server: where the merges from outside the tree were found.

    Flower starts the server in another folder, from which they cannot be imported.
    """
    places = [os.environ.get("PYTHONPATH", "")]
    for name in config.compared:
        if ":" in name:
            spec = find_spec(name.partition(":")[0].partition(".")[0])
            assert spec is not None, "the settings are validated"
            packages = spec.submodule_search_locations
            file = next(iter(packages), None) if packages else spec.origin
            places.append(str(Path(str(file)).absolute().parent))
    return os.pathsep.join(filter(None, dict.fromkeys(places)))


def check_engine(config: RunConfig, engine: str) -> None:
    """Refuse a run that real nodes cannot do.

    Raises:
        InputError: If it needs all requests in one place.
    """
    if engine != DEPLOYMENT and not has_own_nodes(engine):
        return
    if GLOBAL in config.compared:
        pooled = "`compare` runs `global`, which" if config.run.compare else "`global`"
        others = "others (--merges)" if config.run.compare else "another (merge.name)"
        raise InputError(
            f"{pooled} needs all requests in one place, and each real node keeps its "
            f"own. Choose {others}, or simulate: leave --connection out"
        )
