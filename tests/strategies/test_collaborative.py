"""Many parties edit as one would."""

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord

from editing.algebra.deltas import applied
from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from editing.evaluation.answers import measure_answers
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.generated_texts import add_texts
from editing.evaluation.metrics import DIAGNOSIS
from editing.memit.residuals import read_hidden
from editing.memit.targets import compute_targets
from server.evaluation import summarise
from strategies.merges.choice import read_merge
from strategies.methods import COMPARED, GLOBAL
from strategies.wire.arrays import digest_arrays
from strategies.wire.deltas import Updates
from strategies.wire.messages import Phase, read_job
from strategies.wire.updates import DELTA, read_carried
from tests.federation import (
    AT_ONCE,
    FLOAT32_PIPELINE,
    Federation,
    Recorder,
    assert_same_bits,
    assert_same_delta,
    count_targets,
    edit_in_rounds,
    priors_after,
)
from tests.laws import ALGEBRA, assert_same
from tests.strategies.transport import sums_in
from tests.tiny import LAYERS

Make = Callable[..., Federation]

SCHEDULES = ("layerwise", "frozen-harmonic", "frozen-uniform", "boundary")
UNEQUAL = {"requests-per-round": "[1, 4, 2]"}
SHUFFLED = {"split": "shuffled", "count": 2, "requests-per-round": "[2, 3]"}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("parties", [UNEQUAL, SHUFFLED], ids=["unequal", "shuffled"])
def test_editing_together_equals_editing_on_one_machine(
    federate: Make, schedule: str, parties: dict[str, str | int]
) -> None:
    """The whole pipeline with a float32 model, from files to the delta."""
    federation = federate(
        model={"dtype": "float32"}, editing={"schedule": schedule}, parties=parties
    )
    together = federation.delta()
    assert_same_delta(together, federation.delta("global"), FLOAT32_PIPELINE)
    assert_same_delta(together, federation.edit_alone(), FLOAT32_PIPELINE)


@pytest.mark.parametrize(
    "options",
    [
        {"target-of": "streams"},
        {"target-of": "streams", "schedule": "boundary"},
        {"norm-anchor": 4.0, "stop": "top-1"},
    ],
    ids=str,
)
def test_options_of_targets_are_each_party_s_own(
    federate: Make, options: dict[str, object]
) -> None:
    """What they change, they change for the union as for its parts."""
    sizes = {"requests-per-round": "[1, 2, 1]"}
    federation = federate(editing=options, run={"rounds": 2}, parties=sizes)
    assert_same_delta(federation.delta(), federation.edit_alone(), ALGEBRA)


@pytest.mark.parametrize(
    ("schedule", "rounds", "gamma"),
    [
        ("layerwise", 2, 1.0),
        ("layerwise", 2, 0.0),
        ("frozen-harmonic", 3, 0.5),
        ("frozen-uniform", 2, 1.0),
        ("boundary", 2, 1.0),
    ],
)
def test_several_rounds_equal_several_rounds_on_one_machine(
    federate: Make, schedule: str, rounds: int, gamma: float
) -> None:
    """Deltas accumulate, and the prior remembers the grams of all parties.

    In float64 nothing but the order of sums differs.
    """
    federation = federate(
        editing={"schedule": schedule},
        run={"rounds": rounds},
        prior={"memory-weight": gamma},
        parties={"requests-per-round": "[1, 2, 1]"},
    )
    together = federation.delta()
    assert_same_delta(together, federation.edit_alone(), ALGEBRA)
    assert_same_delta(together, federation.delta("global"), ALGEBRA)


def test_memory_changes_later_rounds_and_holds_what_was_asked(federate: Make) -> None:
    """Its weight is that of the sum of all earlier grams, in the prior alone."""
    deltas = {}
    for gamma in (0.0, 1.0):
        federation = federate(
            run={"rounds": 3},
            editing=AT_ONCE,
            prior={"memory-weight": gamma},
            parties={"requests-per-round": 1},
        )
        strategy, _ = federation.run()
        deltas[gamma] = strategy.delta
        expected = priors_after(
            federation.preparation,
            [federation.requests(1), federation.requests(2)],
            gamma,
        )
        for layer, prior in expected.items():
            assert_same(strategy.layers[layer].memory.prior().matrix(), prior)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_delta(deltas[0.0], deltas[1.0], 1e-3)


def test_both_encodings_give_one_delta_and_factors_are_smaller(federate: Make) -> None:
    """Statistics travel one way or the other."""
    sent, deltas = {}, {}
    for encoding in ("factors", "dense"):
        federation = federate(run={"encoding": encoding})
        strategy, _ = federation.run()
        deltas[encoding] = strategy.delta
        sent[encoding] = strategy.registry.outcomes[1].bytes_up
        assert sent[encoding] == bytes_of_statistics(federation)
    assert_same_delta(deltas["factors"], deltas["dense"], ALGEBRA)
    assert all(size < sent["dense"][node] for node, size in sent["factors"].items())


def bytes_of_statistics(federation: Federation) -> dict[int, int]:
    """Count the bytes of all arrays in the replies, by node."""
    sent: dict[int, int] = {}
    contributed = federation.replies(Phase.TARGETS)
    for message in [*contributed, *federation.replies(Phase.STATISTICS)]:
        arrays = message.content.array_records["statistics"].values()
        node = message.metadata.src_node_id
        sent[node] = sent.get(node, 0) + sum(len(array.data) for array in arrays)
    return sent


def test_the_same_run_gives_the_same_bits_and_node_numbers_never_matter(
    federate: Make,
) -> None:
    """Sums go by party, whatever numbers Flower gives the nodes."""
    first = federate(parties=UNEQUAL).delta()
    assert_same_bits(first, federate(parties=UNEQUAL).delta())
    other = federate(parties=UNEQUAL, places=(30, 10, 20))
    assert list(other.contexts) == [30, 10, 20]
    assert_same_bits(first, other.delta())
    assert other.strategy.registry.parties.joined == [30, 10, 20]


def test_updates_of_earlier_runs_are_carried_on(federate: Make) -> None:
    """A run may begin on a model that was edited before."""
    federation = federate(editing=AT_ONCE, prior={"memory-weight": 0.0})
    before, result = federation.run()
    federation.run(initial=result.arrays)
    requests = federation.requests(1)
    expected = edit_in_rounds(federation.preparation, [requests, requests], 0.0)
    assert_same_delta(federation.strategy.delta, expected, ALGEBRA)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_delta(before.delta, expected, 1e-3)


def test_targets_are_computed_once_when_merges_are_compared(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every merge reads what the first one left in the parties' folders."""
    computed = count_targets(monkeypatch)
    federation = federate(editing=AT_ONCE)
    deltas = {name: federation.delta(name) for name in (*COMPARED, GLOBAL)}
    assert sorted(computed) == sorted(r.subject for r in federation.requests(1))
    assert_same_delta(deltas["collabedit"], deltas["global"], ALGEBRA)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_delta(deltas["simple-average"], deltas["global"], 1e-3)


def test_a_comparison_does_not_change_what_a_merge_comes_to(federate: Make) -> None:
    """In the second round each merge has another model, and other targets."""
    rounds = {"rounds": 2}
    compared = federate(editing=AT_ONCE, run=rounds)
    compared.run("collabedit")
    compared.run("simple-average")
    alone = federate(editing=AT_ONCE, run=rounds)
    assert_same_bits(compared.strategy.delta, alone.delta("simple-average"))


def test_naive_merges_merge_what_each_party_would_write_alone(federate: Make) -> None:
    """One exchange is the merge of the parties' own statistics, in their order."""
    federation = federate(editing=AT_ONCE, parties=UNEQUAL)
    prepared = federation.preparation
    found = federation.delta("ties")
    for layer in LAYERS:
        parts = [
            federation.statistics_of(requests)[layer]
            for requests in federation.requests_of_parties(1)
        ]
        assert all(isinstance(part, LayerStatistics) for part in parts)
        prior = prepared.prior_weight * prepared.covariance.moments[layer]
        name = prepared.model.weight_name(layer)
        assert_same(found[name], read_merge("ties")(parts, System(Prior(prior))))


def test_metrics_of_parties_add_up_to_those_of_the_edited_model(federate: Make) -> None:
    """Sums and counts of all parties are those of all requests at once."""
    federation = federate(editing=AT_ONCE, parties=UNEQUAL)
    strategy, result = federation.run(evaluate_unedited=True)
    model = federation.preparation.model
    requests = federation.requests(1)
    for number, delta in ((0, {}), (1, strategy.delta)):
        with applied(delta, model.model):
            cases = evaluate_requests(model, requests)
            if number:  # the last round's answers are generated, too
                found = measure_answers(model, requests, EvaluationConfig())
                cases = add_texts(cases, found)
            total = sum_cases(cases)
        said = sums_in(result.evaluate_metrics_clientapp[number]).of_round(1)
        assert total.counts["rewrite_acc"] == len(requests) == 7
        assert said.sums.keys() - total.sums.keys() == (
            DIAGNOSIS.keys() if number else set()
        )
        counts, sums = ({**each} for each in (said.counts, said.sums))
        for name in DIAGNOSIS if number else ():
            assert (counts.pop(name), sums.pop(name) >= 0) == (7, True)
        assert counts == total.counts
        assert sums == pytest.approx(total.sums, rel=1e-6)
        averages = result.evaluate_metrics_clientapp[number]
        assert averages["score"] == pytest.approx(total.means()["score"], rel=1e-6)


@pytest.mark.parametrize(("when", "rounds"), [("last", {2}), ("every", {1, 2})])
def test_answers_are_generated_after_the_last_round_to_all_edits(
    federate: Make, when: str, rounds: set[int]
) -> None:
    """Under secure sums as well, which come to the same shares."""
    parties = {"count": 3, "requests-per-round": 1}
    tables = {"parties": parties, "run": {"rounds": 2}, "editing": AT_ONCE}
    evaluation = {"generated-answers": when, "answer-tokens": 4}
    means = []
    for secure in (False, True):
        federation = federate(
            **tables, evaluation=evaluation, privacy={"secure-sum": secure}
        )
        _, result = federation.run(evaluate_unedited=True)
        answered = {}
        for number, record in result.evaluate_metrics_clientapp.items():
            found = sums_in(record)
            for asked, sums in found.by_round.items():
                if "rewrite_generated_exact" in sums.counts:
                    assert sums.counts["rewrite_generated_exact"] == 3
                    answered[number, asked] = sums.means()["rewrite_generated_exact"]
        assert {number for number, _ in answered} == rounds | (
            {0} if when == "every" else set()
        )
        assert {(2, 1), (2, 2)} <= answered.keys()
        means.append(answered)
    assert means[0] == pytest.approx(means[1])


def test_under_global_one_party_is_asked_to_evaluate(federate: Make) -> None:
    """It holds all requests, so nobody's count twice."""
    federation = federate(editing=AT_ONCE)
    _, result = federation.run("global", evaluate_unedited=True)
    assert [
        result.evaluate_metrics_clientapp[number]["round.1.count.rewrite_acc"]
        for number in (0, 1)
    ] == [6.0, 6.0]
    assert federation.nodes_asked(Phase.EVALUATE) == [federation.node(0)] * 2
    assert federation.nodes_asked(Phase.TARGETS) == [federation.node(0)]


def test_progress_is_reported_phase_by_phase(federate: Make) -> None:
    """From none of the replies to all of them, in every exchange."""
    federation = federate(parties={"count": 2})
    recorder = Recorder()
    federation.run(callbacks=recorder)
    phases = [Phase.DESCRIBE, Phase.TARGETS, Phase.STATISTICS, Phase.EVALUATE]
    rounds = [0, 1, 1, 1]
    assert recorder.progress == [
        (phase.value, number, done, 2)
        for phase, number in zip(phases, rounds, strict=True)
        for done in (0, 1, 2)
    ]


def test_layerwise_asks_layer_by_layer_on_the_model_as_edited_so_far(
    federate: Make,
) -> None:
    """The second layer's keys are read after the first layer's merged update.

    What the model carries is named in each message, and what is new to it sent.
    """
    federation = federate()
    federation.run()
    asked = [
        (
            read_job(message.content).layers,
            sorted(read_carried(message.content)),
            sorted(message.content.array_records[DELTA]),
        )
        for phase in (Phase.TARGETS, Phase.STATISTICS, Phase.EVALUATE)
        for message in federation.requests_to(0, phase)
    ]
    first, second = map(federation.preparation.model.weight_name, LAYERS)
    assert [layers for layers, _, _ in asked[:2]] == [(1,), (2,)]
    carried = [names for _, names, _ in asked]
    assert carried == [[], [first], [first, second]]
    assert [names for _, _, names in asked] == [[], [first], [second]]


def test_a_caller_of_the_strategy_may_add_settings_for_its_own_clients(
    federate: Make,
) -> None:
    """Flower's strategies pass such tables on."""
    federation = federate(editing=AT_ONCE)
    federation.run(
        train_config=ConfigRecord({"mine": 1}), evaluate_config=ConfigRecord({"his": 2})
    )
    (training,) = federation.requests_to(0, Phase.TARGETS)
    (evaluating,) = federation.requests_to(0, Phase.EVALUATE)
    assert training.content.config_records["config"]["mine"] == 1
    assert evaluating.content.config_records["config"]["his"] == 2


def test_the_diagnosis_of_all_parties_arrives_with_the_round(
    federate: Make,
) -> None:
    """As a sum over the edited requests of every party, on the merged model."""
    federation = federate(editing=AT_ONCE, run={"rounds": 2})
    recorder = Recorder()
    federation.run(callbacks=recorder, evaluate_unedited=True)
    before, first, second = (each.evaluation for each in recorder.rounds)
    assert not before.of_round(1).counts.keys() & DIAGNOSIS.keys()
    # Edits of an earlier round are evaluated again, and diagnosed once.
    assert not second.of_round(1).counts.keys() & DIAGNOSIS.keys()
    metrics = summarise(first, None, None, 1)
    for name in DIAGNOSIS:
        assert first.of_round(1).counts[name] == second.of_round(2).counts[name] == 6
        assert getattr(metrics, name) == first.of_round(1).means()[name]
    model, plan = federation.preparation.model, federation.preparation.plan
    requests, layer = federation.requests(1), LAYERS[-1]
    targets = compute_targets(model, requests, plan.templates, plan.parameters)
    hidden = read_hidden(model, requests, layer)
    alone = federate(editing=AT_ONCE).delta()
    with applied(alone, model.model):
        after = read_hidden(model, requests, layer)
    wanted = (targets.states - hidden).norm(dim=1)
    left = (targets.states - after).norm(dim=1) / wanted
    assert metrics.residual_left == pytest.approx(float(left.mean()), rel=1e-6)


def test_messages_are_written_and_replies_merged_apart(federate: Make) -> None:
    """As Flower's contract says: `configure_*` writes, `aggregate_*` validates."""
    federation = federate(editing=AT_ONCE)
    strategy, result = federation.run()
    asked = len(federation.messages)
    config, arrays = ConfigRecord(), strategy.to_arrays()
    training = strategy.configure_train(2, arrays, config, federation.grid)
    evaluating = strategy.configure_evaluate(2, arrays, config, federation.grid)
    for messages in (training, evaluating):
        nodes = [message.metadata.dst_node_id for message in messages]
        assert nodes == list(federation.contexts)
    assert len(federation.messages) == asked
    assert result.train_metrics_clientapp[1]["requests"] == 6
    strategy.updates = Updates(dtype=federation.preparation.model.dtype)
    strategy.registry.restart_round(1)
    merged, metrics = strategy.aggregate_train(1, federation.replies(Phase.TARGETS))
    assert merged is not None
    assert digest_arrays(merged) == digest_arrays(strategy.to_arrays())
    assert sorted(merged) == sorted(arrays)
    assert metrics is not None
    assert metrics["requests"] == 6
