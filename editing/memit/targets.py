"""Targets: hidden states that make the model give the requested answer.

Requests are optimised together. What a step cannot change is computed once for a batch
(`editing.memit.search.prefix_cache`), so that a step runs the blocks after the last
edited one, from the subject's last token on, and the vocabulary head only where the
loss reads it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from editing.hyperparameters.config import BATCH_SIZE, Hyperparameters
from editing.memit.norm_anchor import anchored_shift, read_values
from editing.memit.search.descent import DivergedTargetError as DivergedTargetError
from editing.memit.search.descent import Search, StoppingRule, adam_step, clamp
from editing.memit.search.faster_modules import fast_gelu
from editing.memit.search.loss_positions import build_rows, pack_windows
from editing.memit.search.parts import make_part, wide
from editing.memit.search.shared_prefixes import run_parts
from editing.memit.search.streams import find_streams
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
"""The search for a request's target stops once its loss is below this."""

MIN_RELATIVE_SHIFT = 1e-3
"""A target whose ``‖δ‖/‖h‖`` is smaller has not moved: rounding alone does as much."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets ``z = h + δ`` with the diagnosis of their search; rows are requests.

    All but the flags are in single precision or, if that is finer, the model's.

    Attributes:
        hidden: ``h`` at the last edited layer, on the model before the round's edit;
            with targets of the streams, the edited module's output there.
        shift: ``δ``; exactly 0 if the request asks for nothing.
        loss: ``−log p(target_new) / |target_new|`` where the search ended, mean over
            the prompts.
        stopped: Whether it ended before its last step.
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
    (arXiv 2202.05262, equation 4; arXiv 2210.07229, §4.2, and the published code), or
    as `Hyperparameters.stop` says. `Hyperparameters.norm_anchor` then rescales what it
    found (`editing.memit.norm_anchor.anchored_shift`). A
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
        return search_targets(model, batch, ordered, parameters).targets

    for _, targets in run_batches(requests, batch_size, run):
        found.append(targets)
        if on_batch is not None:
            on_batch(sum(map(len, found)))
    return anchor(model, requests, concatenate_targets(found), parameters)


def anchor(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    parameters: Hyperparameters,
) -> Targets:
    """Bring the values of targets to the length that is set, if one is.

    A target that did not move stays: its request asks for nothing.
    """
    if parameters.norm_anchor is None:
        return targets
    values = _values_before(model, requests, targets, parameters)
    shift = anchored_shift(targets.shift, values, parameters.norm_anchor)
    still = (targets.shift == 0).all(dim=1, keepdim=True)
    return replace(targets, shift=shift.where(~still, targets.shift))


def measure_value_norms(
    model: EditableModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    parameters: Hyperparameters,
    batch_size: int = BATCH_SIZE,
) -> Float[Tensor, " n"]:
    """Compute ``‖v*‖`` of each request's target, before any rescaling.

    On the original model, `editing.memit.norm_anchor.reference_norm` of some facts is
    the ``c`` of `Hyperparameters.norm_anchor`. For arguments see `compute_targets`.
    """
    free = parameters.model_copy(update={"norm_anchor": None})
    targets = compute_targets(model, requests, templates, free, batch_size)
    values = _values_before(model, requests, targets, parameters)
    wanted = values.double() + targets.shift.double()
    norms: Tensor = torch.linalg.vector_norm(wanted, dim=1)
    return norms


def _values_before(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    parameters: Hyperparameters,
) -> Float[Tensor, "n d_model"]:
    if parameters.target_of == "streams":
        return targets.hidden
    return read_values(model, requests, parameters.layers[-1])


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, in all streams that it shifted.

    Attributes:
        start: What was shifted, one row a request; two if there are two streams.
        shift: ``δ``.
        loss: As in `Targets`.
        stopped: As in `Targets`.
        clamped: Whether the last step was shortened, for each stream.
    """

    start: Float[Tensor, "n ..."]
    shift: Float[Tensor, "n ..."]
    loss: Float[Tensor, " n"]
    stopped: Bool[Tensor, " n"]
    clamped: Bool[Tensor, "n ..."]

    @property
    def targets(self) -> Targets:
        """Return the targets of what is written: of the MLP, if there are two."""
        if self.start.dim() == 2:
            return Targets(
                self.start, self.shift, self.loss, self.stopped, self.clamped
            )
        start, shift, clamped = (
            each[:, 0] for each in (self.start, self.shift, self.clamped)
        )
        return Targets(start, shift, self.loss, self.stopped, clamped)


def search_targets(
    model: EditableModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    parameters: Hyperparameters,
) -> Found:
    """Optimise the shifts of one batch; for arguments see `compute_targets`.

    The bare template must be the first.
    """
    built = build_rows(model, requests, templates)
    sizes = CPU_PART if model.device.type == "cpu" else OTHER_PART
    groups = pack_windows(built.widths, *sizes)
    streams, layer = None, parameters.layers[-1]
    if parameters.target_of == "streams":
        # The block itself runs in every step: what enters it is not shifted.
        streams, layer = find_streams(model, parameters), layer - 1
    with fast_gelu(model):
        prefixes = run_parts(model, built, groups, layer)
        numbers = torch.tensor([index for group in groups for index in group])
        dtype = wide(prefixes[0].hidden).dtype
        parts = [
            make_part(model, built.among(group), prefix, dtype, streams)
            for group, prefix in zip(groups, prefixes, strict=True)
        ]
        del prefixes
        states = torch.cat([each.states(model) for each in parts])
        start = wide(states[torch.argsort(numbers)[:: len(templates) + 1]])
        case_ids = tuple(request.case_id for request in requests)
        active = torch.arange(len(requests), device=model.device)
        search = Search(parts, active, case_ids, sizes)
        return _descend(model, search, start, parameters)


def _descend(
    model: EditableModel, search: Search, start: Tensor, parameters: Hyperparameters
) -> Found:
    scale = torch.linalg.vector_norm(start, dim=-1)
    likelihood = torch.zeros(len(start)).to(start)
    stopped = torch.zeros_like(likelihood, dtype=torch.bool)
    shift, clamped = torch.zeros_like(start), torch.zeros_like(scale, dtype=torch.bool)
    mean, square = torch.zeros_like(shift), torch.zeros_like(shift)
    rule = StoppingRule.begin(parameters, likelihood)
    for step in range(1, parameters.v_num_grad_steps + 1):
        last, rows = step == parameters.v_num_grad_steps, search.active
        given = (shift[rows], scale[rows], rule.emphasis[rows])
        found = search.evaluate(model, *given, parameters, last)
        search.check(found.loss)
        likelihood[rows] = found.answer
        unfinished = rule.unfinished(rows, found, EARLY_STOP_LOSS)
        stopped[rows] = ~unfinished
        if last or not bool(unfinished.any()):
            break
        search.keep(unfinished)
        rows, gradient = search.active, found.gradient[unfinished]
        mean[rows] = 0.9 * mean[rows] + 0.1 * gradient
        square[rows] = 0.999 * square[rows] + 0.001 * gradient**2
        update = adam_step(mean[rows], square[rows], step, parameters.v_lr)
        largest = parameters.clamp_norm_factor * scale[rows]
        shift[rows], clamped[rows] = clamp(shift[rows] - update, largest)
    return Found(start, shift, likelihood, stopped, clamped)


def _fields_of(targets: Targets) -> list[Tensor]:
    return [getattr(targets, each.name) for each in fields(targets)]
