"""A run resumes after its own checkpoint, alone, and leaves none with its results."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

import server.app
from editing.algebra.deltas import load_delta
from editing.base.errors import InputError
from server.checkpoints import Checkpoints
from server.config import RunConfig
from server.evaluation import HeldOutFact, evaluate_held_out
from server.merging import held_out_evaluator, held_out_of
from server.preparation import Preparation
from server.report.data import read_report
from sims.errors import RunFailedError
from strategies.scenario import FlatValue
from tests.federation import assert_same_bits, count_targets
from tests.server.runs import Runs, fail_with
from tests.tiny import said_by, tiny_model


def test_held_out_facts_are_evaluated_once_on_the_same_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a round that changed nothing, and in a merge with the same updates."""
    model, evaluated = tiny_model(), []
    says = HeldOutFact(prompt="Ada", answer=said_by(model, "Ada", 1))
    other = HeldOutFact(prompt="Ada", answer="harp")

    def count(*given: Any) -> float:  # noqa: ANN401 - whatever it is called with
        evaluated.append(given)
        return evaluate_held_out(*given)

    monkeypatch.setattr("server.merging.evaluate_held_out", count)
    name = model.weight_name(1)
    update = np.zeros(model.widths(1), dtype=np.float32)
    same, edited = ArrayRecord(), ArrayRecord({name: Array(update)})
    known: dict[str, float] = {}
    for _ in range(2):
        evaluate = held_out_evaluator(model, [says, other], known)
        assert evaluate is not None
        for number, arrays in enumerate((same, edited, edited)):
            assert held_out_of(evaluate(number, arrays)) == 50.0
    assert len(evaluated) == 2
    assert held_out_evaluator(model, [], known) is None


def test_a_run_whose_results_are_whole_leaves_nothing_to_go_on_from(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command is another run, which asks for requests as they are by then."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    prior: dict[str, FlatValue] = {
        "covariance": "federated",
        "text": str(runs.world / "text.txt"),
    }
    for number in range(2):
        computed = count_targets(monkeypatch)
        folder = runs.output.with_name(str(number))
        output = {"directory": str(folder), "checkpoint": str(kept)}
        runs.run(output={**output}, run={"name": "night"}, prior=prior)
        assert len(computed) == 6
        assert [path.name for path in kept.rglob("*")] == ["mine.txt"]


def test_a_run_killed_before_its_report_writes_it_and_asks_nobody_again(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rounds are kept until the results are whole."""
    kept, whole = tmp_path / "kept", runs.output.with_name("whole")
    runs.run(output={"directory": str(whole)})
    output: dict[str, FlatValue] = {
        "directory": str(runs.output),
        "checkpoint": str(kept),
    }
    with monkeypatch.context() as patch:
        patch.setattr(server.app, "write_report", fail_with(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            runs.run(output=output)
    assert [path.name for path in kept.iterdir()] == ["collabedit.safetensors"]
    computed = count_targets(monkeypatch)
    runs.run(output=output)
    assert computed == []
    theirs, ours = (
        load_delta(folder / "delta.safetensors")[0] for folder in (whole, runs.output)
    )
    assert_same_bits(ours, theirs)
    assert list(kept.iterdir()) == []


def test_a_run_that_the_gate_stops_has_no_results_and_resumes(
    runs: Runs, tmp_path: Path
) -> None:
    """With the same bits as a run that no gate watches, once the gate lets it pass."""
    whole, kept = runs.output.with_name("whole"), tmp_path / "kept"
    rounds: dict[str, FlatValue] = {"rounds": 2, "name": "night"}
    runs.run(output={"directory": str(whole)}, run={"rounds": 2})
    output: dict[str, FlatValue] = {"checkpoint": str(kept)}
    gate: dict[str, FlatValue] = {"requests": 1, "max-drop": 100.0}
    sizes = [*read_report(whole / "report.json").runs[0].update_ratios.values()]
    first = {**gate, "max-update-ratio": 1e-9}
    with pytest.raises(RunFailedError):
        runs.run(output=output, run=rounds, gate=first)
    assert not runs.output.exists()
    ended = runs.end()
    assert ended.cause == "run"
    assert "Round 1 is stopped, and nothing of it is applied" in str(ended.error)
    assert not list(kept.glob("*.safetensors"))
    report = runs.run(
        output=output, run=rounds, gate={**gate, "max-update-ratio": 2 * max(sizes)}
    )
    names = [[each.name for each in m.weights] for m in report.runs[0].metrics]
    assert names == [["party 0", "party 1", "party 2"]] * 2
    theirs, ours = (
        load_delta(folder / "delta.safetensors")[0] for folder in (whole, runs.output)
    )
    assert_same_bits(ours, theirs)


def test_a_checkpoint_where_the_run_is_watched_is_left_to_who_named_both(
    runs: Runs, tmp_path: Path
) -> None:
    """They may have more to gather, and go on from it if they are killed meanwhile."""
    kept = tmp_path / "watch" / "kept"
    runs.run(output={"checkpoint": str(kept), "watch": str(tmp_path / "watch")})
    assert [path.name for path in kept.iterdir()] == ["collabedit.safetensors"]


def test_a_checkpoint_that_cannot_be_removed_costs_no_results(
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says that it is there."""
    monkeypatch.setattr(server.app, "remove_kept", fail_with(PermissionError(1, "no")))
    runs.run(output={"checkpoint": str(tmp_path / "kept")})
    assert f"the checkpoint in {tmp_path / 'kept'} stays (no)" in caplog.text


def test_a_checkpoint_is_of_one_run_at_a_time(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is refused before any work, and harms nothing."""
    kept = str(tmp_path / "kept")
    refused: list[str] = []
    honest = server.app.checkpoints_of

    def meet(config: RunConfig, preparation: Preparation) -> Checkpoints:
        monkeypatch.setattr(server.app, "prepare", fail_with(AssertionError("works")))
        with pytest.raises(InputError, match="another run uses this folder") as caught:
            runs.run(
                output={
                    "directory": str(runs.output.with_name("second")),
                    "checkpoint": kept,
                    "watch": str(tmp_path / "second-watch"),
                }
            )
        refused.append(str(caught.value))
        return honest(config, preparation)

    monkeypatch.setattr(server.app, "checkpoints_of", meet)
    runs.run(output={"checkpoint": kept})
    (line,) = refused
    assert line.startswith(f"{kept}: ")
    assert "another `output.checkpoint`" in line
    assert list(runs.output.parent.iterdir()) == [runs.output]
