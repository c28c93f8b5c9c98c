"""Steps of a search for targets: losses, gradients, Adam and the clamp."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from editing.base.errors import InputError
from editing.hyperparameters.config import Hyperparameters
from editing.memit.search.full_rows import FullRows
from editing.memit.search.loss_positions import pack_windows
from editing.memit.search.parts import SearchPart, join_parts
from editing.models.loading import EditableModel

RELAXED = 0.1
"""Weight of an answer that is the likeliest already, with two streams."""

SETTLED_DRIFT = 0.01
"""Weighted KL divergence at which such an answer is enough."""


class DivergedTargetError(InputError, ArithmeticError):
    """The search for a target left the range of the model's precision."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The loss of each request that is still being optimised.

    Attributes:
        loss: All three terms.
        answer: The first term alone.
        drift: The KL term alone.
        gradient: Of the loss, by the shift.
        wrong: Answer's tokens, in all contexts, that another one is likelier than.
    """

    loss: Float[Tensor, " n"]
    answer: Float[Tensor, " n"]
    drift: Float[Tensor, " n"]
    gradient: Float[Tensor, "n ..."]
    wrong: Float[Tensor, " n"]


@dataclass(slots=True)
class Search:
    """The requests of a batch that are still being optimised.

    Attributes:
        parts: Their rows.
        active: Their numbers in the batch.
        case_ids: Of all requests of the batch.
        sizes: See `pack_windows`.
    """

    parts: list[SearchPart]
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

    def _repacked(self, parts: list[SearchPart]) -> list[SearchPart]:
        widths: list[int] = []
        for part in parts:
            if isinstance(part.prefix, FullRows):
                return parts
            widths += part.prefix.widths.tolist()
        groups = pack_windows(widths, *self.sizes)
        if len(groups) >= len(parts):
            return parts
        whole, place = join_parts(parts), self.active.device
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
        shift: Float[Tensor, "n ..."],
        scale: Float[Tensor, "n ..."],
        emphasis: Float[Tensor, " n"],
        parameters: Hyperparameters,
        last: bool,
    ) -> Evaluation:
        """Compute losses and, unless this is the last step, gradients.

        A part's pass is over, forward and back, before the next one begins, so that
        memory holds one.

        Args:
            model: The model.
            shift: Of each request; of each stream, if there are two.
            scale: ``‖h‖`` of what is shifted.
            emphasis: Weight of the first term.
            parameters: MEMIT's hyperparameters.
            last: Whether no step follows.
        """
        weight = parameters.v_weight_decay / scale**2
        decay = weight * torch.linalg.vector_norm(shift, dim=-1)
        loss = decay.view(len(decay), -1).sum(dim=1)
        answer, drifted, wrong = torch.zeros(3, *loss.shape).to(loss).unbind()
        gradient = weight.unsqueeze(-1) * normalize(shift, dim=-1)
        for part in self.parts:
            at_rows = shift[part.owners].requires_grad_(not last)
            with torch.set_grad_enabled(not last):
                costs = part.costs(model, at_rows, parameters.v_loss_layer)
                owners = part.positions.rewriting.owners
                said = emphasis[owners] * costs.answer
                drift = parameters.kl_factor * costs.drift
                total = said.sum() + drift.sum()
            if not last:
                (change,) = torch.autograd.grad(total, at_rows)
                gradient.index_add_(0, part.owners, change)
            loss.index_add_(0, owners, said.detach())
            loss.index_add_(0, part.positions.essence.owners, drift.detach())
            drifted.index_add_(0, part.positions.essence.owners, drift.detach())
            answer.index_add_(0, owners, costs.answer.detach())
            wrong.index_add_(0, owners, costs.wrong.to(wrong))
        return Evaluation(loss, answer, drifted, gradient, wrong)


def adam_step(mean: Tensor, square: Tensor, step: int, rate: float) -> Tensor:
    """Adam's step (arXiv 1412.6980, algorithm 1) with β = (0.9, 0.999), ε = 1e-8."""
    spread: Tensor = (square / (1 - 0.999**step)).sqrt() + 1e-8
    return rate / (1 - 0.9**step) * mean / spread


def clamp(
    shift: Float[Tensor, "n ..."], largest: Float[Tensor, "n ..."]
) -> tuple[Tensor, Tensor]:
    """Shorten rows to the largest norm; return also which rows were longer."""
    length: Tensor = torch.linalg.vector_norm(shift, dim=-1)
    return shift * (largest / length).clamp(max=1).unsqueeze(-1), length > largest


@dataclass(slots=True)
class StoppingRule:
    """When each request's search ends, and how much its answer weighs until then.

    Attributes:
        parameters: MEMIT's hyperparameters.
        right: Evaluations so far with every token of the answer the likeliest.
        emphasis: Weight of the first term of the loss.
    """

    parameters: Hyperparameters
    right: Float[Tensor, " n"]
    emphasis: Float[Tensor, " n"]

    @classmethod
    def begin(cls, parameters: Hyperparameters, like: Tensor) -> "StoppingRule":
        """Begin a search, with one entry a request."""
        return cls(parameters, torch.zeros_like(like), torch.ones_like(like))

    def unfinished(self, rows: Tensor, found: Evaluation, least: float) -> Tensor:
        """Return which of some requests go on.

        With two streams, an answer that is the likeliest weighs a tenth in the next
        step, and its search ends where the KL term is small, too (PMET's program).

        Args:
            rows: Their numbers.
            found: Their evaluation.
            least: The loss below which a search ends.
        """
        likeliest = found.wrong == 0
        self.right[rows] += likeliest
        going: Tensor = found.loss >= least
        if self.parameters.stop == "top-1":
            going &= self.right[rows] <= self.parameters.top_1_steps
        if self.parameters.target_of == "streams":
            going &= ~(likeliest & (found.drift <= SETTLED_DRIFT))
            self.emphasis[rows] = torch.where(likeliest, RELAXED, 1.0).to(found.loss)
        return going
