"""A run on a SuperLink of the user's own, which real nodes have joined.

Nothing is started or ended but the run itself. The server writes into the run's folder
on its own machine, so that folder must be the same one there as here.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.atomic import write_whole
from sims.errors import RunFailedError
from sims.processes.federation import OWN_VARIABLES
from sims.processes.superlink import (
    FINISHED,
    SuperLink,
    follow_to_end,
    interruptible,
    scratch_folder,
    search_path,
)
from sims.runs.unfinished import CONNECTED
from strategies.scenario import FlatValue

SILENT_SECONDS = 180.0
"""For how long a SuperLink may be away before the run is given up."""


class Connected(Settings):
    """Which run of which SuperLink writes into a folder.

    Attributes:
        connection: The SuperLink, as the user's Flower configuration calls it.
        run: Flower's number of the run; empty before it has one.
    """

    connection: str
    run: str = ""


def run_on_connection(
    flat: Mapping[str, FlatValue], connection: str, draft: Path, *, verbose: bool
) -> None:
    """Run the app once on a SuperLink of the user's own.

    Args:
        flat: The run's settings, as `strategies.scenario.flatten` writes them.
        connection: The SuperLink, as the user's Flower configuration calls it.
        draft: The run's folder, which the server shares with us.
        verbose: Whether Flower's log goes to stderr as well.

    Raises:
        RunFailedError: If the SuperLink cannot be reached, the run ended without a
            result, or the server does not share the folder.
    """
    with scratch_folder() as scratch, interruptible():
        link = reach(connection, scratch)
        note(draft, Connected(connection=connection))
        run_id = link.submit(flat)
        note(draft, Connected(connection=connection, run=run_id))
        try:
            follow_to_end(
                link,
                run_id,
                verbose=verbose,
                patience=SILENT_SECONDS,
                advice=f"`flwr log {run_id} {connection}` has the complete log",
            )
        except KeyboardInterrupt:
            with suppress(RunFailedError):
                link.call(["stop", run_id, connection, "--format", "json"])
            raise
        if not (draft / str(flat["output.directory"])).is_dir():
            raise RunFailedError(
                f"the run {run_id} ended well, and its results are not in {draft}: the "
                f"SuperLink of `{connection}` has another file system. They are there, "
                "under that name. Call this command on that machine, or use a folder "
                "that both share"
            )


def reach(connection: str, scratch: Path) -> SuperLink:
    """Reach a SuperLink as the user does: with their home, from their folder."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(OWN_VARIABLES)}
    environment = {**own, "FLWR_DISABLE_UPDATE_CHECK": "1", "PATH": search_path()}
    return SuperLink(scratch, environment, connection, Path.cwd())


def note(draft: Path, known: Connected) -> None:
    """Record which run writes into a folder."""
    write_whole(draft / CONNECTED, known.model_dump_json() + "\n")


def refuse_going(draft: Path, connection: str) -> None:
    """Refuse to start a second run where the first one is still running.

    Raises:
        InputError: If one is, or the folder's run was not begun on a connection.
    """
    known = read_connected(draft)
    if not known.run:
        return
    with scratch_folder() as scratch:
        try:
            status, _ = reach(connection, scratch).status(known.run)
        except RunFailedError:  # it forgot the run or is unreachable: see below
            return
    if status != "unknown" and not status.startswith(FINISHED):
        raise InputError(
            f"--resume: the run in {draft} is still running, as {known.run} on "
            f"`{known.connection}`. See `flwr log {known.run} {known.connection}`, or "
            f"stop it first: `flwr stop {known.run} {known.connection}`. If its server "
            "was killed, Flower notices in a minute or so"
        )


def read_connected(draft: Path) -> Connected:
    """Read which run writes into a folder.

    Raises:
        InputError: If it was not begun on a connection.
    """
    try:
        return Connected.model_validate_json((draft / CONNECTED).read_bytes())
    except (OSError, ValidationError):
        raise InputError(
            f"--resume: the run in {draft} was not begun with --connection; leave it "
            "out to resume it in a simulation"
        ) from None
