"""A party that fails is named and left out, and the others go on."""

import time
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from flwr.app import Array, Message, RecordDict
from flwr.serverapp.exception import AggregationError

from editing.base.errors import InputError
from strategies.wire.messages import Phase
from tests.federation import (
    AT_ONCE,
    Federation,
    Recorder,
    assert_same_delta,
    edit_in_rounds,
    on_phase,
)
from tests.laws import ALGEBRA
from tests.strategies.wrongs import (
    Content,
    claimed,
    disturb,
    failing,
    introduced,
    renamed,
    said,
    sent,
    without_layer,
    without_statistics,
)
from tests.tiny import LAYERS

Make = Callable[..., Federation]


D_IN, D_OUT = 24, 16
OTHER = {"weights": "another", "tokenizer": "another"}
KEYS, RESIDUALS = np.ones((2, D_IN)), np.ones((2, D_OUT))
FAULTS: dict[str, tuple[Phase, Content, str]] = {
    "protocol": (Phase.DESCRIBE, introduced(protocol=77), "protocol 77"),
    "silence": (Phase.DESCRIBE, RecordDict.clear, "handshake"),
    "loading": (
        Phase.DESCRIBE,
        failing("an error of the program"),
        "an error of the program",
    ),
    "counting": (Phase.TARGETS, RecordDict.clear, "number of requests"),
    "requests": (
        Phase.TARGETS,
        failing("requests that changed during the round"),
        "requests that changed during the round",
    ),
    "nan": (Phase.TARGETS, sent("1.keys", np.nan * KEYS), "`keys` must be finite"),
    "infinite": (
        Phase.TARGETS,
        sent("1.residuals", np.inf * RESIDUALS),
        "`residuals` must be finite",
    ),
    "overflow": (
        Phase.TARGETS,
        sent("1.keys", 1e200 * KEYS),
        "`gram` must be finite",
    ),
    "long": (Phase.TARGETS, sent("1.keys", 1e6 * KEYS), "`run.max-key-ratio`"),
    "shape": (Phase.TARGETS, sent("2.keys", np.ones((2, 9))), "(2, 9)"),
    "count": (Phase.TARGETS, claimed("1.count", 0), "count of 0"),
    "fewer": (Phase.TARGETS, claimed("1.count", 1), "at most 1 rows, got 2"),
    "more": (Phase.TARGETS, claimed("2.count", 3), "layer 2: a count of 3"),
    "weightless": (Phase.TARGETS, claimed("1.count", 2**62), "with 2 requests"),
    "far": (
        Phase.TARGETS,
        sent("1.residuals", 1e150 * RESIDUALS),
        "max-residual-ratio",
    ),
    "distant": (Phase.TARGETS, said(residual_norm=1e300), "max-residual-ratio"),
    "boast": (Phase.TARGETS, said(requests=10**6), "than the 2 that it can have"),
    "outburst": (Phase.TARGETS, said(requests=10**400), "than the 2 that it can have"),
    "one more": (Phase.TARGETS, said(known=1), "than the 2 that it can have"),
    "layer": (Phase.TARGETS, without_layer, "`keys`"),
    "nothing": (Phase.TARGETS, without_statistics, "layer 1"),
    "replayed": (Phase.TARGETS, claimed("round", 7), "of round 1 were asked for"),
    "encoding": (Phase.TARGETS, claimed("1.encoding", "morse"), "'morse'"),
    "novel": (Phase.TARGETS, claimed("1.encoding", "all\nis well " * 300), r"'all\nis"),
    "names": (Phase.TARGETS, renamed("1.keys", "1.\x1b[2J\n" * 300), r", \x1b[2J\n1."),
    "memory": (Phase.TARGETS, failing("not enough memory"), "not enough memory"),
}
"""What a party may do wrong: when, what, and a part of the reason that is given."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_party_that_cannot_be_right_is_left_out_by_name(
    federate: Make, fault: str
) -> None:
    """The others edit as if it had never been there."""
    phase, change, reason = FAULTS[fault]
    federation = federate(editing=AT_ONCE)
    disturb(federation, phase, change)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == federation.node(1)
    assert reason in refusal.reason
    assert refusal.reason.isprintable()
    assert len(refusal.reason) < 300
    first, _, third = federation.requests_of_parties(1)
    expected = edit_in_rounds(federation.preparation, [[*first, *third]], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)
    assert federation.nodes_asked(Phase.EVALUATE) == [
        federation.node(0),
        federation.node(2),
    ]


class LostBetweenLayers:
    """Has the second party fail at the statistics of the second layer, once."""

    def __init__(self) -> None:
        """Begin well."""
        self.failed = False

    def __call__(self, message: Message, reply: Message) -> Message:
        """Fail when it is time."""
        late = message.metadata.message_type == Phase.STATISTICS.value
        if late and not self.failed:
            self.failed = True
            raise MemoryError
        return reply


@pytest.mark.parametrize("resolves", [False, True], ids=["plain", "compared"])
def test_what_a_party_sent_before_it_was_lost_is_in_no_layer(
    federate: Make, resolves: bool
) -> None:
    """All layers speak of the same requests; in the next round it is there again."""
    parties = {"requests-per-round": 1, "deduplicate": resolves}
    federation = federate(run={"rounds": 2}, parties=parties)
    federation.tampers[1] = LostBetweenLayers()
    strategy, _ = federation.run()
    lost = federation.node(1)
    first, second = strategy.registry.outcomes[1], strategy.registry.outcomes[2]
    assert [refusal.node for refusal in first.refusals] == [lost]
    assert (first.requests, second.requests) == (2, 3)
    assert second.refusals == []
    there, missing, last = federation.requests_of_parties(1)
    rounds = [[*there, *last], federation.requests(2)]
    expected = edit_in_rounds(federation.preparation, rounds, 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)
    others = edit_in_rounds(
        federation.preparation, [[*there, *missing, *last], rounds[1]], 1.0
    )
    with pytest.raises(AssertionError):
        assert_same_delta(strategy.delta, others, 1e-3)


def test_a_party_that_is_lost_when_keys_are_read_again_is_in_nothing(
    federate: Make,
) -> None:
    """Neither in the round's update nor in what is remembered of it."""
    states = []
    for phase in (Phase.MEMORY, Phase.TARGETS):
        recorder = Recorder()
        federation = federate(
            editing=AT_ONCE,
            prior={"memory-keys": "edited"},
            run={"rounds": 2},
            parties={"requests-per-round": 1},
        )
        disturb(federation, phase, failing("not enough memory"))
        federation.run(callbacks=recorder)
        states.append(recorder.states[0])
    late, early = states
    first, _, third = federation.requests_of_parties(1)
    expected = edit_in_rounds(federation.preparation, [[*first, *third]], 1.0)
    assert_same_delta(late.delta, expected, ALGEBRA)
    assert tuple(late.grams) == LAYERS
    for layer, gram in late.grams.items():
        assert torch.equal(gram, early.grams[layer])


def test_a_node_that_has_lost_the_updates_is_sent_all_of_them(federate: Make) -> None:
    """As one that was set up anew does: it is late, and no party is lost."""
    federation = federate(run={"rounds": 2}, parties={"requests-per-round": 1})

    def lose(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.STATISTICS.value:
            for file in federation.private.rglob("updates/*"):
                file.unlink()
        return reply

    federation.tampers[2] = lose
    strategy, _ = federation.run()
    assert [len(each.refusals) for each in strategy.registry.outcomes.values()] == [
        0
    ] * 3
    assert_same_delta(strategy.delta, federation.edit_alone(), ALGEBRA)
    assert b"updates that are missing" in federation.said()


def negative(content: RecordDict) -> None:
    """Send a gram that no keys have."""
    record = content.array_records["statistics"]
    record["1.gram"] = Array(-record["1.gram"].numpy())


def skewed(content: RecordDict) -> None:
    """Send a whole matrix, which need not be symmetric."""
    record = content.array_records["statistics"]
    record["1.gram"] = Array(np.triu(np.ones((24, 24))))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(negative, "negative eigenvalue"), (skewed, "`gram` of shape (1, 300)")],
)
def test_a_dense_gram_that_no_keys_have_is_refused(
    federate: Make, change: Content, reason: str
) -> None:
    """It could make the solve fail for everybody."""
    federation = federate(editing=AT_ONCE, run={"encoding": "dense"})
    disturb(federation, Phase.TARGETS, change)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == federation.node(1)
    assert reason in refusal.reason


def test_a_party_is_taken_back_in_the_next_round_unless_it_was_unwelcome(
    federate: Make,
) -> None:
    """One slip costs one round; another protocol costs them all."""
    federation = federate(
        editing=AT_ONCE, run={"rounds": 2}, parties={"requests-per-round": 1}
    )
    slips = iter([True, False])

    def slip(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.TARGETS.value and next(slips):
            raise MemoryError
        return reply

    federation.tampers[1] = slip
    federation.tampers[2] = on_phase(Phase.DESCRIBE, introduced(protocol=77))
    strategy, _ = federation.run()
    slipped, unwelcome = federation.node(1), federation.node(2)
    missing = [
        [refusal.node for refusal in strategy.registry.outcomes[number].refusals]
        for number in (1, 2)
    ]
    assert missing == [[unwelcome, slipped], [unwelcome]]
    assert federation.nodes_asked(Phase.TARGETS).count(slipped) == 2
    assert unwelcome not in federation.nodes_asked(Phase.TARGETS)


@pytest.mark.parametrize("fault", ["protocol", "requests", "nan"])
def test_too_few_parties_stop_the_run_and_the_error_says_who_is_missing(
    federate: Make, fault: str
) -> None:
    """In any phase, `run.min-parties` holds."""
    phase, change, reason = FAULTS[fault]
    federation = federate(editing=AT_ONCE, run={"min-parties": 3})
    disturb(federation, phase, change)
    with pytest.raises(AggregationError) as caught:
        federation.run()
    assert "2 parties left and needs 3" in str(caught.value)
    assert "Left out: " in str(caught.value)
    assert reason in str(caught.value)


def test_an_unreachable_party_is_left_out_once_time_is_up(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' replies are not lost with it."""
    federation = federate(editing=AT_ONCE, run={"timeout": 0.5})
    lost, pull = federation.node(1), federation.grid.pull_messages

    def lossy(numbers: Iterable[str]) -> Iterable[Message]:
        return [m for m in pull(numbers) if m.metadata.src_node_id != lost]

    monkeypatch.setattr(federation.grid, "pull_messages", lossy)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == lost
    assert "within 0.5 s" in refusal.reason


def test_a_run_does_not_begin_before_all_parties_are_there(
    federate: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says once that it waits, and how many came if the others never do."""
    monkeypatch.setattr("strategies.rounds.exchange.QUIET_SECONDS", 0.05)
    federation = federate(run={"timeout": 0.2})
    federation.grid = federation.grid_of(0, 2)
    started = time.monotonic()
    with pytest.raises(AggregationError, match="3 parties were expected and 2 came"):
        federation.run()
    assert time.monotonic() - started >= 0.2
    assert federation.messages == []
    assert (
        caplog.text.count("waiting for 3 parties (`parties.count`), 2 are connected")
        == 1
    )


def test_parties_without_requests_take_part_in_nothing_and_are_no_refusal(
    federate: Make,
) -> None:
    """Who has nothing to edit is not asked for statistics of it."""
    parties = {"requests-per-round": "[2, 0, 3]", "allow-empty": True}
    federation = federate(editing=AT_ONCE, parties=parties)
    strategy, result = federation.run(evaluate_unedited=True)
    outcome, idle = strategy.registry.outcomes[1], federation.node(1)
    assert (outcome.refusals, outcome.idle, outcome.requests) == ([], [idle], 5)
    assert idle not in outcome.bytes_up
    assert result.evaluate_metrics_clientapp[0]["round.1.count.rewrite_acc"] == 5.0
    assert_same_delta(strategy.delta, federation.edit_alone(), ALGEBRA)


def test_idle_parties_do_not_count_towards_the_least_number(federate: Make) -> None:
    """Who contributes nothing hides nobody's contribution."""
    parties = {"requests-per-round": "[2, 0, 3]", "allow-empty": True}
    federation = federate(editing=AT_ONCE, parties=parties, run={"min-parties": 3})
    with pytest.raises(AggregationError, match="needs 3") as caught:
        federation.run()
    assert "party 1: it has no request" in str(caught.value)


def test_more_requests_than_there_are_need_the_consent_to_empty_parties(
    federate: Make,
) -> None:
    """Twelve requests make two parties of five and one of two, if that is allowed."""
    wanted = {"requests-per-round": 5}
    with pytest.raises(InputError, match="requests that cannot be used"):
        federate(editing=AT_ONCE, parties=wanted).run()
    federation = federate(editing=AT_ONCE, parties={**wanted, "allow-empty": True})
    strategy, _ = federation.run()
    assert strategy.registry.outcomes[1].requests == 12
    assert strategy.registry.outcomes[1].refusals == []
