"""TensorBoard shows the numbers of each round."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from editing.base.errors import InputError
from server.monitoring.events import Event, RunEnded
from server.monitoring.tensorboard_log import TensorBoardLog, numbers_of
from tests.server.events import ended, exchanged, merging


def write(folder: Path, events: Sequence[Event]) -> None:
    """Log events as one process does."""
    log = TensorBoardLog(folder)
    for event in events:
        log(event)


def scores_of(folder: Path, name: str = "score") -> list[tuple[int, float]]:
    """Read rounds and values as TensorBoard does."""
    found = EventAccumulator(str(folder))
    found.Reload()
    return [(each.step, each.value) for each in found.Scalars(name)]


def test_every_number_of_a_round_stands_at_its_round(tmp_path: Path) -> None:
    """Under the merge that it is of."""
    start, end = merging(), RunEnded(folder="/results")
    rounds = [ended(0, score=1.0), ended(1, (7, "late"), score=2.0)]
    write(tmp_path, [start, exchanged(0), *rounds, end])
    assert scores_of(tmp_path / "collabedit") == [(0, 1.0), (1, 2.0)]
    assert scores_of(tmp_path / "collabedit", "refusals") == [(0, 0.0), (1, 1.0)]
    tag = "groups/rewrite_acc.known"
    assert scores_of(tmp_path / "collabedit", tag) == [(0, 25.0), (1, 25.0)]


def test_a_resumed_run_replaces_the_rounds_that_it_repeats(tmp_path: Path) -> None:
    """Of rounds that were not completed the later numbers count."""
    write(tmp_path, [merging("ties"), ended(1, score=1.0), ended(2, score=2.0)])
    write(
        tmp_path,
        [merging("ties", 1), ended(2, score=3.0), RunEnded(folder="/results")],
    )
    assert scores_of(tmp_path / "ties") == [(1, 1.0), (2, 3.0)]


def test_without_the_package_the_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done, with what to install."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path / "tb")
    assert list(tmp_path.iterdir()) == []


def test_texts_and_lists_are_no_numbers() -> None:
    """A table within a table has both names."""
    metrics = {"a": 1, "b": None, "c": "2", "d": [3], "e": {"f": {"g": 4.5}}}
    assert list(numbers_of(metrics)) == [("a", 1.0), ("e/f/g", 4.5)]
