"""Tests of a guess: is its key among those that statistics or an update are made of?

A key depends on the model, the plan, the subject and the words before it. So whoever
can read the span of the keys, or their gram, computes the key of a guess and looks
whether it lies there (arXiv 2602.10134 does so with updates). Every score is lower for
a guess that is more likely right.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics

INSIDE = 1e-3
"""Share of a key that may lie outside of the span of keys that it is one of.

Rounding leaves 1e-7 in float32, and at most 1e-4 in an update that was sent in it.
"""

LEVERAGE = 1 + 1e-3
"""``kᵀG⁻¹k`` is at most 1 for a key that ``G`` is a sum over, up to rounding."""

NEGLIGIBLE = 1e-6
"""Directions with a smaller share of the largest one are rounding."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one test says of guesses.

    Attributes:
        test: ``span``, ``leverage`` or ``movement``.
        scores: One a guess; infinite if it is surely wrong.
        limit: A score up to which the guess is accepted; None if the test only ranks.
    """

    test: str
    scores: Float[Tensor, " n"]
    limit: float | None

    @property
    def accepted(self) -> Bool[Tensor, " n"] | None:
        """Which guesses are said to be right."""
        return None if self.limit is None else self.scores <= self.limit


@dataclass(frozen=True, slots=True)
class Success:
    """How often a test is right, of guesses whose truth is known.

    Attributes:
        right: How many guesses are right.
        wrong: How many are not.
        recall: Share of the right ones that are accepted; None without a limit.
        false_alarms: Share of the wrong ones that are accepted; likewise.
        auc: Area under the receiver operating characteristic: the probability that a
            right guess has a lower score than a wrong one. 0.5 is chance.
    """

    right: int
    wrong: int
    recall: float | None
    false_alarms: float | None
    auc: float | None


@dataclass(frozen=True, slots=True)
class Directions:
    """Those of the keys that a gram ``G`` is the sum of, however it travelled.

    Attributes:
        span: Eigenvectors of ``G``, without those of eigenvalues that are rounding.
        values: Their eigenvalues.
    """

    span: Float[Tensor, "d_in rank"]
    values: Float[Tensor, " rank"]

    @classmethod
    def of_gram(cls, gram: Float[Tensor, "d_in d_in"]) -> "Directions":
        """Take a gram apart."""
        values, vectors = torch.linalg.eigh(gram)
        kept = values > NEGLIGIBLE**2 * values[-1]
        return cls(vectors[:, kept], values[kept])

    @classmethod
    def of(cls, statistics: LayerStatistics) -> "Directions":
        """Take statistics apart; of few rows no gram is formed."""
        if not statistics.few:
            return cls.of_gram(statistics.gram)
        found = torch.linalg.svd(statistics.keys, full_matrices=False)
        kept = NEGLIGIBLE * found.S[0] < found.S
        return cls(found.Vh[kept].mT, found.S[kept].square())


def span_of_update(
    update: Float[Tensor, "d_out d_in"],
    prior: Float[Tensor, "d_in d_in"],
    rank: int,
) -> Float[Tensor, "d_in rank"]:
    """Directions of the keys that an update was solved with.

    ``Δ (P + KᵀK) = RᵀK`` gives ``Δ P = (R − K Δᵀ)ᵀ K``, so that the rows of ``Δ P`` are
    sums of keys, and so they are of several rounds. They are all of their span if there
    are no more keys than `d_out`.

    Args:
        update: Of one layer.
        prior: That it was solved against, without memory; any multiple of it will do.
        rank: How many keys there are at most; a run sends their number openly.
    """
    rows: Tensor = torch.linalg.svd(update.double() @ prior, full_matrices=False).Vh
    return rows[:rank].mT


def share_outside(
    keys: Float[Tensor, "n d_in"], span: Float[Tensor, "d_in rank"]
) -> Float[Tensor, " n"]:
    """``‖k − P k‖ / ‖k‖`` for the projection ``P`` onto a span."""
    rest = keys - keys @ span @ span.mT
    shares: Tensor = rest.norm(dim=1) / keys.norm(dim=1)
    return shares


def score_span(
    keys: Float[Tensor, "n d_in"], span: Float[Tensor, "d_in rank"]
) -> Verdict:
    """Test whether keys lie in a span; of a full one every key does."""
    return Verdict("span", share_outside(keys, span), INSIDE)


def score_leverage(keys: Float[Tensor, "n d_in"], found: Directions) -> Verdict:
    """Test ``kᵀG⁻¹k ≤ 1``, which holds for every key that ``G`` is a sum over.

    Of ``n`` other keys it is about ``d_in / (n − d_in)`` on average, so that the test
    tells something for up to about twice as many edits as the layer is wide. A key
    outside of the span of ``G`` is none of its keys.
    """
    scores = ((keys @ found.span).square() / found.values).sum(dim=1)
    scores[share_outside(keys, found.span) > INSIDE] = torch.inf
    return Verdict("leverage", scores, LEVERAGE)


def score_movement(
    keys: Float[Tensor, "n d_in"], update: Float[Tensor, "d_out d_in"]
) -> Verdict:
    """Rank keys by ``‖Δ k‖ / ‖k‖``: an update moves those that it was made for."""
    moved = (keys @ update.double().mT).norm(dim=1) / keys.norm(dim=1)
    return Verdict("movement", -moved, None)


def measure(verdict: Verdict, edited: Bool[Tensor, " n"]) -> Success:
    """Hold a test to the truth."""
    accepted = verdict.accepted
    shares = (
        (None, None)
        if accepted is None
        else (_share(accepted[edited]), _share(accepted[~edited]))
    )
    area = area_under_curve(verdict.scores, edited)
    return Success(int(edited.sum()), int((~edited).sum()), *shares, area)


def area_under_curve(
    scores: Float[Tensor, " n"], edited: Bool[Tensor, " n"]
) -> float | None:
    """Compute the AUC by ranks (Mann and Whitney 1947); equal scores count half.

    None if all guesses are right, or none.
    """
    right, wrong = scores[edited], scores[~edited].sort().values
    if len(right) == 0 or len(wrong) == 0:
        return None
    above = len(wrong) - torch.searchsorted(wrong, right, right=True)
    at = len(wrong) - torch.searchsorted(wrong, right) - above
    return float((above + 0.5 * at).double().sum()) / (len(right) * len(wrong))


def _share(accepted: Bool[Tensor, " n"]) -> float | None:
    return float(accepted.double().mean()) if len(accepted) else None
