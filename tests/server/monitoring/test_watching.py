"""A run is described where its settings say, and its description is kept with it."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import server.app
from editing.base.errors import InputError
from server.checkpoints import Checkpoints, MergeProgress
from server.config import RunConfig, read_run_config
from server.monitoring.events import (
    EVENTS,
    NodeExchange,
    RoundEnded,
    RunEnded,
    drop_repeated_rounds,
    read_events,
)
from server.monitoring.status import read_status
from server.monitoring.stream import EventStream
from server.monitoring.watching import open_stream, watch_run
from server.report.data import read_report
from sims.errors import RunFailedError
from sims.runs.in_process import run_in_process
from strategies.scenario import FlatValue
from tests.federation import AT_ONCE, settings_of, world_requests
from tests.server.events import ended


def config_of(folder: Path, **output: FlatValue) -> RunConfig:
    """Settings of a run whose results will be in ``folder/one``."""
    flat: dict[str, FlatValue] = {"output.directory": str(folder / "one")}
    return read_run_config({**flat, **{f"output.{k}": v for k, v in output.items()}})


def watched(folder: Path, **output: FlatValue) -> EventStream:
    """Start to record a run."""
    stream = open_stream(str(output.get("watch", "")))
    watch_run(stream, config_of(folder, **output), folder / "one")
    return stream


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


def rounds_of(folder: Path) -> list[RoundEnded]:
    """Read the rounds that count."""
    events = drop_repeated_rounds(read_events(folder / EVENTS))
    return [event for event in events if isinstance(event, RoundEnded)]


def exchanges_of(folder: Path) -> list[NodeExchange]:
    """Read the exchanges of the rounds that count."""
    events = drop_repeated_rounds(read_events(folder / EVENTS))
    return [event for event in events if isinstance(event, NodeExchange)]


def test_a_whole_run_is_described_by_its_results(world: Path, tmp_path: Path) -> None:
    """The lines are those of the report, and their bytes those of the exchanges."""
    prior = {"covariance": "federated", "text": str(world / "text.txt")}
    run(world, tmp_path, run={"rounds": 2}, prior=prior)
    folder = tmp_path / "one"
    assert not (tmp_path / "one.unfinished").exists()
    status = read_status(folder / EVENTS)
    assert (status.run, status.state, status.round) == ("one", "finished", 2)
    assert [each.party for each in status.parties] == [0, 1]
    assert all(each.seen and each.error is None for each in status.parties)
    report = read_report(folder / "report.json")
    rounds, exchanges = rounds_of(folder), exchanges_of(folder)
    before = [each.phase for each in exchanges if each.merge == "federated"]
    assert before == ["query.describe"] * 2 + ["query.moments"] * 2
    exchanges = exchanges[len(before) :]
    assert [each.metrics for each in rounds] == [
        report.unedited,
        *report.runs[0].metrics,
    ]
    for number, found in enumerate(rounds):
        assert found.round == number
        own = [each for each in exchanges if each.round == number]
        # Two messages to each: handshake or targets, and the evaluation.
        assert [each.party for each in own][-4:] in ([None, None, 0, 1], [0, 1, 0, 1])
        assert found.bytes_up == sum(each.bytes_up for each in own) > 0
        assert found.bytes_down == sum(each.bytes_down for each in own) > 0


def test_nothing_that_is_written_holds_a_text_of_a_request(
    world: Path, tmp_path: Path
) -> None:
    """Neither of a run that ends well nor of one that fails for a bug."""
    output: dict[str, FlatValue] = {
        "directory": str(tmp_path / "one"),
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
    failed = tmp_path / "failed.jsonl"
    (tmp_path / "watch" / EVENTS).rename(failed)
    run(world, tmp_path, output=output)
    files = [failed, *(tmp_path / "watch").iterdir()]
    files += [path for path in (tmp_path / "tb").rglob("*") if path.is_file()]
    assert {path.name for path in files} > {failed.name, EVENTS}
    for path in files:
        data = path.read_bytes()
        assert [text for text in private if text.encode() in data] == [], path
    ends = [read_events(path)[-1] for path in (failed, tmp_path / "watch" / EVENTS)]
    found = [each.cause for each in ends if isinstance(each, RunEnded)]
    assert found == ["program", ""]


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
    status = read_status(tmp_path / "watch" / EVENTS)
    assert (status.state, status.reason) == ("failed", "it was stopped")


def test_a_run_with_too_few_parties_names_them(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its report would, had it one."""
    monkeypatch.setattr("clients.contribution.contribute", fail_with(MemoryError()))
    with pytest.raises(RunFailedError):
        run(world, tmp_path, output={"watch": str(tmp_path / "watch")})
    status = read_status(tmp_path / "watch" / EVENTS)
    assert status.state == "failed"
    assert "party 0: it reported not enough memory" in str(status.reason)


def test_a_run_that_a_party_s_input_ends_names_the_party(
    world: Path, tmp_path: Path
) -> None:
    """With the class of what is wrong with it."""
    with pytest.raises(InputError):
        run(
            world,
            tmp_path,
            output={"watch": str(tmp_path / "watch")},
            parties={"count": 2, "requests-per-round": 7},
        )
    status = read_status(tmp_path / "watch" / EVENTS)
    assert status.state == "failed"
    assert "it reported requests that cannot be used" in str(status.reason)
    assert "requests that cannot be used" in str(status.reason)
    assert "party 0" in str(status.reason)


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
    before = read_status(place / EVENTS)
    assert (before.state, before.round) == ("failed", 2)
    first = rounds_of(place)
    run(world, tmp_path, output=output, run={"rounds": 2})
    rounds = rounds_of(place)
    assert [each.round for each in rounds] == [0, 1, 2]
    assert rounds[:2] == first[:2]
    assert rounds[2].time > first[2].time
    for phase in ("train.targets", "evaluate.requests"):
        own = [each for each in exchanges_of(place) if each.phase == phase]
        expected = range(phase == "train.targets", 3)
        assert [each.round for each in own] == sorted([*expected] * 2)
    status = read_status(place / EVENTS)
    assert (status.started, status.state) == (before.started, "finished")
    assert status.resumed is not None


def test_of_a_run_that_fails_its_completed_rounds_stay(tmp_path: Path) -> None:
    """And if there was none, nothing does."""
    stream = watched(tmp_path)
    stream.begin_merge("collabedit", 0)
    stream.end_round("collabedit", 0, ended(0).metrics)
    stream.fail("few parties", "run")
    assert list(tmp_path.iterdir()) == []
    stream = watched(tmp_path)
    stream.end_round("collabedit", 1, ended(1).metrics)
    stream.fail("few parties", "run")
    assert names_in(tmp_path / "one.unfinished") == {EVENTS}
    assert read_status(tmp_path / "one.unfinished" / EVENTS).reason == "few parties"


def test_a_run_from_the_start_keeps_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    """Without a checkpoint there is nothing to resume."""
    for number in (1, 2):
        stream = watched(tmp_path)
        stream.begin_merge("collabedit", 0)
        stream.end_round("ties", number, ended(number).metrics)
        stream.fail("few parties", "run")
    events = read_events(tmp_path / "one.unfinished" / EVENTS)
    assert [each.round for each in events if isinstance(each, RoundEnded)] == [2]


def test_two_runs_are_never_described_in_one_place(tmp_path: Path) -> None:
    """The second is refused and harms nothing; once the first is over, it may begin."""
    place = str(tmp_path / "watch")
    first = watched(tmp_path, watch=place)
    before = (tmp_path / "watch" / EVENTS).read_bytes()
    with pytest.raises(InputError, match="another run uses this folder"):
        open_stream(place)
    assert (tmp_path / "watch" / EVENTS).read_bytes() == before
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
    assert read_status(place / EVENTS).state == "running"
    watched(tmp_path).fail("x", "run")


@pytest.mark.parametrize("setting", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_is_named_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """With what to install; without the setting nothing of it is imported."""
    monkeypatch.setitem(sys.modules, setting, None)
    stream = open_stream(None)
    config = config_of(tmp_path, **{setting: str(tmp_path / "log")})
    with pytest.raises(InputError, match=f"output.{setting}.*pip install {setting}"):
        watch_run(stream, config, tmp_path / "one")
    stream.fail("refused", "input")
    watched(tmp_path).finish(tmp_path)


@pytest.mark.parametrize("setting", ["watch", "checkpoint", "tensorboard"])
def test_a_place_that_cannot_be_written_is_named_before_the_run(
    tmp_path: Path, setting: str
) -> None:
    """A file where a folder should be."""
    (tmp_path / "file").write_text("mine")
    stream = open_stream(None)
    config = config_of(tmp_path, **{setting: str(tmp_path / "file" / "below")})
    with pytest.raises(InputError, match=r"file.*output\.watch"):
        watch_run(stream, config, tmp_path / "one")
    stream.fail("refused", "input")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_another_machine_is_refused_before_the_run(tmp_path: Path) -> None:
    """Whoever follows the run made it, so it is not made here."""
    with pytest.raises(InputError, match=r"output\.watch.*there is no folder .*theirs"):
        open_stream(str(tmp_path / "theirs" / "run_000.unfinished"))
    assert names_in(tmp_path) == set()


def test_an_early_failure_is_recorded_where_the_run_is_followed(tmp_path: Path) -> None:
    """Before its settings are read; nothing is said of a run that has not started."""
    stream = open_stream(str(tmp_path / "watch"))
    stream.fail("no such setting", "input")
    (event,) = read_events(tmp_path / "watch" / EVENTS)
    assert isinstance(event, RunEnded)
    assert event.error == "no such setting"
    stream = watched(tmp_path, watch=str(tmp_path / "watch"))
    stream.fail("x", "run")
    events = read_events(tmp_path / "watch" / EVENTS)
    assert [each.kind for each in events] == ["run_started", "run_ended"]


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the settings say where."""
    monkeypatch.chdir(tmp_path)
    for stream in (open_stream(None), open_stream("")):
        stream.report_progress("targets", 1, 2)
        stream.finish(tmp_path)
        stream.fail("x", "run")
    assert list(tmp_path.iterdir()) == []
