"""Targets: hidden states that make the model give the requested answer.

Requests are optimised together. What a step cannot change is computed once for a batch
(`editing.memit.prefix_cache`), so that a step runs the blocks after the last edited
one, from the subject's last token on, and the vocabulary head only where the loss reads
it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import kl_div

from editing.base.errors import InputError
from editing.hyperparameters.config import BATCH_SIZE, Hyperparameters
from editing.memit.full_rows import FullRows
from editing.memit.loss_positions import (
    LossPositions,
    Positions,
    TargetRows,
    build_rows,
    find_positions,
    renumber,
)
from editing.memit.prefix_cache import FrozenPrefix, run_prefix
from editing.models.batching import run_batches
from editing.models.loading import EditableModel
from editing.models.token_rows import BARE, pad_rows
from editing.requests.edit_request import EditRequest

EARLY_STOP_LOSS = 0.05
MIN_RELATIVE_SHIFT = 1e-3
"""A target whose ``‖δ‖/‖h‖`` is smaller has not moved: rounding alone does as much."""
"""The search for a request's target stops once its loss is below this."""


class DivergedTargetError(InputError, ArithmeticError):
    """The search for a target left the range of the model's precision."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets ``z = h + δ`` with the diagnosis of their search; rows are requests.

    All but the flags are in single precision or, if that is finer, the model's.

    Attributes:
        hidden: ``h`` at the last edited layer, on the model before the round's edit.
        shift: ``δ``; exactly 0 if the request asks for nothing.
        loss: ``−log p(target_new) / |target_new|`` at ``z``, mean over the prompts.
        stopped: Whether the whole loss came below `EARLY_STOP_LOSS`.
        clamped: Whether the last step was shortened to the clamp.
    """

    hidden: Float[Tensor, "n d_model"]
    shift: Float[Tensor, "n d_model"]
    loss: Float[Tensor, " n"]
    stopped: Bool[Tensor, " n"]
    clamped: Bool[Tensor, " n"]

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.hidden)

    @property
    def states(self) -> Float[Tensor, "n d_model"]:
        """``z = h + δ``, in float64."""
        return self.hidden.double() + self.shift.double()

    @property
    def probability(self) -> Float[Tensor, " n"]:
        """``exp(−loss)``: the geometric mean of the target's token probabilities."""
        return (-self.loss).exp()

    @property
    def moved(self) -> Bool[Tensor, " n"]:
        """Whether a target is so far from its hidden state that a residual counts."""
        near = MIN_RELATIVE_SHIFT * self.hidden.double().norm(dim=1)
        moved: Bool[Tensor, " n"] = self.shift.double().norm(dim=1) > near
        return moved

    def map(self, change: Callable[[Tensor], Tensor]) -> "Targets":
        """Apply a function to every field, such as a choice of rows or a device."""
        return Targets(*map(change, _fields_of(self)))


def concatenate_targets(parts: Sequence[Targets]) -> Targets:
    """Join targets, the requests of one part after those of the part before."""
    return Targets(*map(torch.cat, zip(*map(_fields_of, parts), strict=True)))


def compute_targets(
    model: EditableModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    parameters: Hyperparameters,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[int], None] | None = None,
) -> Targets:
    """Find each request's target ``z = h + δ`` at the last edited layer.

    ``δ`` minimises, with Adam from 0, the mean over the rewriting prompts of
    ``−log p(target_new | prompt) / |target_new|`` plus ``kl_factor · KL(p ‖ p₀)`` after
    "{subject} is a" plus ``v_weight_decay · ‖δ‖ / ‖h‖²``, projected after each step
    onto ``‖δ‖ ≤ clamp_norm_factor · ‖h‖``; a request stops when its loss is below 0.05
    (arXiv 2202.05262, equation 4; arXiv 2210.07229, §4.2, and the published code). A
    prompt that does not fit the model's context is an `InputError`, and a loss that is
    not finite is a `DivergedTargetError`. Passes are in the model's precision; scores,
    loss, ``h`` and ``δ`` in single precision if that is the finer one.

    Args:
        model: The model before this round's edits.
        requests: One row of the result each, in this order.
        templates: Context templates, the bare one included.
        parameters: MEMIT's hyperparameters.
        batch_size: Requests optimised together, halved when memory runs out; changes
            speed and memory, not results beyond rounding.
        on_batch: Called with the number of requests done after each batch.
    """
    ordered = (BARE, *(text for text in templates if text != BARE))
    found: list[Targets] = []

    def run(batch: Sequence[EditRequest]) -> Targets:
        return _optimise(model, batch, ordered, parameters)

    for _, targets in run_batches(requests, batch_size, run):
        found.append(targets)
        if on_batch is not None:
            on_batch(sum(map(len, found)))
    return concatenate_targets(found)


def _optimise(
    model: EditableModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    parameters: Hyperparameters,
) -> Targets:
    built = build_rows(model, requests, templates)
    groups = built.by_window()
    parts = [
        _run_part(model, built.among(group), parameters.layers[-1]) for group in groups
    ]
    numbers = torch.tensor([index for group in groups for index in group])
    hidden = torch.cat([part.prefix.hidden[:, 0] for part in parts])
    start = _wide(hidden[torch.argsort(numbers)[:: len(templates) + 1]])
    case_ids = tuple(request.case_id for request in requests)
    active = torch.arange(len(requests), device=model.device)
    search = _Search(parts, active, case_ids)
    return _descend(model, search, start, parameters)


def _run_part(model: EditableModel, built: TargetRows, layer: int) -> "_Part":
    prefix = run_prefix(model, pad_rows(built.rows, model.device), layer)
    return _Part(
        prefix,
        find_positions(built, model.device, _wide(prefix.hidden[:0]).dtype),
        torch.tensor(built.owners, device=model.device),
    )


def _descend(
    model: EditableModel, search: "_Search", start: Tensor, parameters: Hyperparameters
) -> Targets:
    scale = torch.linalg.vector_norm(start, dim=1)
    shift, likelihood = torch.zeros_like(start), torch.zeros_like(scale)
    mean, square = torch.zeros_like(shift), torch.zeros_like(shift)
    stopped = torch.zeros_like(scale, dtype=torch.bool)
    clamped = torch.zeros_like(stopped)
    for step in range(1, parameters.v_num_grad_steps + 1):
        now = shift[search.active].requires_grad_()
        loss, likelihood[search.active] = search.loss(
            model, now, scale[search.active], parameters
        )
        search.check(loss.detach())
        unfinished = loss.detach() >= EARLY_STOP_LOSS
        stopped[search.active] = ~unfinished
        if step == parameters.v_num_grad_steps or not bool(unfinished.any()):
            break
        (gradient,) = torch.autograd.grad(loss.sum(), now)
        search.keep(unfinished)
        rows, gradient = search.active, gradient[unfinished]
        mean[rows] = 0.9 * mean[rows] + 0.1 * gradient
        square[rows] = 0.999 * square[rows] + 0.001 * gradient**2
        update = _adam_step(mean[rows], square[rows], step, parameters.v_lr)
        largest = parameters.clamp_norm_factor * scale[rows]
        shift[rows], clamped[rows] = _clamp(shift[rows] - update, largest)
    return Targets(start, shift, likelihood, stopped, clamped)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a batch whose windows are about as wide, so that little is padded.

    Attributes:
        prefix: Of these rows.
        positions: Where the loss reads these rows.
        owners: Which of the requests still being optimised a row belongs to.
    """

    prefix: FrozenPrefix | FullRows
    positions: LossPositions
    owners: Tensor

    def among(self, unfinished: Tensor) -> "_Part | None":
        """Keep the rows of some requests; None if there are none."""
        owners = unfinished.nonzero().squeeze(1)
        rows = unfinished[self.owners].nonzero().squeeze(1)
        if len(rows) == 0:
            return None
        return _Part(
            self.prefix.among(rows),
            self.positions.among(rows, owners),
            renumber(owners, self.owners[rows]),
        )


@dataclass(slots=True)
class _Search:
    """The requests of a batch that are still being optimised.

    Attributes:
        parts: Their rows.
        active: Their numbers in the batch.
        case_ids: Of all requests of the batch.
        essence_before: Log-probabilities at the KL positions before any shift.
    """

    parts: list[_Part]
    active: Tensor
    case_ids: tuple[int, ...]
    essence_before: Tensor | None = None

    def keep(self, unfinished: Tensor) -> None:
        """Drop finished requests with their rows."""
        if bool(unfinished.all()):
            return
        assert self.essence_before is not None
        kept = [part.among(unfinished) for part in self.parts]
        self.parts = [part for part in kept if part is not None]
        self.active = self.active[unfinished]
        self.essence_before = self.essence_before[unfinished]

    def check(self, loss: Tensor) -> None:
        """Refuse a loss that is not a number; it would never be above the stop's.

        Raises:
            DivergedTargetError: If there is one; names its request.
        """
        lost = self.active[~loss.isfinite()].tolist()
        if lost:
            raise DivergedTargetError(
                f"Request {self.case_ids[lost[0]]}: the loss of its target is not "
                f"finite ({len(lost)} of {len(loss)} are not). Try a smaller `v_lr`, "
                "or load the model in float32 (`model.dtype`)."
            )

    def loss(
        self,
        model: EditableModel,
        shift: Tensor,
        scale: Tensor,
        parameters: Hyperparameters,
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Sum the three terms of each request; the first term alone, too, detached."""
        decay: Tensor = torch.linalg.vector_norm(shift, dim=1) / scale**2
        total, first = parameters.v_weight_decay * decay, torch.zeros_like(scale)
        for part in self.parts:
            window = part.prefix.shifted(shift[part.owners])
            final, early = part.prefix.run(model, window, parameters.v_loss_layer)
            rewriting, essence = part.positions.rewriting, part.positions.essence
            if len(rewriting.rows):
                logits = _wide(model.logits(rewriting.pick(early)))
                cost = _cost(logits, rewriting)
                total = total.index_add(0, rewriting.owners, cost)
                first = first.index_add(0, rewriting.owners, cost.detach())
            if len(essence.rows):
                drift = self._drift(_wide(model.logits(essence.pick(final))))
                total = total + parameters.kl_factor * drift
        return total, first

    def _drift(self, logits: Tensor) -> Tensor:
        now = logits.log_softmax(dim=-1)
        if self.essence_before is None:
            self.essence_before = now.detach()
        each = kl_div(self.essence_before, now, reduction="none", log_target=True)
        return each.sum(dim=1)


def _wide(values: Tensor) -> Tensor:
    """Values in single precision at least; at half precision, Adam would not move."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _cost(logits: Tensor, positions: Positions) -> Tensor:
    chosen = logits.log_softmax(dim=-1).gather(1, positions.tokens.unsqueeze(1))
    return -chosen.squeeze(1) * positions.weights


def _adam_step(mean: Tensor, square: Tensor, step: int, rate: float) -> Tensor:
    """Adam's step (arXiv 1412.6980, algorithm 1) with β = (0.9, 0.999), ε = 1e-8."""
    spread: Tensor = (square / (1 - 0.999**step)).sqrt() + 1e-8
    return rate / (1 - 0.9**step) * mean / spread


def _clamp(
    shift: Float[Tensor, "n d"], largest: Float[Tensor, " n"]
) -> tuple[Tensor, Tensor]:
    """Shorten rows to the largest norm; return also which rows were longer."""
    length: Tensor = torch.linalg.vector_norm(shift, dim=1)
    return shift * (largest / length).clamp(max=1).unsqueeze(1), length > largest


def _fields_of(targets: Targets) -> list[Tensor]:
    return [getattr(targets, each.name) for each in fields(targets)]
