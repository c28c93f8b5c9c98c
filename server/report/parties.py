"""What the server knows of each party: gathered in a run, and laid out as a table."""

from collections.abc import Callable, Iterable

from editing.evaluation.metrics import DIAGNOSIS, MetricSums
from server.report.data import PartyRecord, Report
from server.report.tables import (
    ABSENT,
    TableText,
    headings,
    headline,
    write_bytes,
    write_number,
)
from strategies.rounds.callbacks import CompletedRound
from strategies.rounds.exchange import ExchangeRecord
from strategies.wire.messages import TargetsReply
from strategies.wire.metrics import EvaluationSums

WORDS = (
    (
        "Rounds",
        "In how many rounds the merged statistics have a part of the party.",
    ),
    (
        "Seconds of a party",
        "From sending each message to its reply, in all rounds. Parties that share a "
        "machine wait for their turn.",
    ),
)


class PartyBook:
    """What is known of each party so far.

    Attributes:
        label: Returns the name of the party of an id, once that is known.
    """

    def __init__(self, so_far: Iterable[PartyRecord] = ()) -> None:
        """Continue after what was known before."""
        self.label: Callable[[int], str] | None = None
        self._records = {record.name: record for record in so_far}
        self._names: dict[int, str] = {}
        self._numbers: dict[int, str] = {}
        self._metrics: dict[int, MetricSums] = {}
        self._summed: set[int] = set()

    def begin_round(self) -> None:
        """Forget what a round had that starts again."""
        self._metrics.clear()
        self._summed.clear()

    def add_exchange(self, record: ExchangeRecord) -> None:
        """Add what one exchange took, whatever became of it."""
        self._names[record.node] = self._numbers[record.party] = record.name
        known = self._of(record.name)
        self._change(
            known,
            seconds=known.seconds + record.seconds,
            bytes_sent=known.bytes_sent + record.bytes_up,
        )

    def add_sum(self, numbers: Iterable[int]) -> None:
        """Note the numbers of those whose part is in a secure sum of the round."""
        self._summed.update(numbers)

    def keep_metrics(self, party: int, evaluation: EvaluationSums) -> None:
        """Keep the metrics of a party's requests of all rounds, by the party's id."""
        self._metrics[party] = sum(evaluation.by_round.values(), MetricSums())

    def end_round(self, completed: CompletedRound) -> tuple[PartyRecord, ...]:
        """Add a completed round, and return all that is known; round 0 edits nothing.

        Metrics replace those of an earlier evaluation.
        """
        if completed.state.number > 0:
            targets = completed.outcome.targets
            for node, reply in targets.items():
                if node in self._names:  # a secure sum is of no node
                    self._add_targets(self._names[node], reply)
            summed = {self._numbers.get(each, "") for each in self._summed}
            for name in summed:
                self._change(self._of(name), rounds=self._of(name).rounds + 1)
            for name in {each.name for each in completed.outcome.refusals}:
                self._change(self._of(name), refused=self._of(name).refused + 1)
            if completed.evaluation.by_round:
                self._replace_metrics()
        return tuple(each for each in self._records.values() if each.name)

    def _add_targets(self, name: str, reply: TargetsReply) -> None:
        known = self._of(name)
        self._change(
            known,
            requests=(known.requests or 0) + reply.requests,
            known=known.known + reply.known,
            left_out=known.left_out + reply.left_out,
            rounds=known.rounds + (reply.requests > 0),
        )

    def _replace_metrics(self) -> None:
        for known in list(self._records.values()):
            self._change(known, metrics={}, evaluated=None)
        for party, sums in self._metrics.items():
            if self.label is not None:
                means = {n: v for n, v in sums.means().items() if n not in DIAGNOSIS}
                evaluated = sums.counts.get("rewrite_acc")
                known = self._of(self.label(party))
                self._change(known, metrics=means, evaluated=evaluated)

    def _of(self, name: str) -> PartyRecord:
        return self._records.get(name) or PartyRecord(name=name)

    def _change(self, record: PartyRecord, **changes: object) -> None:
        self._records[record.name] = record.model_copy(update=changes)


def lay_out_parties(report: Report) -> TableText:
    """Lay out what is known of each party; without any there is no row."""
    rows = [(run.merge, each) for run in report.runs for each in run.parties]
    names = [
        name
        for name in headline(report)
        if any(name in each.metrics for _, each in rows)
    ]
    counts = [
        name
        for name in ("requests", "known", "left_out")
        if any(getattr(each, name) for _, each in rows)
    ]
    heads = ["Merge", "Party", *headings(counts), "Rounds", "Refused"]
    heads += [*headings(names), "Seconds", "Sent"]
    return TableText(
        heads,
        [
            [
                merge,
                each.name,
                *(write_count(each, name) for name in counts),
                str(each.rounds),
                str(each.refused),
                *(write_number(name, each.metrics.get(name)) for name in names),
                f"{each.seconds:.1f}",
                write_bytes(each.bytes_sent),
            ]
            for merge, each in rows
        ],
        2,
    )


def write_count(record: PartyRecord, name: str) -> str:
    """Return how many of a party's requests there are of a kind, if that is known."""
    return ABSENT if record.requests is None else str(getattr(record, name))


def caption_parties(report: Report) -> str:
    """Say what the server knows of each party, and why it does not know more."""
    records = [each for run in report.runs for each in run.parties]
    if is_masked(report):
        return (
            "Sums are masked: the server knows who took part, and no party's requests "
            "and metrics"
        )
    if not any(each.metrics for each in records):
        return "In all rounds; no party evaluated its requests"
    return (
        "In all rounds; metrics of the party's own requests of all rounds, after the "
        "last one, in per cent"
    )


def is_masked(report: Report) -> bool:
    """Return whether the parties' sums were masked."""
    privacy = report.runs[0].settings.get("privacy")
    return isinstance(privacy, dict) and privacy.get("secure_sum") is True
