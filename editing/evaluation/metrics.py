"""Metrics as sums over cases, so that those of several parties add up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from editing.requests.forms.benchmarks import TEACHER_FORCED

KINDS = ("rewrite", "paraphrase", "neighborhood")
"""Prompts of efficacy (ES), generalization (PS) and specificity (NS)."""

GENERATED = ("ngram_entropy", "reference_score", "essence_score")
"""Metrics of text, by MEMIT's names; the first two are shown a hundred times."""

ANSWERED = tuple(
    f"{kind}_generated_{measure}"
    for kind in ("rewrite", "paraphrase")
    for measure in ("exact", "contains")
)
"""Metrics of answers that the model generates to a request's own prompts."""

BENCHMARK_ANSWERED = (
    "mquake_edit_acc",
    "mquake_instance_acc",
    "mquake_multi_hop_acc",
    "qaedit_locality_unchanged",
)
"""Metrics of answers that the model generates to a benchmark's own questions."""

BENCHMARKS = (*(f"{kind}_acc" for kind in TEACHER_FORCED), *BENCHMARK_ANSWERED)
"""Metrics of benchmarks, as their own programs have them."""

MAX_ENTROPY_BITS = 64.0
"""No text that is written for a metric has an entropy of more."""

MAX_PROBABILITY_DIFFERENCE = 1.001
"""The difference of two probabilities, with what the rounding of each may add."""

RANGES: Mapping[str, tuple[float, float]] = {
    **{
        f"{kind}_{measure}": (0.0, 1.0)
        for kind in (*KINDS, "attribute")
        for measure in ("success", "acc", "token_acc")
    },
    **dict.fromkeys(
        (
            "paraphrase_success.same_direction",
            "paraphrase_success.other_direction",
            "locality_acc",
            "locality_unchanged",
            "portability_acc",
            "reference_score",
            *ANSWERED,
            *BENCHMARKS,
        ),
        (0.0, 1.0),
    ),
    **{
        f"{kind}_diff": (-MAX_PROBABILITY_DIFFERENCE, MAX_PROBABILITY_DIFFERENCE)
        for kind in (*KINDS, "attribute")
    },
    "ngram_entropy": (0.0, MAX_ENTROPY_BITS),
}
"""The metrics that a party may send, and the range of each for one case.

``essence_score`` is not among them: it needs references, which parties do not have.
"""


DIAGNOSIS: Mapping[str, tuple[float, float]] = {
    "target_loss": (0.0, math.inf),
    "target_probability": (0.0, 1.0),
    "target_stopped": (0.0, 1.0),
    "target_clamped": (0.0, 1.0),
    "residual_left": (0.0, math.inf),
}
"""Diagnostics of the edited requests of a round, and their ranges for one request."""


@dataclass(frozen=True, slots=True)
class MetricSums:
    """Metrics as sums over cases, so that parties' metrics add up.

    The field's three measures of an edit are ``rewrite_success``, efficacy (ES);
    ``paraphrase_success``, generalization (PS); and ``neighborhood_success``,
    specificity (NS). Their harmonic mean is the score (Meng et al., arXiv 2210.07229).

    Attributes:
        sums: By metric, the sum over cases of the mean inside a case.
        counts: By metric, the number of cases that have it.
    """

    sums: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "MetricSums") -> "MetricSums":
        """Pool two sets of cases."""
        names = sorted(self.sums.keys() | other.sums.keys())
        return MetricSums(
            {n: self.sums.get(n, 0.0) + other.sums.get(n, 0.0) for n in names},
            {n: self.counts.get(n, 0) + other.counts.get(n, 0) for n in names},
        )

    def means(self) -> dict[str, float]:
        """The metrics, shares in per cent, with `score` where all its parts are.

        Entropies and reference scores are a hundred times theirs too, as MEMIT shows
        them; differences and perplexities are what they are.
        """
        found = {name: self.sums[name] / self.counts[name] for name in self.sums}
        shares = {
            name: value if is_unscaled(name) else 100 * value
            for name, value in found.items()
        }
        parts = [shares.get(f"{kind}_success") for kind in KINDS]
        known = [part for part in parts if part is not None]
        if len(known) == len(KINDS):
            shares["score"] = harmonic_mean(known)
        return shares


def is_unscaled(name: str) -> bool:
    """Return whether a metric is shown as it is.

    So are differences, perplexities and diagnostics.
    """
    return name.endswith("_diff") or name == "essence_score" or name in DIAGNOSIS


def harmonic_mean(values: Sequence[float]) -> float:
    """``n / Σ 1/v``; 0 if any value is 0."""
    if any(value <= 0 for value in values):
        return 0.0
    return len(values) / sum(1 / value for value in values)


def measure_success(post: Mapping[str, object], kind: str) -> float | None:
    """Return the share of a case's prompts where the right object is the likelier one.

    That is the true object for ``neighborhood``, and the new one otherwise. Where the
    two are equal, or there is no true one, there is no success.

    Args:
        post: The case's metrics as its file has them.
        kind: Of prompts.
    """
    probs = post.get(f"{kind}_prompts_probs", [])
    assert isinstance(probs, list)
    sign = -1 if kind == "neighborhood" else 1
    gaps = [
        sign * (each["target_true"] - each["target_new"])
        for each in probs
        if "target_true" in each and not post.get("objects_agree")
    ]
    return sum(gap > 0 for gap in gaps) / len(gaps) if gaps else None
