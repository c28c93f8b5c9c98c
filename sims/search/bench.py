"""One trial of a search: edit a part of the requests with one choice, and evaluate."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import harmonic_mean

from jaxtyping import Float
from torch import Tensor

from editing.algebra.deltas import applied
from editing.algebra.solving import IllConditionedError
from editing.base.errors import InputError
from editing.covariance.cache import find_covariance
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.hyperparameters.config import Hyperparameters, Plan
from editing.memit.pipeline import edit_alone
from editing.memit.residuals import read_states
from editing.memit.targets import DivergedTargetError, Targets, compute_targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from server.report.diagnosis import relative_norms

KINDS = ("rewrite", "paraphrase", "neighborhood")
"""Efficacy (ES), generalization (PS) and specificity (NS) are measured on these."""

SEARCH, VALIDATION = "search", "validation"


@dataclass(frozen=True, slots=True)
class Trial:
    """A choice of hyperparameters and what it reached on one part of the requests.

    Attributes:
        parameters: The choice.
        part: `SEARCH` or `VALIDATION`.
        score: Harmonic mean, in per cent, of what the part's prompts allow to measure.
        metrics: Of the edited model, see `editing.evaluation.metrics`.
        diagnosis: `target_loss`, `target_probability`, `target_stopped`,
            `target_clamped`, `residual_left` and `update_ratio`, the largest
            ``‖Δ‖ / ‖W‖``.
        seconds: Wall time.
        failure: Why there is no result; the score is 0 then.
    """

    parameters: Hyperparameters
    part: str
    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    diagnosis: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""


class Bench:
    """A model, two parts of requests, and the covariances of the layers tried."""

    def __init__(
        self,
        model: EditableModel,
        parts: Mapping[str, Sequence[EditRequest]],
        templates: Sequence[str],
        text: str,
        model_path: str,
        tokens: int | None = None,
    ) -> None:
        """Estimate nothing yet.

        Args:
            model: The model to edit, given back unchanged after each trial.
            parts: Requests by `SEARCH` and `VALIDATION`.
            templates: Context templates.
            text: Text of the covariances, as the setting `prior.text` names it.
            model_path: The model's folder, which holds its own text.
            tokens: Tokens that a covariance reads; None as in a run.
        """
        self.model, self.parts, self.templates = model, parts, tuple(templates)
        self._text, self._path, self._tokens = text, model_path, tokens
        self._moments: dict[int, Float[Tensor, "d_in d_in"]] = {}
        self._targets: dict[tuple[str, int, float], Targets] = {}

    def prepare(self, layers: Sequence[int]) -> None:
        """Estimate the covariances of those layers that have none, in one pass."""
        missing = tuple(sorted(set(layers) - self._moments.keys()))
        if missing:
            found = find_covariance(
                self.model, missing, None, self._text, self._path, tokens=self._tokens
            )
            self._moments |= found.moments

    def try_out(self, parameters: Hyperparameters, part: str) -> Trial:
        """Edit all requests of a part at once, and evaluate the edited model.

        A choice whose targets diverge or whose prior does not carry the solve has
        score 0 and names the reason.
        """
        began = time.monotonic()
        self.prepare(parameters.layers)
        plan = Plan(
            parameters=parameters, schedule="layerwise", templates=self.templates
        )
        try:
            metrics, diagnosis = self._edit(plan, part)
        except (DivergedTargetError, IllConditionedError) as error:
            seconds = time.monotonic() - began
            return Trial(parameters, part, 0.0, seconds=seconds, failure=str(error))
        seconds = time.monotonic() - began
        score = score_of(metrics)
        return Trial(parameters, part, score, metrics, diagnosis, seconds)

    def _edit(self, plan: Plan, part: str) -> tuple[dict[str, float], dict[str, float]]:
        requests = self.parts[part]
        targets = self._targets_of(plan.parameters, part)
        weight = plan.parameters.mom2_update_weight
        priors = {
            layer: weight * self._moments[layer] for layer in plan.parameters.layers
        }
        delta = edit_alone(self.model, requests, plan, priors, targets)
        with applied(delta, self.model.model):
            metrics = sum_cases(evaluate_requests(self.model, requests)).means()
            reached = read_states(self.model, requests, plan.parameters)
        diagnosis = diagnose(targets, reached)
        ratios = relative_norms(delta, self.model.model.get_parameter)
        diagnosis["update_ratio"] = max(ratios.values(), default=0.0)
        return metrics, diagnosis

    def _targets_of(self, parameters: Hyperparameters, part: str) -> Targets:
        """Targets depend on the last layer and the clamp alone; keep them."""
        key = (part, parameters.layers[-1], parameters.clamp_norm_factor)
        if key not in self._targets:
            self._targets[key] = compute_targets(
                self.model, self.parts[part], self.templates, parameters
            )
        return self._targets[key]


def diagnose(targets: Targets, reached: Float[Tensor, "n d_model"]) -> dict[str, float]:
    """Average the diagnosis of targets and of the hidden states after the edit.

    A target that did not move from its hidden state has no residual, and does not
    count in `residual_left`.
    """
    wanted = targets.shift.double().norm(dim=1)
    left = (targets.states - reached.to(targets.states.device)).norm(dim=1)
    moved = targets.moved
    found = {
        "target_loss": float(targets.loss.mean()),
        "target_probability": float(targets.probability.mean()),
        "target_stopped": float(targets.stopped.double().mean()),
        "target_clamped": float(targets.clamped.double().mean()),
    }
    if bool(moved.any()):
        found["residual_left"] = float((left[moved] / wanted[moved]).mean())
    return found


def score_of(metrics: Mapping[str, float]) -> float:
    """Return the harmonic mean of ES, PS and NS, in per cent.

    Successes need a true object; without one, accuracies take their place. A kind of
    prompt that the requests do not have is left out.
    """
    for suffix in ("success", "acc"):
        found = [
            metrics[f"{kind}_{suffix}"]
            for kind in KINDS
            if f"{kind}_{suffix}" in metrics
        ]
        if found:
            return harmonic_mean(found)
    return 0.0


def split_requests(
    requests: Sequence[EditRequest], count: int, seed: int
) -> dict[str, list[EditRequest]]:
    """Draw two parts of at most `count` requests, all of distinct subjects.

    Raises:
        InputError: If there are fewer than two subjects.
    """
    order = sorted(requests, key=lambda request: request.case_id)
    random.Random(seed).shuffle(order)
    drawn: dict[str, EditRequest] = {}
    for request in order:
        drawn.setdefault(request.subject, request)
    size = min(count, len(drawn) // 2)
    if size == 0:
        raise InputError(
            "--requests: a search wants requests about two subjects at least, one to "
            f"search with and one to validate with; there are {len(drawn)}"
        )
    listed = list(drawn.values())
    return {SEARCH: listed[:size], VALIDATION: listed[size : 2 * size]}


def text_for(model_path: str, named: str | None) -> str:
    """Choose the text of the covariances: as named, the model's own, or `self`."""
    if named is not None:
        return named
    return "embedded" if (Path(model_path) / "text.txt").is_file() else "self"
