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
from torch.nn.functional import kl_div, normalize

from editing.base.errors import InputError
from editing.hyperparameters.config import BATCH_SIZE, Hyperparameters
from editing.memit.faster_modules import fast_gelu
from editing.memit.full_rows import FullRows
from editing.memit.loss_positions import (
    LossPositions,
    TargetRows,
    build_rows,
    find_positions,
    pack_windows,
    renumber,
)
from editing.memit.prefix_cache import FrozenPrefix
from editing.memit.shared_prefixes import run_parts
from editing.models.batching import run_batches
from editing.models.loading import EditableModel
from editing.models.token_rows import BARE
from editing.requests.edit_request import EditRequest

CPU_PART = (1024, 64)
OTHER_PART = (8192, 512)
"""Tokens of rows that are run together, and those that may be padding, on a device.

More at once fill it better, and take more memory.
"""

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
    sizes = CPU_PART if model.device.type == "cpu" else OTHER_PART
    groups = pack_windows(built.widths, *sizes)
    with fast_gelu(model):
        prefixes = run_parts(model, built, groups, parameters.layers[-1])
        numbers = torch.tensor([index for group in groups for index in group])
        hidden = torch.cat([prefix.hidden[:, 0] for prefix in prefixes])
        start = _wide(hidden[torch.argsort(numbers)[:: len(templates) + 1]])
        parts = [
            _make_part(model, built.among(group), prefix, start.dtype)
            for group, prefix in zip(groups, prefixes, strict=True)
        ]
        del prefixes
        case_ids = tuple(request.case_id for request in requests)
        active = torch.arange(len(requests), device=model.device)
        search = _Search(parts, active, case_ids, sizes)
        return _descend(model, search, start, parameters)


def _make_part(
    model: EditableModel,
    built: TargetRows,
    prefix: FrozenPrefix | FullRows,
    dtype: torch.dtype,
) -> "_Part":
    owners = torch.tensor(built.owners, device=model.device)
    return _Part(prefix, find_positions(built, model.device, dtype), owners)


def _descend(
    model: EditableModel, search: "_Search", start: Tensor, parameters: Hyperparameters
) -> Targets:
    scale = torch.linalg.vector_norm(start, dim=1)
    shift, likelihood = torch.zeros_like(start), torch.zeros_like(scale)
    mean, square = torch.zeros_like(shift), torch.zeros_like(shift)
    stopped = torch.zeros_like(scale, dtype=torch.bool)
    clamped = torch.zeros_like(stopped)
    for step in range(1, parameters.v_num_grad_steps + 1):
        last, rows = step == parameters.v_num_grad_steps, search.active
        found = search.evaluate(model, shift[rows], scale[rows], parameters, last)
        search.check(found.loss)
        likelihood[rows] = found.answer
        unfinished = found.loss >= EARLY_STOP_LOSS
        stopped[rows] = ~unfinished
        if last or not bool(unfinished.any()):
            break
        search.keep(unfinished)
        rows, gradient = search.active, found.gradient[unfinished]
        mean[rows] = 0.9 * mean[rows] + 0.1 * gradient
        square[rows] = 0.999 * square[rows] + 0.001 * gradient**2
        update = _adam_step(mean[rows], square[rows], step, parameters.v_lr)
        largest = parameters.clamp_norm_factor * scale[rows]
        shift[rows], clamped[rows] = _clamp(shift[rows] - update, largest)
    return Targets(start, shift, likelihood, stopped, clamped)


@dataclass(slots=True)
class _Part:
    """Rows of a batch that are run together.

    Attributes:
        prefix: Of these rows.
        positions: Where the loss reads these rows.
        owners: Which of the requests still being optimised a row belongs to.
        before: Log-probabilities at the KL positions before any shift, once known.
    """

    prefix: FrozenPrefix | FullRows
    positions: LossPositions
    owners: Tensor
    before: Tensor | None = None

    def among(self, rows: Tensor, owners: Tensor) -> "_Part":
        """Keep some rows, in order; `owners` gives the new numbering of requests."""
        read = renumber(rows, self.positions.essence.rows) >= 0
        return _Part(
            self.prefix if len(rows) == len(self.owners) else self.prefix.among(rows),
            self.positions.among(rows, owners),
            renumber(owners, self.owners[rows]),
            None if self.before is None else self.before[read],
        )

    def costs(
        self, model: EditableModel, shift: Float[Tensor, "rows d"], layer: int | None
    ) -> tuple[Float[Tensor, " answers"], Float[Tensor, " essences"]]:
        """Compute the weighted loss of each answer's token, and each KL row's drift."""
        answers, essence = self.positions.rewriting, self.positions.essence
        window = self.prefix.shifted(shift)
        places = [each.places(window.shape[1]) for each in (answers, essence)]
        final, early = self.prefix.run(model, window, layer, torch.cat(places))
        read = torch.cat([answers.pick(early), essence.pick(final)])
        logits = _wide(model.logits(read)).log_softmax(dim=-1)
        said, now = logits.split([len(answers.rows), len(essence.rows)])
        if self.before is None:
            self.before = now.detach().clone()
        drift = kl_div(self.before, now, reduction="none", log_target=True)
        chosen = said.gather(1, answers.tokens.unsqueeze(1)).squeeze(1)
        return -chosen * answers.weights, drift.sum(dim=1)


def _joined(parts: Sequence[_Part]) -> _Part:
    prefixes = [each.prefix for each in parts if isinstance(each.prefix, FrozenPrefix)]
    before = [each.before for each in parts if each.before is not None]
    return _Part(
        FrozenPrefix.joined(prefixes),
        LossPositions.joined(
            [each.positions for each in parts], [len(each.owners) for each in parts]
        ),
        torch.cat([each.owners for each in parts]),
        torch.cat(before),
    )


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """The loss of each request that is still being optimised.

    Attributes:
        loss: All three terms.
        answer: The first term alone.
        gradient: Of the loss, by the shift.
    """

    loss: Float[Tensor, " n"]
    answer: Float[Tensor, " n"]
    gradient: Float[Tensor, "n d"]


@dataclass(slots=True)
class _Search:
    """The requests of a batch that are still being optimised.

    Attributes:
        parts: Their rows.
        active: Their numbers in the batch.
        case_ids: Of all requests of the batch.
        sizes: See `pack_windows`.
    """

    parts: list[_Part]
    active: Tensor
    case_ids: tuple[int, ...]
    sizes: tuple[int, int]

    def keep(self, unfinished: Tensor) -> None:
        """Drop finished requests with their rows, and join parts that are small."""
        if bool(unfinished.all()):
            return
        owners = unfinished.nonzero().squeeze(1)
        kept = [(part, unfinished[part.owners].nonzero()[:, 0]) for part in self.parts]
        parts = [part.among(rows, owners) for part, rows in kept if len(rows)]
        self.active, self.parts = self.active[unfinished], self._repacked(parts)

    def _repacked(self, parts: list[_Part]) -> list[_Part]:
        widths: list[int] = []
        for part in parts:
            if isinstance(part.prefix, FullRows):
                return parts
            widths += part.prefix.widths.tolist()
        groups = pack_windows(widths, *self.sizes)
        if len(groups) >= len(parts):
            return parts
        whole, place = _joined(parts), self.active.device
        owners = torch.arange(int(whole.owners.max()) + 1, device=place)
        return [whole.among(torch.tensor(g, device=place), owners) for g in groups]

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

    def evaluate(
        self,
        model: EditableModel,
        shift: Float[Tensor, "n d"],
        scale: Float[Tensor, " n"],
        parameters: Hyperparameters,
        last: bool,
    ) -> _Evaluation:
        """Compute losses and, unless this is the last step, gradients.

        A part's pass is over, forward and back, before the next one begins, so that
        memory holds one.
        """
        weight = parameters.v_weight_decay / scale**2
        loss = weight * torch.linalg.vector_norm(shift, dim=1)
        answer = torch.zeros_like(loss)
        gradient = weight.unsqueeze(1) * normalize(shift, dim=1)
        for part in self.parts:
            at_rows = shift[part.owners].requires_grad_(not last)
            with torch.set_grad_enabled(not last):
                said, drift = part.costs(model, at_rows, parameters.v_loss_layer)
                drift = parameters.kl_factor * drift
                total = said.sum() + drift.sum()
            if not last:
                (change,) = torch.autograd.grad(total, at_rows)
                gradient.index_add_(0, part.owners, change)
            for positions, costs in (
                (part.positions.rewriting, said),
                (part.positions.essence, drift),
            ):
                loss.index_add_(0, positions.owners, costs.detach())
            answer.index_add_(0, part.positions.rewriting.owners, said.detach())
        return _Evaluation(loss, answer, gradient)


def _wide(values: Tensor) -> Tensor:
    """Values in single precision at least; at half precision, Adam would not move."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


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
