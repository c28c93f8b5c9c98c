"""Rounds that the gate stops, and rounds that it lets pass."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from flwr.app import Message
from torch import Tensor

from editing.algebra.encodings import EncodedStatistics, decode
from editing.algebra.statistics import LayerStatistics
from strategies.gate.decision import GateConfig, Measures
from strategies.gate.gate import Gate, StoppedRoundError
from strategies.methods import read_method
from strategies.rounds.aggregation import SpoiledModelError
from strategies.wire.messages import Phase, read_job, read_statistics, write_statistics
from strategies.wire.metrics import EvaluationSums, read_evaluation, write_evaluation
from tests.federation import AT_ONCE, Federation, Recorder, assert_same_bits
from tests.tiny import LAYERS

Make = Callable[..., Federation]
Falsify = Callable[[LayerStatistics], LayerStatistics]

CONFIG = GateConfig(requests=1, max_drop=500.0)
"""Honest updates of two rounds are shorter than that, and a hostile one is longer."""

BLIND = GateConfig(requests=1, max_drop=1e9)
"""Measures nothing amiss."""

FREE = {"max-residual-ratio": 1e9, "max-key-ratio": 1e9}


def norms(delta: Mapping[str, Tensor]) -> Measures:
    """Let the held-out facts fall by a point for each unit of an update's norm."""
    total = sum(each.norm().item() for each in delta.values())
    return Measures(100.0 - total, None, 0.0)


def close(
    merge: str = "collabedit", config: GateConfig = CONFIG
) -> tuple[Gate, Recorder]:
    """Make a gate for a run."""
    recorder = Recorder()
    return Gate(recorder, config, read_method(merge).merge, norms), recorder


def falsifying(
    falsify: Falsify, federation: Federation, *layers: int, party: int = 1
) -> None:
    """Have a party send other statistics of some layers; of all if none."""

    def tamper(message: Message, reply: Message) -> Message:
        if message.metadata.message_type in {Phase.TARGETS, Phase.STATISTICS}:
            job = read_job(message.content)
            parts = {}
            for layer in job.layers:
                widths = federation.preparation.model.widths(layer)
                sent = read_statistics(reply.content, layer, job.round)
                part = decode(sent, widths[1], widths[0])
                made = falsify(part) if not layers or layer in layers else part
                tensors = {"keys": made.keys, "residuals": made.residuals}
                parts[layer] = EncodedStatistics("factors", tensors, made.count)
            record = write_statistics(parts, job.round)
            reply.content["statistics"] = record["statistics"]
        return reply

    federation.tampers[party] = tamper


def longer(part: LayerStatistics) -> LayerStatistics:
    """Ask for a far larger change."""
    return replace(part, residuals=1e3 * part.residuals)


def claiming(federation: Federation, party: int, success: float) -> None:
    """Have a party report another efficacy of its own requests."""
    before = federation.tampers.get(party)

    def tamper(message: Message, reply: Message) -> Message:
        reply = before(message, reply) if before else reply
        if message.metadata.message_type == Phase.EVALUATE:
            own = read_evaluation(reply.content)
            made = {
                number: replace(
                    sums,
                    sums={
                        name: success * sums.counts[name]
                        if name == "rewrite_success"
                        else value
                        for name, value in sums.sums.items()
                    },
                )
                for number, sums in own.by_round.items()
            }
            record = write_evaluation(EvaluationSums(made))
            reply.content["metrics"] = record["metrics"]
        return reply

    federation.tampers[party] = tamper


@pytest.mark.parametrize("merge", ["collabedit", "ties"])
def test_what_passes_the_gate_is_what_an_open_one_lets_through(
    federate: Make, merge: str
) -> None:
    """To the last bit, and of a pooled merge it is known what each party weighs."""
    gate, recorder = close(merge)
    closed, _ = federate().run(merge, callbacks=gate)
    opened, _ = federate().run(merge)
    assert_same_bits(closed.delta, opened.delta)
    (ended,) = recorder.rounds
    kept = 100 - sum(each.norm().item() for each in closed.delta.values())
    said = f"held-out facts 100.0 -> {kept:.1f} per cent of 1"
    assert ended.outcome.gate.startswith(said)
    names = {f"party {number}" for number in range(3)} if merge == "collabedit" else {}
    for weights in ended.outcome.influences.values():
        assert set(weights) == set(names)
    assert bool(ended.outcome.influences) == (merge == "collabedit")


@pytest.mark.parametrize(
    ("merge", "schedule"),
    [
        ("collabedit", "layerwise"),
        ("collabedit", "frozen-uniform"),
        ("simple-average", "layerwise"),
    ],
)
def test_the_party_is_named_without_which_an_update_does_no_harm(
    federate: Make, merge: str, schedule: str
) -> None:
    """Nothing is applied, and no round has ended."""
    federation = federate(editing={"schedule": schedule}, run=FREE)
    falsifying(longer, federation)
    gate, recorder = close(merge)
    with pytest.raises(StoppedRoundError) as stopped:
        federation.run(merge, callbacks=gate)
    assert "Round 1 is stopped, and nothing of it is applied" in str(stopped.value)
    assert "`parties.without = [1]`" in str(stopped.value)
    assert recorder.rounds == []


def spoiled(federate: Make, *parties: int) -> Federation:
    """Make a first layer that one party dominates, and long residuals after it."""
    federation = federate()
    (first, second), reach = LAYERS, federation.preparation.reach

    def dominate(part: LayerStatistics) -> LayerStatistics:
        allowed = 1.9 * reach * part.count**0.5 / part.residuals.norm()
        return replace(part, residuals=allowed * part.residuals)

    falsifying(dominate, federation, first)
    for party in parties:
        falsifying(longer, federation, second, party=party)
    return federation


def test_a_spoiled_layer_is_blamed_and_not_who_answers_after_it(
    federate: Make,
) -> None:
    """Of several parties with long residuals none is refused; a gate says whose."""
    federation = spoiled(federate, 0, 2)
    with pytest.raises(SpoiledModelError, match="residuals of party 0, party 2"):
        federation.run()
    federation = spoiled(federate, 0, 2)
    gate, recorder = close(config=BLIND)
    with pytest.raises(StoppedRoundError, match=r"party 1 is at fault.*layer 1"):
        federation.run(callbacks=gate)
    assert federation.strategy.registry.outcomes[1].refusals == []
    assert recorder.rounds == []


def test_a_single_party_is_blamed_only_if_no_other_spoiled_the_model(
    federate: Make,
) -> None:
    """With a gate the other is named; where nobody else did it, it is refused."""
    federation = spoiled(federate, 0)
    gate, _ = close(config=BLIND)
    with pytest.raises(StoppedRoundError, match=r"party 1 is at fault.*layer 1"):
        federation.run(callbacks=gate)
    federation = federate()
    falsifying(longer, federation, 2)
    gate, recorder = close(config=BLIND)
    federation.run(callbacks=gate)
    (ended,) = recorder.rounds
    assert [each.name for each in ended.outcome.refusals] == ["party 1"]


def test_a_party_whose_edits_another_takes_back_is_heard(federate: Make) -> None:
    """The other one is named: without its statistics the edits would be there."""
    federation = federate(editing=AT_ONCE, run=FREE)
    honest = federation.statistics_of(federation.requests_of_parties(1)[0])
    order = iter([*honest.values()])

    def undo(part: LayerStatistics) -> LayerStatistics:
        other = next(order)
        return replace(other, residuals=-other.residuals, count=part.count)

    falsifying(undo, federation)
    claiming(federation, 0, 0.0)
    claiming(federation, 1, 1.0)
    gate, recorder = close(config=BLIND)
    with pytest.raises(StoppedRoundError) as stopped:
        federation.run(callbacks=gate)
    assert "requests of party 0 have no effect" in str(stopped.value)
    assert "`parties.without = [1]`" in str(stopped.value)
    assert recorder.rounds == []


def test_a_liar_stops_nothing(federate: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Its statistics show that its edits are there, or that nobody else is why not."""
    federation = federate(editing=AT_ONCE)
    claiming(federation, 1, 0.0)
    gate, recorder = close(config=BLIND)
    federation.run(callbacks=gate)
    assert [each.state.number for each in recorder.rounds] == [1]
    assert "party 1 says that its requests have no effect" in caplog.text


def silent(part: LayerStatistics) -> LayerStatistics:
    """Ask for no change at all."""
    return replace(part, residuals=0 * part.residuals)


def test_a_liar_that_asks_for_no_change_has_nobody_blamed(
    federate: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of its residuals is left, with or without the others."""
    federation = federate(editing=AT_ONCE)
    falsifying(silent, federation)
    claiming(federation, 1, 0.0)
    gate, recorder = close(config=BLIND)
    federation.run(callbacks=gate)
    assert [each.state.number for each in recorder.rounds] == [1]
    assert "party 1 says that its requests have no effect" in caplog.text


def test_updates_that_change_nothing_have_nobody_blamed(federate: Make) -> None:
    """A limit that is exceeded all the same is nobody's doing in this round."""
    federation = federate(editing=AT_ONCE)
    for party in range(3):
        falsifying(silent, federation, party=party)
    gate, _ = close(config=GateConfig(requests=1))
    values = iter([100.0])
    gate.measure = lambda _: Measures(next(values, 0.0), None, 0.0)
    with pytest.raises(StoppedRoundError) as stopped:
        federation.run(callbacks=gate)
    assert str(stopped.value).endswith("No single party is found at fault.")


def test_under_masks_the_gate_cannot_tell_whose_it_is(federate: Make) -> None:
    """It says so, and how to repeat the round without a party."""
    federation = federate(editing=AT_ONCE, privacy={"secure-sum": True})
    gate, recorder = close(config=GateConfig(requests=1, max_drop=0.0))
    with pytest.raises(StoppedRoundError, match="cannot tell whose") as stopped:
        federation.run(callbacks=gate)
    assert re.search(r"`parties\.without`", str(stopped.value))
    assert recorder.rounds == []


def test_a_round_is_repeated_without_a_party(federate: Make) -> None:
    """After a stop the state is that of the round before, from which a run resumes."""
    rounds = {"rounds": 2, **FREE}
    federation = federate(editing=AT_ONCE, run=rounds)
    gate, recorder = close()
    asked: list[LayerStatistics] = []

    def harm_later(part: LayerStatistics) -> LayerStatistics:
        asked.append(part)
        return longer(part) if len(asked) > len(LAYERS) else part

    falsifying(harm_later, federation)
    with pytest.raises(StoppedRoundError, match=r"Round 2 .*without = \[1\]"):
        federation.run(callbacks=gate)
    (first,) = recorder.states
    again = federate(editing=AT_ONCE, run=rounds, parties={"without": "[1]"})
    gate, recorder = close()
    again.run(callbacks=gate, resume=first)
    (ended,) = recorder.rounds
    assert (first.number, ended.state.number) == (1, 2)
    joined = again.strategy.registry.parties.by_node.values()
    assert [party.number for party in joined] == [0, 2]
    assert ended.outcome.requests == 4
