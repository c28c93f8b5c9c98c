"""What is shown of trials while they run."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sims.studies.running import progress
from sims.studies.running.progress import estimate, trial_progress


def test_progress_counts_all_trials_and_estimates_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mean time of those that were run, times those that are left."""
    now = iter([0.0, 30.0, 60.0])
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr(progress, "time", clock)
    console = Console(file=io.StringIO(), width=200)
    with trial_progress(console, total=6, kept=1, taken=2, bars=False) as report:
        report("seed 0  ties", 29.5)
        report("seed 1  ties", 29.5)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "1 of 6 trials are finished already",
        "2 of 6 trials are taken from earlier runs",
        "4/6  seed 0  ties  29.5 s; about 60 s left",
        "5/6  seed 1  ties  29.5 s; about 30 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, ""), (30.0, "about 30 s"), (600.0, "about 10 min")]
)
def test_an_estimate_is_in_minutes_where_it_is_long(seconds: float, words: str) -> None:
    """And left out at the end."""
    assert words in estimate(seconds)
    assert bool(estimate(seconds)) == bool(words)
