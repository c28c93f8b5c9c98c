"""What a capability curve is asked for, and when it is due."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from editing.evaluation.capability.config import CapabilityConfig


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tokens": 5}, "`capability.tokens` needs `capability.text`"),
        ({"every": 2}, "`capability.every` needs `capability.text` or"),
        ({"task_limit": 5}, "`capability.task-limit` needs `capability.tasks`"),
        ({"task_dir": "x", "text": "y"}, "`capability.task-dir` needs"),
        ({"text": "self"}, "name a file, or `embedded`"),
        ({"text": "hub:wikitext"}, "every round must read the same text"),
    ],
)
def test_what_nothing_reads_is_refused(given: dict[str, object], said: str) -> None:
    """By its key, with what is missing."""
    with pytest.raises(ValidationError, match=said):
        CapabilityConfig.model_validate(given)


def test_it_is_due_every_so_many_rounds_before_the_first_and_after_the_last() -> None:
    """And never if there is nothing to measure."""
    config = CapabilityConfig(text="embedded", every=3)
    assert [n for n in range(8) if config.is_due(n, 7)] == [0, 3, 6, 7]
    assert not any(CapabilityConfig().is_due(n, 7) for n in range(8))


def test_tasks_are_those_named_with_their_folder_and_limit() -> None:
    """None of them is no task."""
    assert CapabilityConfig(text="embedded").task_options is None
    chosen = CapabilityConfig(tasks=("a", "b"), task_dir="/t", task_limit=4)
    options = chosen.task_options
    assert options is not None
    assert options.names == ("a", "b")
    assert options.folder == Path("/t")
    assert options.limit == 4
