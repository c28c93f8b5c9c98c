"""Why an edit may have failed: warnings from what was measured on the way.

An edit searches a target hidden state ``z``, then solves for the update ``Δ`` that
moves the hidden state from ``h`` to ``z``. Either step can fail without an error: the
search ends at a target that does not yield the new object, or ``Δ`` leaves ``h`` where
it was or destroys the weight ``W``.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from server.report.data import RoundMetrics, RunReport

MIN_PROBABILITY = 0.5
"""A new object with a smaller p(new) at ``z`` is not certain to be the likeliest one.

An update can at best do what its target does.
"""

MIN_STOPPED = 0.5
"""If fewer targets reach the stopping loss, most searches ran out of steps."""

MAX_CLAMPED = 0.5
"""If more targets end at the clamp, it binds most searches and not only outliers."""

MAX_RESIDUAL_LEFT = 0.5
"""If more of ``‖z − h‖`` is left, less than half of the intended change arrived."""

MAX_UPDATE_RATIO = 100.0
"""No good edit is known with a larger ``‖Δ‖/‖W‖``.

Edits of published models stay far below 1. Those of the embedded model, whose weights
are small next to its hidden states, reach 30 and change nothing else.
"""

MIN_SCORE = 50.0
"""With a lower score or success, in per cent, most edits or their surroundings fail."""

SUSPECT_UPDATE_RATIO = 1.0
"""If the score is that low, an update larger than its weight is the likely cause."""


def relative_norms(
    delta: Mapping[str, Tensor], weight_of: Callable[[str], Tensor]
) -> dict[str, float]:
    """Return ``‖Δ‖/‖W‖`` (Frobenius) by parameter name, where it is a finite number.

    Args:
        delta: Updates by parameter name.
        weight_of: Returns the parameter of a name, unedited.
    """
    found = {
        name: _norm(update) / norm
        for name, update in delta.items()
        if (norm := _norm(weight_of(name))) > 0
    }
    return {name: ratio for name, ratio in found.items() if math.isfinite(ratio)}


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))


def diagnose(run: RunReport) -> list[str]:
    """Return a warning for each thing that may keep the run's edits from working.

    What was not measured gives no warning.
    """
    found = []
    for number, metrics in enumerate(run.metrics, start=1):
        where = f"round {number}: " if run.rounds > 1 else ""
        found += [f"{where}{each}" for each in diagnose_round(metrics)]
    success = success_of(run.metrics[-1])
    left = bool(diagnose_residual(run.metrics[-1].residual_left))
    return found + diagnose_update(run.update_ratios, success, residual_left=left)


def success_of(metrics: RoundMetrics) -> float | None:
    """Return the score, or, if it is not defined, ES or the rewrite accuracy."""
    measures = (metrics.score, metrics.rewrite_success, metrics.rewrite_acc)
    return next((each for each in measures if each is not None), None)


def diagnose_round(metrics: RoundMetrics) -> list[str]:
    """Return warnings about a round's targets, or else what the update left of them.

    What is left of a target says nothing if the target itself is wrong.
    """
    return diagnose_targets(metrics) or diagnose_residual(metrics.residual_left)


def diagnose_targets(metrics: RoundMetrics) -> list[str]:
    """Return warnings about targets that do not yield the new object."""
    probability = metrics.target_probability
    if probability is not None and probability >= MIN_PROBABILITY:
        return []
    reached = (
        f" and p(new) is {probability:.2f} there" if probability is not None else ""
    )
    stopped, clamped = metrics.target_stopped, metrics.target_clamped
    found = []
    if clamped is not None and clamped > MAX_CLAMPED:
        found.append(
            f"{clamped:.0%} of the targets are at the clamp{reached}: raise "
            "`editing.clamp-norm-factor`"
        )
    elif stopped is not None and stopped < MIN_STOPPED:
        found.append(
            f"{stopped:.0%} of the targets reach the stopping loss{reached}: "
            "raise `editing.v-num-grad-steps` or `editing.v-lr`"
        )
    return found


def diagnose_residual(left: float | None) -> list[str]:
    """Return a warning if the update moves the hidden states too little."""
    if left is None or left <= MAX_RESIDUAL_LEFT:
        return []
    return [
        f"{left:.0%} of the residual is left after the update: lower the prior weight "
        "(or what the editor has in its place), edit requests whose keys are less "
        "alike in separate rounds, or use a merge that keeps more of the parties' "
        "updates"
    ]


def diagnose_update(
    ratios: Mapping[str, float], success: float | None, *, residual_left: bool = False
) -> list[str]:
    """Return a warning if the largest update replaces its weight.

    Args:
        ratios: ``‖Δ‖/‖W‖`` by parameter name.
        success: How well the last round's edits work, in per cent: see `success_of`.
        residual_left: Whether there is a warning about the last round's residuals,
            whose advice is the opposite of what a large update alone asks for.
    """
    name = max(ratios, key=lambda each: ratios[each], default=None)
    failed = success is not None and success < MIN_SCORE
    largest = SUSPECT_UPDATE_RATIO if failed else MAX_UPDATE_RATIO
    if name is None or ratios[name] <= largest:
        return []
    advice = (
        ", and yet the edits are not written: edit fewer requests at once, use another "
        "merge, or estimate the covariance on more text"
        if residual_left
        else ": raise the prior weight (or what the editor has in its place), or "
        "estimate the covariance on more text"
    )
    what = f"‖Δ‖/‖W‖ is {ratios[name]:.3g} in {name}, so the update replaces the weight"
    return [what + advice]
