"""An observer that writes the metrics of each round for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from editing.base.errors import InputError
from server.monitoring.events import MergeStarted
from server.monitoring.round_log import RoundLog
from server.monitoring.round_log import numbers_of as numbers_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog(RoundLog):
    """Writes every number of a round under its name, in one folder for each merge."""

    def __init__(self, folder: Path) -> None:
        """Write under `folder`.

        Raises:
            InputError: If TensorBoard is not installed.
        """
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise InputError(
                "`output.tensorboard` wants the package `tensorboard`, which is not "
                f"installed ({error}); run `pip install tensorboard`, or leave the "
                "setting out: events.jsonl holds the same numbers"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def open(self, event: MergeStarted) -> None:
        """Write into the merge's own folder."""
        from torch.utils.tensorboard import SummaryWriter

        purge = event.completed + 1 if event.completed else 0
        place = self._folder / event.merge.replace(":", ".")
        self._writer = SummaryWriter(str(place), purge_step=purge)

    def write(self, numbers: Mapping[str, float], number: int) -> None:
        """Write scalars."""
        if self._writer is None:
            return
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the merge's file, however the run ends."""
        del failed
        if self._writer is not None:
            self._writer.close()
            self._writer = None
