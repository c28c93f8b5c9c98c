"""Each round is one line, and each exchange with a node, however often a run stops."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from server.monitoring.metrics_log import ExchangeLog, LineFile, MetricsLog
from server.monitoring.progress import Event, MergeStart, RunEnd
from server.report.data import RoundMetrics
from tests.server.events import NOW, Clock, ended, exchanged


class Timer:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        """Begin anywhere."""
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def lines_of(path: Path) -> list[dict[str, object]]:
    """Read what is there."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def rounds_of(path: Path) -> list[tuple[object, object]]:
    """Merge and round of each line."""
    return [(line["merge"], line["round"]) for line in lines_of(path)]


def write_metrics(path: Path, events: Sequence[Event]) -> None:
    """Let a process tell of events."""
    log = MetricsLog(path, Clock())
    for event in events:
        log(event)


def test_a_line_has_all_that_the_report_has_of_the_round(tmp_path: Path) -> None:
    """Beside it time, merge, round, seconds and bytes."""
    path, timer = tmp_path / "metrics.jsonl", Timer()
    log = MetricsLog(path, Clock(), timer)
    log(MergeStart("collabedit", 0))
    log(exchanged(0))
    log(exchanged(1, "it failed"))
    timer.now += 2.5
    round_end = ended(1, (1001, "it failed"))
    log(round_end)
    (line,) = lines_of(path)
    told = {
        "time": NOW.isoformat(),
        "merge": "collabedit",
        "round": 1,
        "seconds": 2.5,
        "bytes_down": 200,
        "bytes_up": 10,
    }
    assert told.items() <= line.items()
    rest = {name: value for name, value in line.items() if name not in told}
    assert RoundMetrics.model_validate(rest) == round_end.metrics


def test_seconds_and_bytes_are_of_one_round(tmp_path: Path) -> None:
    """Each begins where the one before it ended."""
    path, timer = tmp_path / "metrics.jsonl", Timer()
    log = MetricsLog(path, Clock(), timer)
    log(MergeStart("collabedit", 0))
    for number, count in ((1, 1), (2, 3)):
        for _ in range(count):
            log(exchanged(0, number=number))
        timer.now += count
        log(ended(number))
    found = [(line["seconds"], line["bytes_up"]) for line in lines_of(path)]
    assert found == [(1, 10), (3, 30)]


def test_an_exchange_is_a_line_with_all_of_its_record(tmp_path: Path) -> None:
    """Of parties that failed, too."""
    path = tmp_path / "exchanges.jsonl"
    log = ExchangeLog(path, Clock())
    log(exchanged(0))
    log(exchanged(1, "it failed"))
    first, second = lines_of(path)
    assert first == {
        "time": NOW.isoformat(),
        "merge": "collabedit",
        "phase": "train.statistics",
        "round": 1,
        "node": 1000,
        "party": 0,
        "seconds": 1.235,
        "bytes_down": 100,
        "bytes_up": 10,
        "outcome": "ok",
    }
    assert (second["party"], second["outcome"]) == (1, "it failed")


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_run_that_goes_on_has_each_round_once(tmp_path: Path, finished: int) -> None:
    """Whether it was stopped before or after the round it ended with was kept."""
    metrics, exchanges = tmp_path / "metrics.jsonl", tmp_path / "exchanges.jsonl"
    whole: list[Event] = [MergeStart("collabedit", 0), *map(ended, range(4))]
    write_metrics(tmp_path / "whole.jsonl", whole)
    write_metrics(metrics, whole[:4])
    write_metrics(
        metrics,
        [
            MergeStart("collabedit", finished),
            *map(ended, range(finished + 1 if finished else 0, 4)),
        ],
    )
    assert rounds_of(metrics) == rounds_of(tmp_path / "whole.jsonl")
    log = ExchangeLog(exchanges, Clock())
    for number in (0, 1, 2):
        log(exchanged(0, number=number))
    ExchangeLog(exchanges, Clock())(MergeStart("collabedit", finished))
    kept = [(*each,) for each in rounds_of(exchanges)]
    expected = range(finished + 1) if finished else ()
    assert kept == [("collabedit", number) for number in expected]


def test_lines_of_other_merges_stay(tmp_path: Path) -> None:
    """Each merge of a comparison goes on behind its own rounds."""
    path = tmp_path / "exchanges.jsonl"
    log = ExchangeLog(path, Clock())
    log(exchanged(0, number=3, merge="ties"))
    log(exchanged(0, number=1))
    log(MergeStart("collabedit", 0))
    assert rounds_of(path) == [("ties", 3)]


@pytest.mark.parametrize("rest", ['{"merge": "collab', '{"merge": "ties", "round": 2}'])
def test_a_line_that_was_cut_off_is_mended(tmp_path: Path, rest: str) -> None:
    """One without its end is removed, one without its line break gets it."""
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, [MergeStart("ties", 0), ended(1)])
    with path.open("a") as file:
        file.write(rest)
    write_metrics(path, [MergeStart("ties", 2), ended(3)])
    whole = [("ties", 2)] if rest.endswith("}") else []
    assert rounds_of(path) == [("collabedit", 1), *whole, ("collabedit", 3)]


def test_what_does_not_concern_a_log_is_not_written(tmp_path: Path) -> None:
    """Nothing is made before there is something to say."""
    for log in (MetricsLog(tmp_path / "m", Clock()), ExchangeLog(tmp_path / "e")):
        log(RunEnd(error="x", kind="run"))
        log(MergeStart("ties", 0))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_rewritten_that_need_not_be(tmp_path: Path) -> None:
    """A file that somebody follows stays the file it is."""
    path = tmp_path / "lines"
    file = LineFile(path)
    file.append({"round": 1})
    before = path.stat().st_ino
    file.keep(lambda line: line["round"] == 1)
    assert path.stat().st_ino == before
    file.keep(lambda line: line["round"] == 2)
    assert path.read_text() == ""
