"""A run ends with a report that is whole, or leaves nothing and says why."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from flwr.app import Message
from flwr.serverapp.exception import AggregationError

import clients.app
import server.app
from clients.settings import ClientConfig
from editing.algebra.deltas import applied, load_delta
from editing.base.errors import InputError
from editing.evaluation.cases import evaluate_requests, sum_cases
from server.app import choose_methods, explain
from server.config import read_run_config
from server.evaluation import evaluate_held_out
from server.monitoring.events import EVENTS, WarningLogged, read_events
from server.output import choose_folder
from server.report.tables import list_warnings
from sims.errors import RunFailedError
from strategies.methods import COMPARED
from strategies.scenario import FlatValue
from strategies.wire.messages import ModelIdentity, Phase
from tests.federation import (
    AT_ONCE,
    FLOAT32_PIPELINE,
    Federation,
    assert_same_bits,
    assert_same_delta,
    count_targets,
    settings_of,
)
from tests.laws import ALGEBRA
from tests.server.runs import Runs, fail_with

FLOAT32 = 1e-7
"""Relative difference that a file in float32 leaves."""


@pytest.fixture(autouse=True)
def plain_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the seconds that plots take, where they do not matter."""
    if "whole" not in request.node.name:
        monkeypatch.setattr("server.report.writing.render_page", lambda _: "a page")


@pytest.fixture
def runs(world: Path, tmp_path: Path) -> Runs:
    """Make runs in folders of this test."""
    return Runs(world, tmp_path)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """See that a run in this process gives the threads back."""
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def test_a_whole_run_writes_delta_settings_and_report(
    runs: Runs, federate: Callable[..., Federation]
) -> None:
    """The report's numbers are those of the model with the delta that is written."""
    report = runs.run(run={"rounds": 2})
    names = {path.name for path in runs.output.iterdir()}
    assert names == {
        "delta.safetensors",
        "params.json",
        "report.json",
        "report.md",
        "report.html",
    }
    delta, metadata = load_delta(runs.output / "delta.safetensors")
    federation = federate(editing=AT_ONCE, run={"rounds": 2})
    assert_same_delta(delta, federation.edit_alone(), FLOAT32)
    model = federation.preparation.model
    assert metadata == {
        "base": model.fingerprint,
        "model": runs.world.name,
        "dtype": "float64",
        "layers": list(federation.preparation.plan.parameters.layers),
        "merge": "collabedit",
        "editor": "memit",
        "schedule": "frozen-uniform",
        "rounds": 2,
        "parties": runs.flat()["parties.count"],
        "requests": len(federation.requests(1) + federation.requests(2)),
    }
    (run,) = report.runs
    assert len(run.metrics) == run.rounds == 2
    with applied(delta, model.model):
        new = sum_cases(evaluate_requests(model, federation.requests(2)))
        old = sum_cases(evaluate_requests(model, federation.requests(1)))
    assert run.metrics[1].retained is not None
    for total, metrics in (
        (new, run.metrics[1]),
        (old, run.metrics[1].retained),
        (old, run.metrics[1].by_round[0]),
        (new, run.metrics[1].by_round[1]),
    ):
        for name, value in total.means().items():
            found = metrics.model_dump().get(name, metrics.groups.get(name))
            assert found == pytest.approx(value, rel=1e-4), name
    held_out = evaluate_held_out(model, federation.preparation.held_out, delta)
    assert run.metrics[1].held_out_acc == held_out
    assert report.unedited is not None
    assert report.unedited.held_out_acc is not None
    assert run.settings["hyperparameters"]
    params = json.loads((runs.output / "params.json").read_text())
    assert params["context_templates"] == list(federation.preparation.plan.templates)
    assert params["run"]["rounds"] == 2
    assert "data:image/svg+xml" in (runs.output / "report.html").read_text()
    assert runs.end().folder == str(runs.output)


def test_a_run_leaves_case_files_with_the_parties_and_no_targets(runs: Runs) -> None:
    """The server says that the run is over, and targets are forgotten."""
    runs.run()
    assert runs.kept("safetensors") == []
    rounds = [cases.parent.name for cases in runs.kept("jsonl")]
    assert rounds == ["round_0"] * 3 + ["round_1"] * 3
    lines = [line for file in runs.kept("jsonl") for line in file.open()]
    assert len(lines) == 6 + 6
    assert list(runs.output.parent.iterdir()) == [runs.output]


def test_what_may_keep_edits_from_working_is_reported_and_logged_once(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    """After one step no target is reached; the report says what to try."""
    report = runs.run(editing={**AT_ONCE, "v-num-grad-steps": 2})
    (run,) = report.runs
    (metrics,) = run.metrics
    assert metrics.target_stopped == 0
    assert metrics.target_loss is not None
    delta, _ = load_delta(runs.output / "delta.safetensors")
    assert run.update_ratios.keys() == delta.keys()
    assert all(ratio > 0 for ratio in run.update_ratios.values())
    assert any("`editing.v-num-grad-steps`" in each for each in run.warnings)
    expected = list_warnings(report)
    logged = [each.getMessage() for each in caplog.records]
    events = read_events(runs.watch / EVENTS)
    recorded = [each.message for each in events if isinstance(each, WarningLogged)]
    for warning in expected:
        assert logged.count(warning) == recorded.count(warning) == 1


def test_the_same_command_twice_gives_the_same_bits(runs: Runs) -> None:
    """Rotations come from the run's seed in a simulation."""
    folders = [runs.output.with_name(name) for name in ("first", "second")]
    reports = [runs.run(output={"directory": str(folder)}) for folder in folders]
    first, second = (load_delta(each / "delta.safetensors")[0] for each in folders)
    assert_same_bits(first, second)
    assert reports[0].runs[0].metrics == reports[1].runs[0].metrics
    assert reports[0].unedited == reports[1].unedited


def test_a_comparison_computes_targets_once_and_measures_the_distance_to_global(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a float32 model, as most are."""
    computed = count_targets(monkeypatch)
    report = runs.run(
        run={"compare": True}, model={"dtype": "float32"}, merge={"name": "ties"}
    )
    assert len(computed) == len(set(computed)) == 6
    names = [run.merge for run in report.runs]
    assert names == [*COMPARED, "global"]
    gaps = {run.merge: run.relative_difference_to_global for run in report.runs}
    assert gaps["global"] == 0.0
    together, alone = (
        load_delta(runs.output / name / "delta.safetensors")[0]
        for name in ("collabedit", "global")
    )
    assert_same_delta(together, alone, FLOAT32_PIPELINE)
    for name, gap in gaps.items():
        assert gap is not None
        assert (gap <= FLOAT32_PIPELINE) == (name in {"global", "collabedit"})
    rounding, found = report.rounding, gaps["collabedit"]
    assert rounding is not None
    assert found is not None
    assert rounding / 30 < found < 3 * rounding
    assert report.unedited is not None
    unedited = [cases for cases in runs.kept("jsonl") if "round_0" in cases.parts]
    assert len(unedited) == 3  # evaluated once by each party, before the first merge
    assert runs.kept("safetensors") == []


def test_refusals_are_in_the_report_of_every_round(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A party that could not join has no other place to read why."""
    honest = clients.app.identify_own

    def identify(message: Message, config: ClientConfig) -> ModelIdentity:
        if config.party == 1:
            raise MemoryError
        return honest(message, config)

    monkeypatch.setattr("clients.app.identify_own", identify)
    report = runs.run(run={"rounds": 2}, parties={"requests-per-round": 1})
    for metrics in report.runs[0].metrics:
        (refusal,) = metrics.refusals
        assert refusal.name == "party 1"
        assert "not enough memory" in refusal.reason


def test_an_existing_folder_is_never_overwritten(runs: Runs) -> None:
    """The error is the input's, and says so in the progress."""
    runs.output.mkdir(parents=True)
    (runs.output / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is never overwritten"):
        runs.run()
    assert [path.name for path in runs.output.iterdir()] == ["mine.txt"]
    end = runs.end()
    assert end.cause == "input"
    assert str(runs.output) in str(end.error)


@pytest.mark.parametrize(
    ("tables", "error", "kind", "reason"),
    [
        ({"merge": {"name": "nonsense"}}, InputError, "input", "nonsense"),
        ({"run": {"ruonds": 2}}, InputError, "input", "ruonds"),
        ({"editing": {"layers": "[9]"}}, InputError, "input", "outside the model"),
        (
            {"parties": {"requests-per-round": 5}},
            InputError,
            "input",
            "requests that cannot be used",
        ),
    ],
)
def test_a_run_that_fails_leaves_nothing_but_the_reason(
    runs: Runs,
    tables: dict[str, dict[str, FlatValue]],
    error: type[Exception],
    kind: str,
    reason: str,
) -> None:
    """Whoever follows the run reads it in the last line of its progress."""
    with pytest.raises(error):
        runs.run(**tables)
    end = runs.end()
    assert end.cause == kind
    assert reason in str(end.error)
    assert list(runs.output.parent.glob("*")) == []
    assert runs.kept("safetensors") == []


def test_a_fault_of_the_program_is_reported_with_its_type_and_leaves_no_draft(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while the report is being written; parties have forgotten by then."""
    monkeypatch.setattr(server.app, "write_report", fail_with(KeyError("score")))
    with pytest.raises(KeyError):
        runs.run(output={"watch": ""})
    # The record of its completed rounds stays.
    unfinished = runs.output.with_name("one.unfinished")
    end = runs.end(unfinished)
    assert (end.error, end.cause) == ("KeyError; see Flower's log", "program")
    assert list(runs.output.parent.iterdir()) == [unfinished]
    assert runs.kept("safetensors") == []


def test_targets_are_forgotten_when_a_run_is_stopped(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say as much about the requests as anything."""
    monkeypatch.setattr("clients.contribution.contribute", fail_with(MemoryError()))
    with pytest.raises(RunFailedError):
        runs.run()
    assert "not enough memory" in str(runs.end().error)
    assert runs.kept("safetensors") == []


def test_a_run_is_not_lost_because_parties_cannot_forget(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The report is written, and the log says that targets were left."""
    monkeypatch.setattr("clients.app.PrivateFolder.forget", fail_with(OSError("busy")))
    with caplog.at_level(logging.WARNING):
        report = runs.run()
    assert len(report.runs) == 1
    assert "keeps its targets" in caplog.text
    kept = [file.parent.name for file in runs.kept("safetensors")]
    assert kept.count("targets") == 2  # of the first party, and of the others
    monkeypatch.setattr(server.app, "forget", fail_with(ConnectionError("gone")))
    runs.run(output={"directory": str(runs.output.with_name("two"))})
    assert "not asked to forget" in caplog.text


def test_all_nodes_forget_once_after_the_last_merge(
    federate: Callable[..., Federation],
) -> None:
    """Not between merges, which share targets."""
    federation = federate(editing=AT_ONCE)
    federation.run("ties")
    federation.run("global")
    server.app.forget_run(federation.grid)
    assert federation.nodes_asked(Phase.FORGET) == sorted(federation.contexts)
    assert federation.messages[-1].metadata.message_type == Phase.FORGET.value


def test_the_next_free_folder_is_numbered_by_merge(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the settings name one."""
    monkeypatch.chdir(tmp_path)
    for taken in ("run_000", "run_007", "run_x", "notes"):
        (tmp_path / "results" / "ties" / taken).mkdir(parents=True)
    home = tmp_path / "results"

    def chosen(**tables: dict[str, FlatValue]) -> Path:
        return choose_folder(read_run_config(settings_of(world, **tables)))

    assert chosen(merge={"name": "ties"}) == home / "ties" / "run_008"
    assert chosen() == home / "collabedit" / "run_000"
    assert chosen(run={"compare": True}) == home / "compare" / "run_000"
    assert chosen(output={"directory": "/there"}) == Path("/there")


def test_a_comparison_keeps_the_settings_of_the_merge_that_is_named(
    world: Path,
) -> None:
    """The others have their defaults."""
    settings = {"name": "ties", "settings": '{"density": 0.5}'}
    config = read_run_config(settings_of(world, merge=settings, run={"compare": True}))
    methods = {method.name: method for method in choose_methods(config)}
    assert list(methods) == [*COMPARED, "global"]
    assert methods["ties"].settings()["density"] == 0.5
    alone = read_run_config(settings_of(world, merge=settings))
    assert choose_methods(alone) == [methods["ties"]]


OUTSIDE = "tests.strategies.merges.test_choice"


def test_a_merge_named_by_import_path_is_compared_too(runs: Runs) -> None:
    """With the usual ones where it is the run's merge, or as the list says."""
    path = f"{OUTSIDE}:FirstParty"
    settings = settings_of(runs.world, merge={"name": path}, run={"compare": True})
    names = [each.name for each in choose_methods(read_run_config(settings))]
    assert path in names
    assert {*COMPARED, "global"} < {*names}
    assert names[-1] == "global"
    report = runs.run(run={"compare": True, "merges": f'["ties", "{path}"]'})
    assert [run.merge for run in report.runs] == ["ties", path]


def test_two_merges_of_one_name_are_refused(world: Path) -> None:
    """The second would write over the results of the first."""
    merges = f'["{OUTSIDE}:NamedFirstParty", "{OUTSIDE}:SameName"]'
    settings = settings_of(world, run={"compare": True, "merges": merges})
    with pytest.raises(InputError, match="have the name 'first'"):
        choose_methods(read_run_config(settings))


@pytest.mark.parametrize(
    ("error", "explained"),
    [
        (InputError("bad"), ("bad", "input")),
        (AggregationError("few"), ("few", "run")),
        (ZeroDivisionError("by 0"), ("ZeroDivisionError: by 0", "program")),
    ],
)
def test_the_cause_of_a_stop_is_explained(
    error: Exception, explained: tuple[str, str]
) -> None:
    """The command line derives exit codes from it."""
    assert explain(error) == explained


def test_a_float64_report_shows_that_collabedit_is_global(runs: Runs) -> None:
    """In several rounds, to the rounding of sums in another order."""
    report = runs.run(run={"compare": True, "rounds": 2, "encoding": "dense"})
    gaps = {run.merge: run.relative_difference_to_global for run in report.runs}
    assert gaps["collabedit"] is not None
    assert gaps["collabedit"] <= ALGEBRA
