"""The server's side of the protocol, whatever the parties answer."""

from collections.abc import Callable

import pytest

from strategies.rounds.registry import TooFewPartiesError
from strategies.wire.messages import Phase
from tests.federation import AT_ONCE, Federation, on_phase

Make = Callable[..., Federation]

SECURE = {"secure-sum": True}
FIVE = {"count": 5, "requests-per-round": 1}


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase.KEYS, "its keys for secure sums are not in the reply"),
        (Phase.SHARES, "its shares for secure sums are not in the reply"),
        (Phase.UNMASK, "its shares of the masks are not in the reply"),
    ],
    ids=str,
)
def test_an_empty_answer_costs_its_party_the_round(
    federate: Make, phase: Phase, words: str
) -> None:
    """And names it; the others go on."""
    federation = federate(parties=FIVE, editing=AT_ONCE, privacy=SECURE)
    federation.tampers[3] = on_phase(phase, lambda content: content.clear())
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert (refusal.name, words in refusal.reason) == ("party 3", True)


def test_exchanges_of_a_round(federate: Make) -> None:
    """Two for the keys of all sums, then two for each sum: layers and metrics."""
    federation = federate(privacy=SECURE)
    federation.run()
    asked = {phase: len(federation.nodes_asked(phase)) // 3 for phase in Phase}
    assert {phase: n for phase, n in asked.items() if n} == {
        Phase.DESCRIBE: 1,
        Phase.KEYS: 1,
        Phase.SHARES: 1,
        Phase.TARGETS: 1,
        Phase.STATISTICS: 1,
        Phase.EVALUATE: 1,
        Phase.UNMASK: 3,
    }


def test_two_parties_are_too_few(federate: Make) -> None:
    """Each could subtract its own share; nothing is asked for."""
    federation = federate(parties={"count": 2}, privacy=SECURE)
    with pytest.raises(TooFewPartiesError, match=r"has 2 parties left .* needs 3"):
        federation.run()
    assert federation.nodes_asked(Phase.SHARES) == []
