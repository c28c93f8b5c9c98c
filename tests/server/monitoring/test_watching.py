"""A run is described where its settings say, and its description is kept with it."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import server.app
from editing.base.errors import InputError
from server.checkpoints import Checkpoints, MergeProgress
from server.config import RunConfig, read_run_config
from server.monitoring.metrics_log import EXCHANGES, METRICS
from server.monitoring.progress import Progress
from server.monitoring.status import STATUS, read_status
from server.monitoring.watching import WATCHED, watch_run
from sims.errors import RunFailedError
from sims.runs.in_process import run_in_process
from strategies.scenario import FlatValue
from tests.federation import AT_ONCE, settings_of, world_requests
from tests.server.events import ended


def config_of(folder: Path, **output: FlatValue) -> RunConfig:
    """Settings of a run whose results will be in ``folder/one``."""
    flat: dict[str, FlatValue] = {"output.directory": str(folder / "one")}
    return read_run_config({**flat, **{f"output.{k}": v for k, v in output.items()}})


def watched(folder: Path, **output: FlatValue) -> Progress:
    """Begin to watch a run."""
    progress = Progress(None)
    watch_run(progress, config_of(folder, **output), folder / "one")
    return progress


def names_in(folder: Path) -> set[str]:
    """List a folder."""
    return {path.name for path in folder.iterdir()}


def run(world: Path, folder: Path, **tables: Mapping[str, FlatValue]) -> None:
    """Run both apps in this process, quickly: two parties with a request a round."""
    quick: dict[str, Mapping[str, FlatValue]] = {
        "editing": AT_ONCE,
        "parties": {"count": 2, "requests-per-round": 1},
    }
    flat = settings_of(world, **{**quick, **tables})
    flat.setdefault("output.directory", str(folder / "one"))
    run_in_process(flat, int(str(flat["parties.count"])), folder / "private")


def read_lines(path: Path) -> list[dict[str, object]]:
    """Read JSON, one object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_whole_run_is_described_by_its_results(world: Path, tmp_path: Path) -> None:
    """The lines are those of the report, and their bytes those of the exchanges."""
    prior = {"covariance": "federated", "text": str(world / "text.txt")}
    run(world, tmp_path, run={"rounds": 2}, prior=prior)
    folder = tmp_path / "one"
    assert not (tmp_path / "one.unfinished").exists()
    status = read_status(folder / STATUS)
    assert (status.run, status.state, status.round) == ("one", "finished", 2)
    assert [each.party for each in status.parties] == [0, 1]
    assert all(each.seen and each.error is None for each in status.parties)
    report = json.loads((folder / "report.json").read_text())
    metrics = [report["unedited"], *report["runs"][0]["metrics"]]
    lines, exchanges = read_lines(folder / METRICS), read_lines(folder / EXCHANGES)
    before = [each["phase"] for each in exchanges if each["merge"] == "federated"]
    assert before == ["query.describe"] * 2 + ["query.moments"] * 2
    exchanges = exchanges[len(before) :]
    for number, (line, found) in enumerate(zip(lines, metrics, strict=True)):
        assert found.items() <= line.items()
        assert line["round"] == number
        own = [each for each in exchanges if each["round"] == number]
        # Two messages to each: handshake or targets, and the evaluation.
        assert [each["party"] for each in own][-4:] in ([-1, -1, 0, 1], [0, 1, 0, 1])
        for name in ("bytes_up", "bytes_down"):
            assert line[name] == sum(int(str(each[name])) for each in own) > 0


def test_nothing_that_is_written_holds_a_text_of_a_request(
    world: Path, tmp_path: Path
) -> None:
    """Neither of a run that ends well nor of one that fails for a bug."""
    output: dict[str, FlatValue] = {
        "directory": str(tmp_path / "one"),
        "log": str(tmp_path / "log.jsonl"),
        "tensorboard": str(tmp_path / "tb"),
        "watch": str(tmp_path / "watch"),
    }
    private = [
        text
        for request in world_requests()
        for text in (request.subject, request.prompt.format(request.subject))
    ]
    with pytest.MonkeyPatch.context() as patch:
        fault = KeyError(private[0])
        patch.setattr(server.app, "write_report", fail_with(fault))
        with pytest.raises(KeyError):
            run(world, tmp_path, output=output)
    run(world, tmp_path, output=output)
    files = [tmp_path / "log.jsonl", *(tmp_path / "watch").iterdir()]
    files += [path for path in (tmp_path / "tb").rglob("*") if path.is_file()]
    assert {path.name for path in files} > WATCHED | {"log.jsonl"}
    for path in files:
        data = path.read_bytes()
        assert [text for text in private if text.encode() in data] == [], path
    events = [line["event"] for line in read_lines(tmp_path / "log.jsonl")]
    assert events.count("run failed") == events.count("run finished") == 1


def fail_with(error: BaseException) -> Callable[..., object]:
    """Make a function that always fails."""

    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def test_a_run_that_is_stopped_says_so(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its operator, in the middle of it."""
    watch = str(tmp_path / "watch")
    monkeypatch.setattr(server.app, "write_outcomes", fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path, output={"watch": watch})
    status = read_status(tmp_path / "watch" / STATUS)
    assert (status.state, status.reason) == ("failed", "it was stopped")


def test_a_run_with_too_few_parties_names_them(world: Path, tmp_path: Path) -> None:
    """As its report would, had it one."""
    with pytest.raises(RunFailedError):
        run(
            world,
            tmp_path,
            output={"watch": str(tmp_path / "watch")},
            parties={"count": 2, "requests-per-round": 7},
        )
    status = read_status(tmp_path / "watch" / STATUS)
    assert status.state == "failed"
    assert "requests that cannot be used" in str(status.reason)


def test_each_round_is_once_in_a_run_that_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped when the second round had its line and was not kept yet."""
    output: dict[str, FlatValue] = {
        "watch": str(tmp_path / "watch"),
        "checkpoint": str(tmp_path / "checkpoint"),
    }
    keep = Checkpoints.keep

    def stop(self: Checkpoints, merge: str, progress: MergeProgress) -> None:
        if progress.state.number == 2:
            raise KeyboardInterrupt
        keep(self, merge, progress)

    output["directory"] = str(tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path, output=output, run={"rounds": 2})
    place = tmp_path / "watch"
    before = read_status(place / STATUS)
    assert (before.state, before.round) == ("failed", 2)
    first = [line["time"] for line in read_lines(place / METRICS)]
    run(world, tmp_path, output=output, run={"rounds": 2})
    lines = read_lines(place / METRICS)
    assert [line["round"] for line in lines] == [0, 1, 2]
    assert [line["time"] for line in lines][:2] == first[:2]
    for phase in ("train.targets", "evaluate.requests"):
        exchanges = read_lines(place / EXCHANGES)
        own = [each for each in exchanges if each["phase"] == phase]
        expected = range(phase == "train.targets", 3)
        assert [each["round"] for each in own] == sorted([*expected] * 2)
    status = read_status(place / STATUS)
    assert (status.started, status.state) == (before.started, "finished")
    assert status.resumed is not None


def test_of_a_run_that_fails_its_whole_rounds_stay(tmp_path: Path) -> None:
    """And if there was none, nothing does."""
    progress = watched(tmp_path)
    progress.begin("collabedit", 0)
    progress.enter("collabedit", 0, ended(0).metrics)
    progress.fail("few parties", "run")
    assert list(tmp_path.iterdir()) == []
    progress = watched(tmp_path)
    progress.enter("collabedit", 1, ended(1).metrics)
    progress.fail("few parties", "run")
    assert names_in(tmp_path / "one.unfinished") == {STATUS, METRICS}
    assert read_status(tmp_path / "one.unfinished" / STATUS).reason == "few parties"


def test_a_run_from_the_start_keeps_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    """Without a checkpoint it goes on from nothing."""
    for number in (1, 2):
        progress = watched(tmp_path)
        progress.begin("collabedit", 0)
        progress.enter("ties", number, ended(number).metrics)
        progress.fail("few parties", "run")
    lines = read_lines(tmp_path / "one.unfinished" / METRICS)
    assert [line["round"] for line in lines] == [2]


def test_metrics_may_be_left_out(tmp_path: Path) -> None:
    """The status is always there."""
    progress = watched(tmp_path, metrics=False)
    progress.enter("collabedit", 1, ended(1).metrics)
    assert names_in(tmp_path / "one.unfinished") == {STATUS, ".lock"}
    progress.fail("x", "run")


def test_two_runs_are_never_described_in_one_place(tmp_path: Path) -> None:
    """The second is refused and harms nothing; once the first is over, it may begin."""
    place = str(tmp_path / "watch")
    first = watched(tmp_path, watch=place)
    before = (tmp_path / "watch" / STATUS).read_bytes()
    second = Progress(None)
    with pytest.raises(InputError, match="another run is at work here"):
        watch_run(second, config_of(tmp_path, watch=place), tmp_path / "two")
    second.fail("refused", "input")
    assert (tmp_path / "watch" / STATUS).read_bytes() == before
    first.fail("x", "run")
    watched(tmp_path, watch=place).fail("x", "run")


def test_a_place_is_free_once_its_process_was_killed(tmp_path: Path) -> None:
    """However it ended, a run can be gone on with at once."""
    child = os.fork()
    if child == 0:
        watched(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    place = tmp_path / "one.unfinished"
    assert read_status(place / STATUS).state == "running"
    watched(tmp_path).fail("x", "run")


@pytest.mark.parametrize("setting", ["watch", "log", "tensorboard"])
def test_a_place_that_cannot_be_written_is_named_before_the_run(
    tmp_path: Path, setting: str
) -> None:
    """A file where a folder should be."""
    (tmp_path / "file").write_text("mine")
    progress = Progress(None)
    config = config_of(tmp_path, **{setting: str(tmp_path / "file" / "below")})
    with pytest.raises(InputError, match=r"file.*output\.watch"):
        watch_run(progress, config, tmp_path / "one")
    progress.fail("refused", "input")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_environment_may_name_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a setting names one, that counts."""
    monkeypatch.setenv("COLLABEDIT_LOG", str(tmp_path / "theirs"))
    progress = watched(tmp_path)
    progress.begin("ties", 0)
    progress.fail("x", "run")
    watched(tmp_path, log=str(tmp_path / "ours")).fail("x", "run")
    events = [line["event"] for line in read_lines(tmp_path / "theirs")]
    assert events == ["run began", "merge began", "run failed"]
    assert (tmp_path / "ours").exists()
