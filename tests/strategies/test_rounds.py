"""What is kept of a round says who was missing."""

from strategies.exchange import Refusal
from strategies.rounds import RoundOutcome


def test_who_is_missing_is_named_with_the_reason() -> None:
    """Refused and idle parties are told apart."""
    assert RoundOutcome().missing() == "nobody"
    outcome = RoundOutcome([Refusal(4, "it was late")], idle=[6])
    assert outcome.missing() == "node 4: it was late; node 6: it has no request"


def test_rounds_share_nothing() -> None:
    """A default that is changed in place would join them."""
    first, second = RoundOutcome(), RoundOutcome()
    first.refusals.append(Refusal(1, "late"))
    first.idle.append(2)
    first.bytes_up[3] = 4
    assert second == RoundOutcome()
    assert first != second
