"""What a round came to is counted as parties tell it."""

from strategies.rounds.exchange import Refusal
from strategies.rounds.state import RoundOutcome
from strategies.wire.messages import TargetsReply


def test_what_parties_say_of_their_requests_adds_up() -> None:
    """Over every field; sums are over edited and known requests."""
    outcome = RoundOutcome()
    outcome.told[5] = TargetsReply(
        requests=3, known=1, left_out=2, residual_norm=4.0, residual_ratio=0.5
    )
    outcome.told[6] = TargetsReply(requests=2, residual_norm=1.5, residual_ratio=0.25)
    assert (outcome.requests, outcome.known, outcome.left_out) == (5, 1, 2)
    assert outcome.examined == 6
    assert (outcome.residual_norm, outcome.residual_ratio) == (5.5, 0.75)
    assert outcome.idle == outcome.content == []


def test_a_party_without_requests_is_told_from_one_whose_were_left_out() -> None:
    """The one is missing, the other has got what it wanted."""
    outcome = RoundOutcome(refusals=[Refusal(9, "it is late")])
    outcome.told[5] = TargetsReply(requests=0)
    outcome.told[6] = TargetsReply(requests=0, known=2)
    outcome.told[7] = TargetsReply(requests=0, left_out=1)
    assert (outcome.idle, outcome.content) == ([5], [6, 7])
    assert outcome.missing() == "node 9: it is late; node 5: it has no request"
    assert RoundOutcome().missing() == "nobody"


def test_what_a_refused_party_said_counts_only_once_the_round_is_merged() -> None:
    """Before that it contributes nothing; afterwards only its likelihood is missed."""
    outcome = RoundOutcome()
    outcome.told |= {n: TargetsReply(requests=n) for n in (5, 6)}
    outcome.refuse(Refusal(5, "it sent no numbers"))
    assert outcome.requests == 6
    outcome.merged = True
    outcome.refuse(Refusal(6, "it did not judge"))
    assert outcome.requests == 6
    assert [each.node for each in outcome.refusals] == [5, 6]
