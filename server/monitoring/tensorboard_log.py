"""An observer that writes the metrics of each round for TensorBoard."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from editing.base.errors import InputError
from server.monitoring.events import Event, MergeStarted, RoundEnded, RunEnded

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog:
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

    def __call__(self, event: Event) -> None:
        """Write the numbers of an event; an observer."""
        match event:
            case MergeStarted():
                self._open(event)
            case RoundEnded():
                self._enter(event)
            case RunEnded():
                self._close()
            case _:
                return

    def _open(self, event: MergeStarted) -> None:
        """Start a merge; its repeated rounds replace the earlier ones."""
        from torch.utils.tensorboard import SummaryWriter

        self._close()
        purge = event.completed + 1 if event.completed else 0
        place = self._folder / event.merge.replace(":", ".")
        self._writer = SummaryWriter(str(place), purge_step=purge)

    def _enter(self, event: RoundEnded) -> None:
        if self._writer is None:
            return
        for name, value in numbers_of(event.metrics.model_dump(mode="json")):
            self._writer.add_scalar(name, value, event.round)
        refused = len(event.metrics.refusals)
        self._writer.add_scalar("refusals", refused, event.round)
        self._writer.flush()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def numbers_of(metrics: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """List the numbers of nested metrics, a table's under its own name and a slash."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            for inner, number in numbers_of(value):
                yield f"{name}/{inner}", number
        elif isinstance(value, int | float):
            yield name, float(value)
