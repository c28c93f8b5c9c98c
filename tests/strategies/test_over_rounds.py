"""Laws of several rounds: one machine, one memory, one state to go on from."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp.exception import AggregationError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.deltas import applied
from editing.algebra.encodings import encode
from editing.algebra.solving import solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.hyperparameters.config import Plan
from editing.memit.pipeline import read_pairs
from editing.memit.targets import compute_targets
from editing.requests.conflicts import conflicting
from editing.requests.edit_request import EditRequest, to_counterfact
from sims.runs.in_process import InProcessGrid, make_contexts
from strategies.collaborative import CollaborativeEditing
from strategies.merges.choice import read_merge
from strategies.rounds.memory import Memory
from strategies.rounds.settings import EditingSettings
from strategies.rounds.state import EditedLayer
from strategies.scenario import FlatValue
from strategies.wire.arrays import to_tensors
from strategies.wire.handshakes import Handshake, write_handshake
from strategies.wire.messages import (
    PROTOCOL_VERSION,
    Job,
    ModelIdentity,
    Phase,
    TargetsReply,
    read_job,
    write_contribution,
)
from strategies.wire.updates import DELTA
from tests.federation import (
    AT_ONCE,
    Federation,
    Recorder,
    assert_same_bits,
    assert_same_delta,
    edit_in_rounds,
    world_requests,
    write_json,
)
from tests.laws import (
    ALGEBRA,
    assert_same,
    draw_pairs,
    draw_prior,
    relative_difference,
)
from tests.strategies.transport import sums_in, write_numbers
from tests.tiny import LAYERS, PARAMETERS, TEMPLATES

Make = Callable[..., Federation]

JOINING = "[[1, 0, 2], [1, 1, 0], [0, 2, 1], [1, 0, 0]]"
"""Requests of three parties in four rounds; who has none is not there."""

IDENTITY = ModelIdentity(weights="w", tokenizer="t")
WEIGHT = "layer.weight"


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 5.0])
def test_parties_that_come_and_go_edit_as_one_machine_with_the_same_memory(
    federate: Make, rounds: int, gamma: float
) -> None:
    """`collabedit` is `global` after every number of rounds, whatever is remembered."""
    federation = federate(
        run={"rounds": rounds},
        prior={"memory-weight": gamma},
        parties={"requests-per-round": JOINING, "allow-empty": True},
        editing={} if rounds == 3 else AT_ONCE,
    )
    together = federation.delta()
    memories = {k: each.memory for k, each in federation.strategy.layers.items()}
    assert_same_delta(together, federation.delta("global"), ALGEBRA)
    assert_same_delta(together, federation.edit_alone(), ALGEBRA)
    for layer, edited in federation.strategy.layers.items():
        assert_same(memories[layer].prior().matrix(), edited.memory.prior().matrix())


def linear_client(
    keys: Mapping[tuple[int, int], Tensor], values: Mapping[tuple[int, int], Tensor]
) -> Callable[[Message, Context], Message]:
    """A party whose model is one linear layer, with fixed keys and wanted outputs."""
    held: dict[int, Tensor] = {}

    def answer(message: Message, context: Context) -> Message:
        phase = message.metadata.message_type
        party = int(str(context.node_config["partition-id"]))
        sent = to_tensors(message.content.array_records[DELTA])
        if WEIGHT in sent:
            held[party] = sent[WEIGHT]
        if phase == Phase.DESCRIBE.value:
            content = write_handshake(
                Handshake(protocol=PROTOCOL_VERSION, identity=IDENTITY, party=party)
            )
        elif phase == Phase.TARGETS.value:
            own = read_job(message.content).round, party
            now = keys[own] @ held[party].double().mT if party in held else 0
            parts = {0: encode(keys[own], values[own] - now, "dense")}
            reply = TargetsReply(requests=len(keys[own]))
            content = write_contribution(reply, parts, own[0])
        else:
            content = write_numbers({})
        return Message(content, reply_to=message)

    return answer


@settings(max_examples=15)
@given(
    rounds=st.integers(1, 4),
    parties=st.integers(1, 3),
    edits=st.integers(1, 2),
    seed=st.integers(0, 2**16),
)
def test_rounds_remembered_at_weight_one_equal_one_round_on_the_union(
    rounds: int, parties: int, edits: int, seed: int
) -> None:
    """With fixed keys and targets, through the whole protocol."""
    count = rounds * parties * edits
    all_keys, all_values = draw_pairs(count, seed)
    places = [(n, p) for n in range(1, rounds + 1) for p in range(parties)]
    keys = dict(zip(places, torch.split(all_keys, edits), strict=True))
    values = dict(zip(places, torch.split(all_values, edits), strict=True))
    memory = Memory(draw_prior(seed), 2.0, 1.0)
    parameters = PARAMETERS.model_copy(update={"layers": (0,)})
    plan = Plan(parameters=parameters, schedule="layerwise", templates=TEMPLATES)
    layer = EditedLayer(WEIGHT, all_values.shape[1], all_keys.shape[1], memory)
    strategy = CollaborativeEditing(
        EditingSettings(
            job=Job(identity=IDENTITY, plan=plan, encoding="dense"),
            merge=read_merge("collabedit"),
            layers={0: layer},
            parties=parties,
            dtype=torch.float64,
        )
    )
    grid = InProcessGrid(make_contexts({}, parties), linear_client(keys, values))
    strategy.start(grid, ArrayRecord(), num_rounds=rounds, train_config=ConfigRecord())
    union = LayerStatistics.of_pairs(all_keys, all_values)
    assert_same(strategy.delta[WEIGHT], solve_delta(union, memory.prior()), ALGEBRA)


@pytest.mark.parametrize("schedule", ["layerwise", "frozen-uniform", "boundary"])
def test_keys_can_be_read_again_after_the_edit_for_the_memory(
    federate: Make, schedule: str
) -> None:
    """The memory then holds the grams of the edited model's keys.

    It takes one exchange more, but where each layer is an exchange, which has read
    those keys already; the delta of the round itself is the same.
    """
    tables = {"editing": {"schedule": schedule}, "run": {"rounds": 2}}
    federation = federate(**tables, prior={"memory-keys": "edited"})
    recorder, others = Recorder(), Recorder()
    federation.run(callbacks=recorder)
    found = recorder.states[0]
    model, plan = federation.preparation.model, federation.preparation.plan
    requests = federation.requests(1)
    targets = compute_targets(model, requests, plan.templates, plan.parameters)
    with applied(found.delta, model.model):
        pairs = read_pairs(model, requests, targets, plan, LAYERS)
    for layer in LAYERS:
        keys = pairs[layer].keys
        assert_same(found.grams[layer], keys.mT @ keys)
    other = federate(**tables)
    other.run(callbacks=others)
    solved = others.states[0]
    assert_same_bits(found.delta, solved.delta)
    last = LAYERS[-1]
    ours, theirs = found.grams[last], solved.grams[last]
    frozen = schedule == "frozen-uniform"
    assert len(federation.nodes_asked(Phase.MEMORY)) == (3 if frozen else 0)
    assert (relative_difference(ours, theirs) > 1e-4) == frozen
    assert other.nodes_asked(Phase.MEMORY) == []


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_resumes_after_a_round_ends_where_the_whole_one_ends(
    federate: Make, stop: int
) -> None:
    """Bit for bit, by delta, memory and metrics; only the missing rounds are run."""
    tables = {"run": {"rounds": 3}, "parties": {"requests-per-round": 1}}
    recorder = Recorder()
    whole = federate(**tables)
    _, result = whole.run(callbacks=recorder)
    assert [state.number for state in recorder.states] == [1, 2, 3]
    rest = federate(**tables)
    strategy, resumed = rest.run(resume=recorder.states[stop - 1])
    assert_same_bits(strategy.delta, whole.strategy.delta)
    ours, theirs = strategy.state().grams, whole.strategy.state().grams
    assert tuple(ours) == LAYERS
    for layer, gram in ours.items():
        assert torch.equal(gram, theirs[layer])
    assert set(resumed.evaluate_metrics_clientapp) == set(range(stop + 1, 4))
    for number, found in resumed.evaluate_metrics_clientapp.items():
        assert dict(found) == dict(result.evaluate_metrics_clientapp[number])
    assert (
        rest.nodes_asked(Phase.TARGETS) == whole.nodes_asked(Phase.TARGETS)[3 * stop :]
    )


def test_a_run_goes_on_without_a_party_that_left_it_for_good(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node was unregistered; a run that begins still waits for all parties."""
    monkeypatch.setattr("strategies.rounds.registry.RETURN_SECONDS", 0.1)
    tables: dict[str, dict[str, FlatValue]] = {
        "run": {"rounds": 2, "min-parties": 2, "timeout": 100.0},
        "parties": {"requests-per-round": 1},
    }
    recorder = Recorder()
    whole = federate(**tables)
    whole.run(callbacks=recorder)
    rest = federate(**tables)
    rest.grid = rest.grid_of(0, 2)
    strategy, _ = rest.run(resume=recorder.states[0])
    first, second = (rest.requests_of_parties(number) for number in (1, 2))
    rounds = [[hand[0] for hand in first], [second[0][0], second[2][0]]]
    expected = edit_in_rounds(rest.preparation, rounds, 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)
    short = {"rounds": 2, "min-parties": 2, "timeout": 0.3}
    for attendance, state, message in (
        ((0, 2), None, "3 parties were expected and 2 came"),
        ((0,), recorder.states[0], "2 parties were expected and 1 came"),
    ):
        alone = federate(**{**tables, "run": {**short}})
        alone.grid = alone.grid_of(*attendance)
        with pytest.raises(AggregationError, match=message):
            alone.run(resume=state)


def test_every_round_is_evaluated_by_its_own_requests_and_all_earlier_ones(
    federate: Make,
) -> None:
    """On the model as it is after that round."""
    federation = federate(
        editing=AT_ONCE, run={"rounds": 3}, parties={"requests-per-round": 1}
    )
    _, result = federation.run(evaluate_unedited=True)
    evaluated = {
        number: sorted(sums_in(found).by_round)
        for number, found in result.evaluate_metrics_clientapp.items()
    }
    assert evaluated == {0: [1], 1: [1], 2: [1, 2], 3: [1, 2, 3]}


@pytest.mark.parametrize(("every", "due"), [(3, [0, 3, 4]), (9, [0, 4])])
def test_rounds_that_are_not_due_are_not_evaluated(
    federate: Make, every: int, due: list[int]
) -> None:
    """All others are as ever, and so are the edits; the last one is always due."""
    rounds = {"run": {"rounds": 4}, "parties": {"requests-per-round": 1}}
    whole, sparse = (
        federate(editing=AT_ONCE, evaluation={"every": step}, **rounds)
        for step in (1, every)
    )
    theirs, expected = whole.run(evaluate_unedited=True)
    ours, found = sparse.run(evaluate_unedited=True, callbacks=(kept := Recorder()))
    assert list(found.evaluate_metrics_clientapp) == due
    for number, metrics in found.evaluate_metrics_clientapp.items():
        assert metrics == expected.evaluate_metrics_clientapp[number]
    assert_same_bits(ours.delta, theirs.delta)
    evaluated = [bool(each.evaluation.by_round) for each in kept.rounds]
    assert evaluated == [number in due for number in range(5)]
    assert len(sparse.replies(Phase.EVALUATE)) == 3 * len(due)


def test_a_round_whose_requests_are_all_known_changes_nothing(federate: Make) -> None:
    """The parties are content, which stops no run."""
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2, "min-parties": 3},
        parties={"skip-known": 1e9},
    )
    strategy, result = federation.run()
    assert strategy.delta == {}
    outcome = strategy.registry.outcomes[2]
    assert (outcome.requests, outcome.known, len(outcome.unedited)) == (0, 6, 3)
    assert federation.nodes_asked(Phase.STATISTICS) == []
    assert result.evaluate_metrics_clientapp[2]["round.2.count.rewrite_acc"] == 6.0


@pytest.mark.parametrize("policy", ["none", "first", "last", "majority", "drop"])
def test_conflicts_are_resolved_alike_on_one_machine_and_many(
    federate: Make, tmp_path: Path, policy: str
) -> None:
    """`collabedit` is `global` also where requests repeat and contradict others."""
    file = write_json(
        tmp_path / "meeting.json", [to_counterfact(each) for each in meeting_requests()]
    )
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2},
        parties={"deduplicate": True, "conflicts": policy},
        requests={"source": str(file)},
    )
    together = federation.delta()
    apart = federation.strategy.registry.outcomes
    assert_same_delta(together, federation.delta("global"), ALGEBRA)
    for number, pooled in federation.strategy.registry.outcomes.items():
        ours = apart[number]
        assert ours.left_out == pooled.left_out
        assert (ours.duplicates, ours.conflicts) == (
            pooled.duplicates,
            pooled.conflicts,
        )
    assert (apart[1].duplicates, apart[1].conflicts) == (1, 1)
    assert apart[2].duplicates == 0
    # What was left out in the first round is no history for the second to contradict.
    assert apart[2].conflicts == (0 if policy in {"last", "drop"} else 1)
    left_out = {"none": (1, 0), "last": (2, 0), "drop": (3, 0)}
    expected = left_out.get(policy, (2, 1))
    assert (apart[1].left_out, apart[2].left_out) == expected


@pytest.mark.parametrize(
    "table", [{"deduplicate": True}, {"conflicts": "first"}], ids=str
)
def test_what_a_party_that_fails_had_asked_for_rules_nobody_out(
    federate: Make, tmp_path: Path, table: dict[str, str | bool]
) -> None:
    """In the same round the others are ruled on again, and in later ones too."""
    one, *others = world_requests()
    other = one if "deduplicate" in table else conflicting(one, "Works Group", 900)
    listed = [one, other, others[0], other]
    numbered = [
        request.model_copy(update={"case_id": place})
        for place, request in enumerate(listed)
    ]
    records = [to_counterfact(each) for each in numbered]
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2},
        parties={"count": 2, "requests-per-round": 1, **table},
        requests={"source": str(write_json(tmp_path / "two.json", records))},
    )

    def fail_once(message: Message, reply: Message) -> Message:
        asked = message.metadata.message_type, read_job(message.content).round
        if asked == (Phase.TARGETS.value, 1):
            raise MemoryError
        return reply

    federation.tampers[0] = fail_once
    strategy, _ = federation.run()
    first, second = (strategy.registry.outcomes[number] for number in (1, 2))
    assert (first.requests, first.left_out, len(first.refusals)) == (1, 0, 1)
    assert (second.requests, second.left_out, second.conflicts) == (2, 0, 0)
    asked = [federation.node(party) for party in (0, 1, 1, 0, 1)]
    assert federation.nodes_asked(Phase.TARGETS) == asked


def meeting_requests() -> list[EditRequest]:
    """Give two rounds of three parties with two requests each.

    In the first, one fact is asked for by all: twice alike, once otherwise. In the
    second, one party asks for it otherwise again.
    """
    one, *others = world_requests()
    other = conflicting(one, "Works Group", 900)
    first = [one, others[0], one, others[1], other, others[2]]
    second = [others[3], others[4], other, others[5], others[6], others[7]]
    return [
        request.model_copy(update={"case_id": number})
        for number, request in enumerate(first + second)
    ]
