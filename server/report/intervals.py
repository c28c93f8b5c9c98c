"""How far a share over some requests may be from that over all requests of their kind.

A share ``p`` of ``n`` requests has Wilson's interval, the shares ``q`` with
``|p − q| ≤ z √(q (1 − q) / n)``. A request of which several prompts are evaluated has
a value between 0 and 1, whose variance is at most ``q (1 − q)``: then the interval is
wider than need be, and never narrower.
"""

import math

from editing.evaluation.metrics import KINDS, RANGES, harmonic_mean
from server.report.data import RoundMetrics

LEVEL = 1.959964
"""Standard errors within which a normal variable is 95 % of the time."""

PART_LEVEL = 2.393980
"""The same for 1 − 0.05/3: three such intervals hold together 95 % of the time."""

CAPTION = (
    "Error bars are 95 % intervals (Wilson's) for other requests of the same kind, "
    "taken as independent draws. They are wider than need be where one request has "
    "several prompts, and for the score, whose ends are the scores of its three parts' "
    "ends at 98.3 % each. Merges edit the same requests, so differences between merges "
    "are more certain than the bars suggest."
)
Interval = tuple[float, float]


def wilson(share: float, count: int, level: float = LEVEL) -> Interval:
    """Return Wilson's interval of a share.

    Args:
        share: Between 0 and 1.
        count: Over how many requests.
        level: In standard errors.
    """
    spread = level**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def find_interval(metrics: RoundMetrics, name: str) -> Interval | None:
    """Return the interval of a metric in per cent; None for one that is no share.

    Nor has one whose number of requests is not known. The share itself is within it.
    """
    if name == "score":
        return find_score_interval(metrics)
    return find_share_interval(metrics, name, LEVEL)


def find_score_interval(metrics: RoundMetrics) -> Interval | None:
    """Return the scores between which those of all values of the three parts are."""
    found = [
        find_share_interval(metrics, f"{kind}_success", PART_LEVEL) for kind in KINDS
    ]
    ends = [each for each in found if each is not None]
    if metrics.score is None or len(ends) < len(KINDS):
        return None
    low, high = (harmonic_mean(each) for each in zip(*ends, strict=True))
    return low, high


def find_share_interval(
    metrics: RoundMetrics, name: str, level: float
) -> Interval | None:
    """Return the interval of a share in per cent; see `find_interval`."""
    value: float | None = getattr(metrics, name, metrics.groups.get(name))
    count = metrics.counts.get(name, metrics.evaluated)
    is_share = RANGES.get(name.partition(".")[0]) == (0.0, 1.0)
    if value is None or not count or not is_share:
        return None
    low, high = wilson(min(value / 100, 1.0), count, level)
    return min(100 * low, value), max(100 * high, value)
