"""An observer that writes the metrics of each round for Weights & Biases."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from editing.base.errors import InputError
from server.monitoring.events import MergeStarted
from server.monitoring.round_log import RoundLog

PROJECT = "collabedit"
OFFLINE = "offline"


class WandbLog(RoundLog):
    """Writes every number of a round, in one W&B run for each merge.

    W&B is offline and keeps its runs in a folder, unless the environment says otherwise
    with ``WANDB_MODE``. Its runs describe neither the machine nor the code, and its own
    reports of errors are off.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Write under `folder`.

        Args:
            folder: It is made.
            name: The run's, which becomes the group of its merges.

        Raises:
            InputError: If W&B is not installed.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise InputError(
                "`output.wandb` wants the package `wandb`, which is not installed "
                f"({error}); run `pip install wandb`, or leave the setting out: "
                "events.jsonl holds the same numbers"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, name
        self._run: Any = None

    def open(self, event: MergeStarted) -> None:
        """Start a run of W&B's; a resumed merge is another one of the same group."""
        import wandb

        with _writing():
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                dir=self._folder,
                group=self._name,
                name=event.merge,
                config={"run": self._name, "completed": event.completed},
                mode=os.environ.get("WANDB_MODE", OFFLINE),
                settings=wandb.Settings(
                    console="off",
                    host=PROJECT,
                    x_save_requirements=False,
                    disable_code=True,
                    disable_git=True,
                    silent=True,
                    x_disable_machine_info=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                ),
            )

    def write(self, numbers: Mapping[str, float], number: int) -> None:
        """Write a row, the round as its step."""
        if self._run is not None:
            with _writing():
                self._run.log(dict(numbers), step=number)

    def close(self, *, failed: bool) -> None:
        """End W&B's run as ours ended."""
        if self._run is not None:
            with _writing():
                self._run.finish(exit_code=int(failed))
            self._run = None


@contextmanager
def _writing() -> Iterator[None]:
    """Turn an error of W&B's into one of its files, as observers raise it."""
    import wandb

    try:
        yield
    except wandb.Error as error:
        raise OSError(0, f"W&B: {error}") from None
