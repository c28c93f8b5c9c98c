"""What loggers of a run's metrics have in common, whoever draws the curves."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from server.monitoring.events import Event, MergeStarted, RoundEnded, RunEnded


class RoundLog(ABC):
    """Writes every number of a round under its name, apart for each merge.

    What cannot be written is an `OSError`: the run then continues without the logger
    (`server.monitoring.stream.EventStream`).
    """

    def __call__(self, event: Event) -> None:
        """Write the numbers of an event; an observer."""
        match event:
            case MergeStarted():
                self.close(failed=False)
                self.open(event)
            case RoundEnded():
                numbers = dict(numbers_of(event.metrics.model_dump(mode="json")))
                numbers["refusals"] = float(len(event.metrics.refusals))
                self.write(numbers, event.round)
            case RunEnded():
                self.close(failed=event.error is not None)
            case _:
                return

    @abstractmethod
    def open(self, event: MergeStarted) -> None:
        """Start a merge; its repeated rounds replace the earlier ones."""

    @abstractmethod
    def write(self, numbers: Mapping[str, float], number: int) -> None:
        """Write a round's numbers, by name; nothing without a merge."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """End the merge, if there is one.

        Args:
            failed: Whether the run did.
        """


def numbers_of(metrics: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """List the numbers of nested metrics, a table's under its own name and a slash."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            for inner, number in numbers_of(value):
                yield f"{name}/{inner}", number
        elif isinstance(value, int | float):
            yield name, float(value)
