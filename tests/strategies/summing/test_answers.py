"""Editors that read at the answers: parties together are one machine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import RecordDict
from torch import Tensor

from editing.answers.pipeline import AnswerState, edit_answers
from editing.malmen.files import FILE, read_hypernetwork
from editing.malmen.hypernetwork import HypernetworkError
from editing.requests.edit_request import EditRequest, to_counterfact
from strategies.rounds.parties import PartyInputError
from strategies.scenario import FlatValue
from strategies.wire.arrays import to_array
from strategies.wire.messages import Phase
from tests.federation import (
    FLOAT32_PIPELINE,
    Federation,
    Recorder,
    assert_same_bits,
    assert_same_delta,
    on_phase,
    world_requests,
    write_json,
)
from tests.hypernetworks import save_tiny_hypernetwork
from tests.laws import ALGEBRA

Make = Callable[..., Federation]
Tables = dict[str, dict[str, FlatValue]]

EDITORS: dict[str, dict[str, float]] = {
    "ultraedit": {"learning_rate": 0.02},
    "stableedit": {"learning_rate": 0.02, "ridge": 2.0},
    "malmen": {},
}

JOINING = "[[1, 0, 2], [1, 1, 0], [0, 2, 1]]"
"""Requests of three parties in three rounds; who has none is not there."""


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Write requests half of which have no subject, and long answers."""
    requests = [
        to_counterfact(
            each
            if number % 2
            else EditRequest(
                case_id=each.case_id,
                prompt=f"they said that {each.rewrite_prompt}",
                target_new=f"{each.target_new} and then every day",
            )
        )
        for number, each in enumerate(world_requests())
    ]
    return str(write_json(tmp_path / "mixed.json", requests))


def tables(editor: str, source: str, **more: dict[str, FlatValue]) -> Tables:
    """Choose an editor, and parties that come and go."""
    chosen: Tables = {
        "editor": {"name": editor, "settings": json.dumps(EDITORS[editor])},
        "requests": {"source": source},
        "run": {"rounds": 3},
        "parties": {"requests-per-round": JOINING, "allow-empty": True},
    }
    return chosen | more


def on_one_machine(federation: Federation) -> dict[str, Tensor]:
    """Edit with all requests of each round in one place."""
    prepared, state = federation.preparation, AnswerState()
    rule, folder = prepared.answers, federation.config.model.path
    assert rule is not None
    layers = prepared.plan.parameters.layers
    for number in range(1, 1 + federation.config.run.rounds):
        requests, model = federation.requests(number), prepared.model
        state = edit_answers(model, requests, layers, rule, state, model_path=folder)
    return dict(state.delta)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("editor", EDITORS)
def test_parties_together_are_one_machine(
    federate: Make, source: str, editor: str, dtype: str
) -> None:
    """Through the whole protocol, over rounds, with requests without a subject."""
    federation = federate(**tables(editor, source, model={"dtype": dtype}))
    tolerance = ALGEBRA if dtype == "float64" else FLOAT32_PIPELINE
    found = federation.delta()
    assert_same_delta(found, on_one_machine(federation), tolerance)
    assert_same_delta(found, federation.delta("global"), tolerance)


def test_moments_travel_before_statistics_and_are_kept(
    federate: Make, source: str
) -> None:
    """Two exchanges a round, and moments of all rounds so far in the state."""
    federation, recorder = federate(**tables("stableedit", source)), Recorder()
    federation.run(callbacks=recorder)
    phases = [each.phase for each in recorder.exchanges if each.round == 2]
    wanted = [Phase.ANSWERS, Phase.TARGETS, Phase.EVALUATE]
    assert list(dict.fromkeys(phases)) == [each.value for each in wanted]
    counts = [
        next(iter(state.kept.values()))["16x24.count"].item()
        for state in recorder.states
    ]
    assert counts == sorted({*counts})


@pytest.mark.parametrize("editor", ["stableedit", "malmen"])
def test_secure_sums_carry_what_is_summed(
    federate: Make, source: str, editor: str
) -> None:
    """The server learns the sums alone, and solves the same."""
    sizes: dict[str, FlatValue] = {"requests-per-round": "[[1, 0, 2], [2, 1, 1]]"}
    chosen = tables(editor, source, run={"rounds": 2}) | {
        "parties": sizes | {"allow-empty": True}
    }
    plain = federate(**chosen)
    masked = federate(**chosen, privacy={"secure-sum": True})
    assert_same_delta(masked.delta(), plain.delta(), 1e-6)
    pooled = masked.replies(Phase.ANSWERS)
    assert bool(pooled) == (editor == "stableedit")
    for reply in [*pooled, *masked.replies(Phase.TARGETS)]:
        assert "answers" not in reply.content
        sent = reply.content.array_records["statistics"].values()
        assert {each.dtype for each in sent} == {"uint64"}


def test_a_hypernetwork_takes_one_exchange_and_does_not_travel(
    federate: Make, source: str
) -> None:
    """What is kept of earlier rounds is the update alone."""
    federation, recorder = federate(**tables("malmen", source)), Recorder()
    federation.run(callbacks=recorder)
    phases = [each.phase for each in recorder.exchanges if each.round == 2]
    assert list(dict.fromkeys(phases)) == [Phase.TARGETS.value, Phase.EVALUATE.value]
    assert not any(kept for state in recorder.states for kept in state.kept.values())
    net = read_hypernetwork(Path(federation.config.model.path) / FILE)
    assert net.digest().encode() in federation.said()
    for each in net.tensors.values():
        assert each.numpy().tobytes() not in federation.said()


def test_a_party_with_another_hypernetwork_ends_the_run(
    federate: Make, source: str, tmp_path: Path
) -> None:
    """As with another covariance, by name; its own file may lie anywhere."""
    parties: dict[str, FlatValue] = {"requests-per-round": "[[1, 1, 2]]"}
    chosen = tables("malmen", source, run={"rounds": 1}) | {"parties": parties}
    path = save_tiny_hypernetwork(tmp_path)
    mine = federate({1: {"hypernetwork-path": str(path)}}, **chosen)
    assert_same_bits(mine.delta(), federate(**chosen).delta())
    save_tiny_hypernetwork(tmp_path, seed=1)
    with pytest.raises(PartyInputError, match=r"party 1 .* another hypernetwork"):
        mine.run()


def test_values_are_bounded_as_residuals_are(federate: Make, source: str) -> None:
    """A party whose values are longer is left out, with the setting's name."""

    def stretch(content: RecordDict) -> None:
        record = content.array_records["statistics"]
        for name, array in record.items():
            if name.endswith("residuals"):
                record[name] = to_array(1e4 * torch.from_numpy(array.numpy().copy()))

    parties: dict[str, FlatValue] = {"requests-per-round": "[[1, 1, 2]]"}
    chosen = tables("malmen", source, run={"rounds": 1}) | {"parties": parties}
    hostile, recorder = federate(**chosen), Recorder()
    hostile.tampers[1] = on_phase(Phase.TARGETS, stretch)
    found = hostile.run(callbacks=recorder)[0].delta
    (refusal,) = recorder.rounds[-1].outcome.refusals
    assert "run.max-residual-ratio" in refusal.reason
    without = federate(**chosen | {"parties": parties | {"without": "[1]"}})
    assert_same_delta(found, without.delta(), ALGEBRA)


def test_a_hypernetwork_for_other_layers_is_refused_before_the_run(
    federate: Make, source: str
) -> None:
    """By the server, whose copy is read first."""
    chosen = tables("malmen", source) | {"editing": {"layers": "[1, 3]"}}
    with pytest.raises(HypernetworkError, match=r"is for layers \[1, 2\].*run edits"):
        federate(**chosen).run()
    named = chosen | {
        "editor": {"name": "malmen", "settings": '{"hypernetwork": "/no/net"}'}
    }
    with pytest.raises(HypernetworkError, match="/no/net: no hypernetwork"):
        federate(**named).run()


def test_a_party_with_impossible_moments_is_left_out(
    federate: Make, source: str
) -> None:
    """The others go on without it, in moments and statistics."""

    def stretch(content: RecordDict) -> None:
        record = content.array_records["answers"]
        record["16x24.total"] = to_array(torch.full((40,), 1e9, dtype=torch.float64))

    parties: dict[str, FlatValue] = {"requests-per-round": "[[1, 1, 2]]"}
    chosen = tables("ultraedit", source, run={"rounds": 1}) | {"parties": parties}
    hostile, recorder = federate(**chosen), Recorder()
    hostile.tampers[1] = on_phase(Phase.ANSWERS, stretch)
    found = hostile.run(callbacks=recorder)[0].delta
    (refusal,) = recorder.rounds[-1].outcome.refusals
    assert "square of a mean" in refusal.reason
    without = federate(**chosen | {"parties": parties | {"without": "[1]"}})
    assert_same_delta(found, without.delta(), ALGEBRA)
    assert hostile.nodes_asked(Phase.TARGETS) == [hostile.node(0), hostile.node(2)]


def test_a_round_starts_again_without_a_party_that_is_lost_after_its_moments(
    federate: Make, source: str
) -> None:
    """Or it would be in the moments, and not in the statistics."""
    parties: dict[str, FlatValue] = {"requests-per-round": "[[1, 1, 2]]"}
    chosen = tables("ultraedit", source, run={"rounds": 1}) | {"parties": parties}
    lossy = federate(**chosen)
    lossy.tampers[1] = on_phase(Phase.TARGETS, lambda content: content.clear())
    without = federate(**chosen | {"parties": parties | {"without": "[1]"}})
    assert_same_bits(lossy.delta(), without.delta())
    assert lossy.nodes_asked(Phase.ANSWERS) == [*map(lossy.node, (0, 1, 2, 0, 2))]


@pytest.mark.parametrize("secure", [False, True])
def test_a_duplicate_counts_once_in_moments_and_statistics(
    federate: Make, tmp_path: Path, secure: bool
) -> None:
    """Resolutions go with the question for moments, too; prompts need no subject."""
    first, second = (
        EditRequest(case_id=n, prompt=text, target_new="Acme Inc then Oslo")
        for n, text in enumerate(("who works at Group ?", "they found"))
    )
    third = first.model_copy(update={"case_id": 2})
    texts = [to_counterfact(each) for each in (first, second, third)]
    parties: dict[str, FlatValue] = {"requests-per-round": 1, "deduplicate": True}
    chosen = tables("ultraedit", str(write_json(tmp_path / "twice.json", texts)))
    federation = federate(
        **chosen
        | {"parties": parties, "run": {"rounds": 1}, "privacy": {"secure-sum": secure}}
    )
    rule = federation.config.editor.build().answers
    assert rule is not None
    prepared = federation.preparation
    layers = prepared.plan.parameters.layers
    alone = edit_answers(prepared.model, [first, second], layers, rule)
    found = federation.delta()
    assert_same_delta(found, alone.delta, 1e-6 if secure else ALGEBRA)
    assert federation.strategy.registry.outcomes[1].duplicates == 1


def test_an_edit_raises_the_answers(federate: Make, source: str) -> None:
    """In the parties' own metrics, which need no subject either."""
    recorder = Recorder()
    parties: dict[str, FlatValue] = {"requests-per-round": "[[1, 2, 3]]"}
    chosen = tables("ultraedit", source, run={"rounds": 1}, parties=parties)
    federate(**chosen).run(evaluate_unedited=True, callbacks=recorder)
    before, after = (each.evaluation.of_round(1) for each in recorder.rounds)
    assert after.counts["rewrite_acc"] == 6
    assert after.means()["rewrite_diff"] > before.means()["rewrite_diff"]
