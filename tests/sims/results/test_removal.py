"""A removed party's edits are gone from the update, and nobody else's are."""

import json
import shutil
from pathlib import Path

import pytest

import server.app
from clients.own_requests import find_shares
from editing.algebra.deltas import load_delta, save_delta
from editing.answers.pipeline import edit_answers
from editing.base.errors import InputError
from editing.memit.pipeline import edit_alone
from editing.requests.edit_request import EditRequest
from server.config import read_run_config
from server.preparation import prepare
from sims.results.removal import remove_party
from strategies.scenario import FlatValue
from tests.federation import assert_same_bits
from tests.laws import assert_same
from tests.server.runs import Runs, fail_with
from tests.sims.cli.test_main import exit_code

KEPT: dict[str, FlatValue] = {"statistics": True}
FLOAT32_FILE = 1e-6
"""Relative difference that a delta's file leaves."""


def requests_of_others(runs: Runs) -> list[EditRequest]:
    """All requests of the first round but those of party 1."""
    config = read_run_config(runs.flat())
    shares = find_shares(config.model, config.requests, config.parties).in_round(1)
    return [each for place in (0, 2) for each in shares[place].requests]


def test_of_one_frozen_round_it_is_the_edit_of_all_others(
    runs: Runs, tmp_path: Path
) -> None:
    """As one machine makes it of their requests, and nothing else is owed."""
    runs.run(output=KEPT)
    found = remove_party(1, runs.output, tmp_path / "new")
    assert (found.rounds, found.edits, found.remaining) == ((1,), 2, 4)
    assert found.limits[0].startswith("None: ")
    assert found.replay_difference < FLOAT32_FILE
    assert found.metrics == {}
    prepared = prepare(read_run_config(runs.flat()))
    priors = {
        layer: prepared.prior_weight * moment.double()
        for layer, moment in prepared.covariance.moments.items()
    }
    wanted = edit_alone(prepared.model, requests_of_others(runs), prepared.plan, priors)
    delta, metadata = load_delta(tmp_path / "new" / "delta.safetensors")
    for name, update in wanted.items():
        assert_same(delta[name].double(), update, FLOAT32_FILE)
    assert metadata["without"] == [1]


def test_a_resumed_run_can_be_left_too(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same bits; what later rounds owe to the party is said."""
    layerwise: dict[str, FlatValue] = {"schedule": "layerwise"}
    two: dict[str, FlatValue] = {"rounds": 2, "encoding": "dense"}
    runs.run(output=KEPT, run=two, editing=layerwise)
    found = remove_party(2, runs.output, tmp_path / "new")
    assert (found.rounds, found.edits, found.remaining) == ((1, 2), 4, 8)
    assert ["rounds after 1" in found.limits[0], len(found.limits)] == [True, 2]
    output: dict[str, FlatValue] = {
        **KEPT,
        "checkpoint": str(tmp_path / "kept"),
        "directory": str(tmp_path / "resumed"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(server.app, "write_report", fail_with(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            runs.run(output=output, run=two, editing=layerwise)
    runs.run(output=output, run=two, editing=layerwise)
    remove_party(2, tmp_path / "resumed", tmp_path / "again")
    first, again = (
        load_delta(tmp_path / name / "delta.safetensors")[0]
        for name in ("new", "again")
    )
    assert_same_bits(first, again)


def test_a_simulated_party_is_evaluated_after_it_is_removed(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its requests and the others', before and after; a party by its command."""
    runs.run(output=KEPT)
    (runs.output / "case_100.json").write_text("{}")  # as a simulation gathers them
    new = tmp_path / "new"
    assert exit_code("remove", "0", str(runs.output), "--output", str(new)) == 0
    record = json.loads((new / "removal.json").read_text())
    assert record["metrics"].keys() == {"removed", "others"}
    for metrics in record["metrics"].values():
        assert metrics["before"].keys() == metrics["after"].keys()
    said = capsys.readouterr().out
    assert "Party 0 removed: 2 edits of rounds 1; 4 edits stay." in said
    assert "removed" in said
    assert exit_code("remove", "0", str(runs.output), "--output", str(new)) == 2


def test_a_run_that_cannot_be_solved_again_is_refused(
    runs: Runs, tmp_path: Path
) -> None:
    """Nothing kept, nobody of that number, another delta, no run."""
    new = tmp_path / "new"
    runs.run()
    with pytest.raises(InputError, match=r"output\.statistics = true"):
        remove_party(0, runs.output, new)
    with pytest.raises(InputError, match="wanted the folder of a finished run"):
        remove_party(0, tmp_path, new)
    shutil.rmtree(runs.output)
    runs.run(output=KEPT)
    with pytest.raises(InputError, match="the parties with edits are 0, 1, 2"):
        remove_party(5, runs.output, new)
    file = runs.output / "delta.safetensors"
    delta, metadata = load_delta(file)
    save_delta({name: 2 * each for name, each in delta.items()}, file, metadata)
    with pytest.raises(InputError, match=r"relative difference 0\.5"):
        remove_party(0, runs.output, new)
    assert not new.exists()


def test_values_that_all_parties_standardise_are_not_taken_back(
    runs: Runs, tmp_path: Path
) -> None:
    """The others' would be others without the party."""
    runs.run(output=KEPT, editor={"name": "ultraedit"})
    with pytest.raises(
        InputError, match=r"'ultraedit' standardises .*parties\.without"
    ):
        remove_party(0, runs.output, tmp_path / "new")


def test_values_by_a_hypernetwork_are_taken_back(runs: Runs, tmp_path: Path) -> None:
    """Those of the others are what they would be without the party."""
    editor: dict[str, FlatValue] = {"name": "malmen"}
    runs.run(output=KEPT, editor=editor)
    found = remove_party(1, runs.output, tmp_path / "new")
    assert found.limits[0].startswith("None: ")
    prepared = prepare(read_run_config(runs.flat(editor=editor)))
    rule, layers = prepared.answers, prepared.plan.parameters.layers
    assert rule is not None
    own = requests_of_others(runs)
    place = str(runs.world)
    wanted = edit_answers(prepared.model, own, layers, rule, model_path=place).delta
    delta, metadata = load_delta(tmp_path / "new" / "delta.safetensors")
    for name, update in wanted.items():
        assert_same(delta[name].double(), update, FLOAT32_FILE)
    assert (metadata["without"], "requests" in metadata) == ([1], False)


def test_of_a_comparison_one_merge_is_named(runs: Runs, tmp_path: Path) -> None:
    """Of `global`, no party can be removed."""
    runs.run(output=KEPT, run={"compare": True, "merges": '["ties", "global"]'})
    new = tmp_path / "new"
    with pytest.raises(InputError, match="one merge in it: ties, global"):
        remove_party(0, runs.output, new)
    with pytest.raises(InputError, match="`global` lays all requests at one party"):
        remove_party(0, runs.output / "global", new)
    assert remove_party(0, runs.output / "ties", new).change > 0


def test_a_covariance_of_the_parties_texts_is_kept(runs: Runs, tmp_path: Path) -> None:
    """Nobody could count it again; it still counts the removed party's text."""
    prior: dict[str, FlatValue] = {
        "covariance": "federated",
        "text": str(runs.world / "text.txt"),
    }
    runs.run(output=KEPT, prior=prior)
    found = remove_party(0, runs.output, tmp_path / "new")
    assert found.replay_difference < FLOAT32_FILE
    assert found.limits == ("The covariance still counts the party's text.",)
