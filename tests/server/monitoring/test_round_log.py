"""Whatever draws the curves is given the same numbers."""

from collections.abc import Mapping

from server.monitoring.events import Event, MergeStarted, RunEnded
from server.monitoring.round_log import RoundLog, numbers_of
from tests.server.events import ended, exchanged, merging


class Written(RoundLog):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.calls: list[object] = []

    def open(self, event: MergeStarted) -> None:
        """Keep the merge."""
        self.calls.append(event.merge)

    def write(self, numbers: Mapping[str, float], number: int) -> None:
        """Keep two of the numbers."""
        self.calls.append((number, numbers["score"], numbers["refusals"]))

    def close(self, *, failed: bool) -> None:
        """Keep the outcome."""
        self.calls.append(failed)


def test_a_merge_ends_where_the_next_begins_or_the_run_ends() -> None:
    """Rounds stand between; exchanges are none of its business."""
    log = Written()
    events: list[Event] = [
        merging(),
        exchanged(0),
        ended(1, (7, "late"), score=2.0),
        merging("ties"),
        ended(1, score=3.0),
        RunEnded(error="the disk is full"),
    ]
    for event in events:
        log(event)
    assert log.calls == [
        *[False, "collabedit", (1, 2.0, 1.0)],
        *[False, "ties", (1, 3.0, 0.0)],
        True,
    ]


def test_nested_numbers_have_both_names() -> None:
    """Texts and lists are none."""
    assert dict(numbers_of({"a": {"b": 1, "c": "2"}, "d": [3]})) == {"a/b": 1.0}
