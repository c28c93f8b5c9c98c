"""Metrics on the wire: sums over a party's cases, by the round of their requests.

Each metric travels as two numbers, ``round.3.sum.rewrite_acc`` and
``round.3.count.rewrite_acc``. `encode_metrics` and `decode_metrics` are the only
functions that know these names.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import MetricRecord, RecordDict

from editing.algebra.statistics import StatisticsError
from editing.base.foreign_text import show_foreign
from editing.evaluation.metrics import DIAGNOSIS, RANGES, MetricSums

_NAME = re.compile(r"round\.(0|[1-9][0-9]{0,8})\.(sum|count)\.(.+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class EvaluationSums:
    """Metrics of the requests of each round, as sums over cases.

    The sum of two parties' is that of all their cases together.

    Attributes:
        by_round: Sums by the round in which their requests were new.
    """

    by_round: Mapping[int, MetricSums] = field(default_factory=dict)

    def __add__(self, other: "EvaluationSums") -> "EvaluationSums":
        """Pool the cases of two parties."""
        rounds = sorted(self.by_round.keys() | other.by_round.keys())
        return EvaluationSums(
            {
                number: self.of_round(number) + other.of_round(number)
                for number in rounds
            }
        )

    def of_round(self, number: int) -> MetricSums:
        """Return the sums over one round's requests; empty if there are none."""
        return self.by_round.get(number, MetricSums())


def encode_metrics(evaluation: EvaluationSums) -> MetricRecord:
    """Write sums and counts under flat names; `decode_metrics` reads them."""
    named: dict[str, float] = {}
    for number, total in evaluation.by_round.items():
        for name, value in total.sums.items():
            named[f"round.{number}.sum.{name}"] = value
            named[f"round.{number}.count.{name}"] = float(total.counts[name])
    return MetricRecord({**named})


def decode_metrics(
    record: MetricRecord, most_requests: Mapping[int, float] | None = None
) -> EvaluationSums:
    """Read what `encode_metrics` wrote, and validate every number.

    Args:
        record: Sums and counts.
        most_requests: By round, how many requests they can be over; any number of any
            round if None.

    Raises:
        StatisticsError: If a metric is unknown or of a round that was not asked for, a
            sum comes without a count that its party can have, or is impossible for
            that count.
    """
    values = {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float)
    }
    parts = {name: part for name in values if (part := _NAME.fullmatch(name))}
    paired = {
        f"round.{part[1]}.{kind}.{part[3]}"
        for part in parts.values()
        for kind in ("sum", "count")
    }
    if not paired == set(values) == set(record):
        raise StatisticsError("its metrics are not sums with their counts")
    found: dict[int, MetricSums] = {}
    for name, part in parts.items():
        if part[2] == "count":
            number, metric = int(part[1]), part[3]
            most = math.inf if most_requests is None else most_requests.get(number, 0.0)
            total = values[f"round.{part[1]}.sum.{metric}"]
            _validate_metric(total, values[name], most, metric)
            one = MetricSums({metric: total}, {metric: round(values[name])})
            found[number] = found.get(number, MetricSums()) + one
    return EvaluationSums({number: found[number] for number in sorted(found)})


def write_evaluation(evaluation: EvaluationSums) -> RecordDict:
    """Pack a party's metrics."""
    return RecordDict({"metrics": encode_metrics(evaluation)})


def read_evaluation(
    content: RecordDict, most_requests: Mapping[int, float] | None = None
) -> EvaluationSums:
    """Unpack a party's metrics; none if it evaluated nothing.

    Invalid ones are a `StatisticsError`; see `decode_metrics` for it and the arguments.
    """
    record = content.metric_records.get("metrics", MetricRecord())
    return decode_metrics(record, most_requests)


def _validate_metric(total: float, count: float, most: float, name: str) -> None:
    """Refuse a sum or a count that no evaluation can give.

    Raises:
        StatisticsError: Naming the metric or the count.
    """
    ranges = {**RANGES, **DIAGNOSIS}
    if name not in ranges:
        raise StatisticsError(
            f"its metrics name {show_foreign(name)}, which is not a metric"
        )
    if not (count.is_integer() and 1 <= count <= most):
        raise StatisticsError(
            f"its metrics are over {count:g} requests of a round in which it can have "
            f"{most:g}"
        )
    least, highest = ranges[name]
    if not (math.isfinite(total) and least * count <= total <= highest * count):
        raise StatisticsError(
            f"its metrics give a sum of {total:g} for `{name}` over {count:g} "
            "requests, which is impossible"
        )
