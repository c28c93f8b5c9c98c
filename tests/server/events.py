"""Events of a run, for tests of whoever observes them."""

from datetime import UTC, datetime, timedelta

from server.monitoring.events import MergeStarted, NodeExchange, RoundEnded, RunStarted
from server.report.data import LeftOutParty, RoundMetrics
from strategies.rounds.exchange import ExchangeRecord

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """Return a time so many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def started(run: str = "run_000", rounds: int = 3, seconds: float = 0) -> RunStarted:
    """Return the start of a run of two parties."""
    return RunStarted(time=later(seconds), run=run, rounds=rounds, parties=2)


def merging(
    merge: str = "collabedit", completed: int = 0, seconds: float = 0
) -> MergeStarted:
    """Return the start of a merge."""
    return MergeStarted(time=later(seconds), merge=merge, completed=completed)


def recorded(party: int = 0, outcome: str = "ok", number: int = 1) -> ExchangeRecord:
    """Return what the strategy records of an exchange; a failed one sent nothing."""
    return ExchangeRecord(
        phase="train.statistics",
        round=number,
        node=1000 + party,
        party=party,
        seconds=1.23456,
        bytes_down=100,
        bytes_up=10 if outcome == "ok" else 0,
        outcome=outcome,
    )


def exchanged(
    party: int | None,
    outcome: str = "ok",
    *,
    number: int = 1,
    node: int | None = None,
    merge: str = "collabedit",
    name: str = "",
    seconds: float = 0,
) -> NodeExchange:
    """Return one exchange with a party's node; a failed one sent nothing."""
    return NodeExchange(
        time=later(seconds),
        merge=merge,
        phase="train.statistics",
        round=number,
        node=1000 + (party or 0) if node is None else node,
        party=party,
        name=name,
        seconds=1.235,
        bytes_down=100,
        bytes_up=10 if outcome == "ok" else 0,
        outcome=outcome,
    )


def ended(
    number: int,
    *refused: tuple[int, str],
    score: float = 50.0,
    merge: str = "collabedit",
    seconds: float = 0,
) -> RoundEnded:
    """Return the end of a round."""
    refusals = tuple(LeftOutParty(node=node, reason=reason) for node, reason in refused)
    metrics = RoundMetrics(
        score=score, groups={"rewrite_acc.known": 25.0}, refusals=refusals, requests=6
    )
    return RoundEnded(time=later(seconds), merge=merge, round=number, metrics=metrics)
