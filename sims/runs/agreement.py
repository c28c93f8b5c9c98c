"""How far a run with real processes is from the same run in one process.

There, too, each party has a file of its own and computes its targets by itself, so both
must end with one update.
"""

from pathlib import Path

from rich.console import Console

from editing.algebra.deltas import load_delta, relative_difference
from editing.base.settings import Settings
from editing.files.atomic import write_whole
from server.config import RunConfig
from sims.console import open_console
from sims.errors import RunFailedError
from sims.processes.superlink import scratch_folder
from sims.runs.checks import settle_privacy
from sims.runs.engines import DEPLOYMENT, WITH_FILES
from sims.runs.jobs import execute, show_results

TOLERANCE = 1e-5
"""Largest relative difference between two deltas that the parties' rotations explain.

The last bits of a float32 exchange depend on the rotation, and real nodes draw theirs
from the operating system: a seed that others know would undo them.
"""

AGREEMENT = "agreement.json"
"""The file among the results that holds the comparison."""


class Agreement(Settings):
    """How far real processes are from one process with the same parties.

    Attributes:
        difference: Largest over weights of ``‖Δ − Δ'‖ / ‖Δ'‖``.
        tolerance: The largest difference that is allowed.
    """

    difference: float
    tolerance: float


def deploy_locally(config: RunConfig, output: Path, *, verbose: bool) -> None:
    """Run a scenario with real processes, and compare its update with one process's.

    Raises:
        RunFailedError: If the two differ by more than rotations explain.
    """
    config = settle_privacy(config, DEPLOYMENT)
    execute(config, output, DEPLOYMENT, verbose=verbose)
    console = open_console()
    show_results(output, console)
    found = measure_agreement(config, output)
    write_whole(output / AGREEMENT, found.model_dump_json(indent=1) + "\n")
    gap = "bit for bit equal" if found.difference == 0 else f"{found.difference:.1e}"
    console.print(
        f"Difference from the same run in one process: {gap} "
        f"(at most {found.tolerance:g} is allowed)",
        soft_wrap=True,
        highlight=False,
    )
    if not found.difference <= found.tolerance:
        raise RunFailedError(
            f"the update differs from that of one process by {found.difference:.1e} of "
            f"its size, and at most {found.tolerance:g} comes from rotations; please "
            f"report this with {output / 'params.json'}"
        )


def measure_agreement(config: RunConfig, folder: Path) -> Agreement:
    """Run the scenario in this process too, and compare the two updates."""
    with scratch_folder() as scratch:
        execute(config, scratch / "here", WITH_FILES, console=Console(quiet=True))
        reference, _ = load_delta(scratch / "here" / "delta.safetensors")
    delta, _ = load_delta(folder / "delta.safetensors")
    exact = config.run.encoding == "dense"
    return Agreement(
        difference=relative_difference(delta, reference),
        tolerance=0.0 if exact else TOLERANCE,
    )
