"""Rounds of secure sums give what plain rounds give, and the server sees sums alone."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import Result

from strategies.collaborative import CollaborativeEditing
from strategies.rounds.registry import TooFewPartiesError
from strategies.secure.opening import UnopenedSumError
from strategies.secure.records import read_session, write_keys
from strategies.summing.pooled import POOLED, ImpossibleSumError
from strategies.wire.messages import Phase
from tests.federation import (
    AT_ONCE,
    Federation,
    Recorder,
    Tamper,
    assert_same_bits,
    assert_same_delta,
    edit_in_rounds,
    on_phase,
)
from tests.laws import ALGEBRA
from tests.summing import party_in

Make = Callable[..., Federation]
Tables = dict[str, dict[str, Any]]

SECURE = {"secure-sum": True}
FIVE = {"count": 5, "requests-per-round": 1}
FOUR = {"count": 4, "requests-per-round": 1}

RUNS: dict[str, Tables] = {
    "layerwise": {"run": {"rounds": 2}, "parties": {"requests-per-round": "[1, 3, 2]"}},
    "at once": {"editing": AT_ONCE, "run": {"rounds": 3}, "parties": FOUR},
    "triangles": {"editing": AT_ONCE, "run": {"encoding": "dense"}},
    "boundary": {"editing": {"schedule": "boundary"}, "run": {"rounds": 2}},
    "solved alone": {"editing": {"schedule": "alone"}, "run": {"rounds": 2}},
    "memory": {
        "editing": AT_ONCE,
        "run": {"rounds": 2},
        "prior": {"memory-keys": "edited"},
    },
    "skipped": {"parties": {"skip-known": 0.24, "requests-per-round": 3}},
    "duplicates": {"parties": {"overlap": 1, "deduplicate": True}},
    "conflicts": {
        "parties": {"overlap": 1, "conflicts": "last", "requests-per-round": 1},
        "run": {"rounds": 2},
    },
    "empty": {
        "parties": {"requests-per-round": "[0, 3, 1]", "allow-empty": True},
    },
    "phrasings": {"requests": {"phrasings": 1}},
    "float32": {"model": {"dtype": "float32"}, "run": {"encoding": "factors-float32"}},
}


def run(federation: Federation) -> tuple[CollaborativeEditing, Result]:
    """Run with the metrics of the unedited model."""
    return federation.run(evaluate_unedited=True)


@pytest.mark.parametrize("name", RUNS)
def test_secure_rounds_give_what_plain_rounds_give(federate: Make, name: str) -> None:
    """The update, counts and metrics of every round; of each party nothing is known."""
    tables = RUNS[name]
    plain, one = run(federate(**tables))
    secure, two = run(federate(privacy=SECURE, **tables))
    single = name == "float32"  # the plain run rounds what travels to float32
    assert_same_delta(secure.delta, plain.delta, 1e-5 if single else ALGEBRA)
    ours, theirs = two.evaluate_metrics_clientapp, one.evaluate_metrics_clientapp
    assert ours.keys() == theirs.keys()
    for number, metrics in ours.items():
        assert metrics.keys() == theirs[number].keys()
        for metric, value in metrics.items():
            close = pytest.approx(theirs[number][metric], rel=1e-4 if single else 1e-8)
            assert value == close, metric
    for number, outcome in secure.registry.outcomes.items():
        own = plain.registry.outcomes[number]
        assert outcome.refusals == []
        assert set(outcome.targets) | set(outcome.edits) <= {POOLED}
        for count in ("requests", "known", "left_out", "duplicates", "conflicts"):
            assert getattr(outcome, count) == getattr(own, count), count
        if number > 0:
            assert outcome.residual_norm == pytest.approx(own.residual_norm)
        assert len(set(outcome.bytes_up.values())) <= 1


def test_the_same_run_has_the_same_bits_whatever_its_masks(federate: Make) -> None:
    """Sums of whole numbers have no order; a simulation's rotations repeat."""
    deltas = [run(federate(privacy=SECURE))[0].delta for _ in range(2)]
    assert_same_bits(*deltas)


def test_a_run_that_resumes_draws_new_keys_and_ends_with_the_same_bits(
    federate: Make,
) -> None:
    """After its first round, also if the second one was given in part before."""
    tables: Tables = {"run": {"rounds": 2}, "privacy": SECURE}
    federation, recorder = federate(**tables), Recorder()
    whole, _ = federation.run(callbacks=recorder)
    asked = len(federation.messages)
    again, _ = federation.run(resume=recorder.states[0])
    assert_same_bits(again.delta, whole.delta)
    said = [
        {str(reply.content["secure"]["text"]) for reply in part}
        for part in (
            replies(federation.messages[:asked], Phase.KEYS),
            replies(federation.messages[asked:], Phase.KEYS),
        )
    ]
    assert len(said[0]) == 6
    assert len(said[1]) == 3
    assert not said[0] & said[1]


def test_a_resumed_run_with_fewer_parties_learns_nothing_of_the_one_left_out(
    federate: Make,
) -> None:
    """The others refuse to unmask what they gave before, and the error says so."""
    federation, recorder = federate(parties=FOUR, privacy=SECURE), Recorder()
    federation.run(callbacks=recorder)
    federation.tampers[3] = lost_at(Phase.DESCRIBE)
    config = federation.config.run.model_copy(update={"min_parties": 3})
    federation.config = federation.config.model_copy(update={"run": config})
    federation.grid = federation.grid_of(0, 1, 2)
    federation.config = federation.config.model_copy(
        update={"parties": federation.config.parties.model_copy(update={"count": 3})}
    )
    with pytest.raises(AggregationError, match="a sum that it refuses"):
        federation.run()
    assert replies(federation.messages, Phase.UNMASK)[-1].content.keys() == {"failure"}


def test_a_bound_that_is_too_low_is_named_and_no_requests_are_blamed(
    federate: Make,
) -> None:
    """Each party is left out of the sum, and too few are left for one."""
    run = {"max-key-ratio": 1e-6}
    federation = federate(privacy=SECURE, run=run)
    with pytest.raises(TooFewPartiesError, match=r"party 0: .* run\.max-key-ratio"):
        federation.run()
    assert federation.strategy.delta == {}


def replies(messages: list[Message], phase: Phase) -> list[Message]:
    """Choose the replies to one kind of message."""
    chosen = [each for each in messages if each.metadata.reply_to_message_id]
    return [each for each in chosen if each.metadata.message_type == phase.value]


def lost_at(phase: Phase, round_number: int = 1) -> Tamper:
    """Lose a party's reply to one kind of message in a round."""

    def tamper(message: Message, reply: Message) -> Message:
        kind, number = message.metadata.message_type, message.metadata.group_id
        if kind == phase.value and number == str(round_number):
            return Message(Error(5, "gone"), reply_to=message)
        return reply

    return tamper


BEFORE = (Phase.KEYS, Phase.SHARES, Phase.TARGETS)


@pytest.mark.parametrize("phase", [*BEFORE, Phase.UNMASK, Phase.EVALUATE], ids=str)
def test_a_party_lost_at_any_moment_is_in_the_sum_if_its_numbers_came(
    federate: Make, phase: Phase
) -> None:
    """And is recovered, not asked for again: each question is put once."""
    federation = federate(parties=FIVE, editing=AT_ONCE, privacy=SECURE)
    federation.tampers[2] = lost_at(phase)
    strategy, _ = federation.run()
    took_part = [0, 1, 3, 4] if phase in BEFORE else range(5)
    hands = federation.requests_of_parties(1)
    requests = [request for party in took_part for request in hands[party]]
    expected = edit_in_rounds(federation.preparation, [requests], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)
    outcome = strategy.registry.outcomes[1]
    assert [each.name for each in outcome.refusals] == ["party 2"]
    assert outcome.requests == len(requests)
    for each in Phase:
        asked = federation.nodes_asked(each)
        sums = 2 if each is Phase.UNMASK else 1
        assert len(asked) <= 5 * sums


def test_a_party_lost_between_layers_stays_in_those_before(
    federate: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A layer that is known cannot be summed again without it."""
    federation = federate(parties=FIVE, privacy=SECURE)
    federation.tampers[2] = lost_at(Phase.STATISTICS)
    with caplog.at_level(logging.WARNING):
        strategy, _ = federation.run()
    assert "round 1 continues without party 2" in caplog.text
    assert federation.nodes_asked(Phase.TARGETS) == [
        federation.node(n) for n in range(5)
    ]
    whole, _ = federate(parties=FIVE, privacy=SECURE).run()
    first, second = strategy.delta
    assert (strategy.delta[first] == whole.delta[first]).all()
    assert not (strategy.delta[second] == whole.delta[second]).all()


def test_if_requests_are_compared_the_round_starts_again_before_any_sum_is_known(
    federate: Make,
) -> None:
    """A lost party's requests may have ruled out others', so all are compared anew."""
    parties = {**FIVE, "overlap": 1, "deduplicate": True}
    federation = federate(parties=parties, editing=AT_ONCE, privacy=SECURE)
    federation.tampers[2] = lost_at(Phase.TARGETS)
    strategy, _ = federation.run()
    tokens = federation.nodes_asked(Phase.TOKENS)
    nodes = [federation.node(party) for party in range(5)]
    assert tokens == [*nodes, *(nodes[party] for party in (0, 1, 3, 4))]
    plain = federate(parties=parties, editing=AT_ONCE)
    plain.tampers[2] = lost_at(Phase.TARGETS)
    assert_same_delta(strategy.delta, plain.delta(), ALGEBRA)
    assert len(federation.nodes_asked(Phase.UNMASK)) == 2 * 4


@pytest.mark.parametrize(
    ("phases", "error"),
    [
        ((Phase.KEYS, Phase.KEYS), TooFewPartiesError),
        ((Phase.SHARES, Phase.SHARES), TooFewPartiesError),
        ((Phase.TARGETS, Phase.TARGETS), TooFewPartiesError),
        ((Phase.TARGETS, Phase.UNMASK), UnopenedSumError),
        ((Phase.UNMASK, Phase.UNMASK), UnopenedSumError),
    ],
    ids=str,
)
def test_a_sum_that_too_few_are_left_for_is_given_up(
    federate: Make, phases: tuple[Phase, Phase], error: type[Exception]
) -> None:
    """With who is missing and why, and nothing is applied."""
    federation = federate(parties=FOUR, privacy=SECURE)
    for party, phase in zip((1, 2), phases, strict=True):
        federation.tampers[party] = lost_at(phase)
    with pytest.raises(error, match=r"party 1: it cannot be reached.*party 2"):
        federation.run()
    assert federation.strategy.delta == {}


def test_the_server_receives_masked_numbers_keys_and_shares_alone(
    federate: Make,
) -> None:
    """Of each reply, every record and field; sizes do not depend on the party.

    A chi-square over the bytes of each party's masked numbers tells them from no
    uniform ones, whatever the party has.
    """
    sizes = {"requests-per-round": "[1, 3, 2]"}
    federation = federate(parties=sizes, privacy=SECURE, run={"rounds": 2})
    run(federation)
    received = [
        each for each in federation.messages if each.metadata.reply_to_message_id
    ]
    bare = {Phase.DESCRIBE: {"handshake"}, Phase.KEYS: {"secure"}}
    for reply in received:
        phase, content = Phase(reply.metadata.message_type), reply.content
        if phase in bare:
            assert set(content) == bare[phase]
        elif phase in {Phase.SHARES, Phase.UNMASK}:
            assert not content.array_records
            values = [v for r in content.config_records.values() for v in r.values()]
            assert {type(each) for each in values} == {bytes}
        else:
            assert set(content) == {"statistics"}
            arrays = list(content.array_records["statistics"].values())
            assert {array.dtype for array in arrays} == {"uint64"}
    for phase in (Phase.TARGETS, Phase.STATISTICS, Phase.EVALUATE):
        shapes = {
            tuple((name, array.shape) for name, array in arrays_of(reply).items())
            for reply in federation.replies(phase)
            if reply.metadata.group_id == "1"
        }
        assert len(shapes) <= 1
    for party in range(3):
        node = federation.node(party)
        words = [
            array.numpy().view(np.uint8).reshape(-1)
            for reply in received
            if reply.metadata.src_node_id == node
            for array in arrays_of(reply).values()
        ]
        counts = np.bincount(np.concatenate(words), minlength=256)
        expected = counts.sum() / 256
        statistic = float(((counts - expected) ** 2 / expected).sum())
        assert abs(statistic - 255) < 6 * (2 * 255) ** 0.5


def arrays_of(reply: Message) -> ArrayRecord:
    """Give the arrays of a reply, if it has some."""
    return reply.content.array_records.get("statistics", ArrayRecord())


def test_a_server_that_forges_keys_is_refused_by_all(
    federate: Make, tmp_path: Path
) -> None:
    """The parties name whose keys they are said to be, and so does the error."""
    federation = federate(parties=FOUR, privacy=SECURE)

    def forge(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.KEYS.value:
            stranger = party_in(tmp_path / "stranger", 2, key=b"s" * 32)
            keys = stranger.open(read_session(message.content))
            return Message(write_keys(keys), reply_to=message)
        return reply

    federation.tampers[2] = forge
    with pytest.raises(TooFewPartiesError) as caught:
        federation.run()
    for party in (0, 1, 3):
        words = f"party {party}: it reported keys that are not genuine, of party 2"
        assert words in str(caught.value)


def test_false_numbers_spoil_a_sum_and_are_not_applied(federate: Make) -> None:
    """The server sees that the sum is impossible, and cannot tell whose fault it is."""
    federation = federate(parties=FOUR, privacy=SECURE)

    def spoil(content: RecordDict) -> None:
        array = content.array_records["statistics"]["count"]
        words = array.numpy() + np.uint64(1 << 60)
        content.array_records["statistics"]["count"] = type(array)(words)

    federation.tampers[1] = on_phase(Phase.TARGETS, spoil)
    with pytest.raises(ImpossibleSumError, match="does not show whose"):
        federation.run()
    assert federation.strategy.delta == {}


def test_a_reply_of_another_shape_costs_its_party_the_round(federate: Make) -> None:
    """As if it had not come: its masks are recovered."""
    federation = federate(parties=FIVE, editing=AT_ONCE, privacy=SECURE)

    def shorten(content: RecordDict) -> None:
        record = content.array_records["statistics"]
        record["count"] = type(record["count"])(record["count"].numpy()[:0])

    federation.tampers[4] = on_phase(Phase.TARGETS, shorten)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert "masked numbers of `count` have another shape" in refusal.reason
    requests = [r for hand in federation.requests_of_parties(1)[:4] for r in hand]
    expected = edit_in_rounds(federation.preparation, [requests], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)


def test_metrics_that_cannot_be_unmasked_stop_no_run(
    federate: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The update is made by then; the log says what is missing."""
    federation = federate(parties=FOUR, editing=AT_ONCE, privacy=SECURE)
    for party in (1, 2):
        federation.tampers[party] = lost_at(Phase.EVALUATE)
    with caplog.at_level(logging.WARNING):
        strategy, result = federation.run()
    assert "round 1 has no metrics" in caplog.text
    assert result.evaluate_metrics_clientapp == {}
    assert len(strategy.delta) > 0


def test_a_party_cannot_answer_for_another(federate: Make) -> None:
    """Keys with another's number are refused, and the honest party is not."""
    federation = federate(parties=FIVE, editing=AT_ONCE, privacy=SECURE)

    def pretend(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.KEYS.value:
            text = str(reply.content["secure"]["text"]).replace(
                '"party":2', '"party":3'
            )
            changed = RecordDict({"secure": ConfigRecord({"text": text})})
            return Message(changed, reply_to=message)
        return reply

    federation.tampers[2] = pretend
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert (refusal.name, refusal.reason) == ("party 2", "it sent keys of party 3")
