"""Events of a run, for whoever observes it."""

from datetime import UTC, datetime, timedelta

from server.monitoring.progress import NodeExchange, RoundEnd
from server.report.data import Refusal, RoundMetrics
from strategies.rounds.exchange import ExchangeRecord

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        """Begin at `NOW`."""
        self.now = NOW

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let time go by."""
        self.now += timedelta(seconds=seconds)


def exchanged(
    party: int,
    outcome: str = "ok",
    *,
    number: int = 1,
    node: int | None = None,
    merge: str = "collabedit",
) -> NodeExchange:
    """One exchange with a party's node; who failed sent nothing."""
    return NodeExchange(
        merge,
        ExchangeRecord(
            phase="train.statistics",
            round=number,
            node=1000 + party if node is None else node,
            party=party,
            seconds=1.23456,
            bytes_down=100,
            bytes_up=10 if outcome == "ok" else 0,
            outcome=outcome,
        ),
    )


def ended(number: int, *refused: tuple[int, str], score: float = 50.0) -> RoundEnd:
    """A round that is over."""
    refusals = tuple(Refusal(node=node, reason=reason) for node, reason in refused)
    metrics = RoundMetrics(
        score=score, groups={"rewrite_acc.known": 25.0}, refusals=refusals, requests=6
    )
    return RoundEnd("collabedit", number, metrics)
