"""Steps after the solve: a layer's merged update is changed before it is written.

    W ← W + step(delta, W, W₀)

Each is settings that can be called. They run at the server, after the merge, so parties
together are one machine whatever the steps are.
"""

from abc import abstractmethod
from math import ceil
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from editing.base.settings import Settings

Share = Annotated[float, Field(gt=0, le=1)]


class PostStep(Settings):
    """Change a layer's update before it is written.

    Attributes:
        name: The word that chooses the step.
        paper: Where it comes from.
        summary: What it does, in one line.
    """

    name: str
    paper: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def __call__(
        self,
        delta: Float[Tensor, "d_out d_in"],
        weight: Float[Tensor, "d_out d_in"],
        original: Float[Tensor, "d_out d_in"],
    ) -> Float[Tensor, "d_out d_in"]:
        """Return the update that is written, in float64.

        Args:
            delta: The round's update.
            weight: ``W`` as the round begins.
            original: ``W₀``, before any edit.
        """


class SphereStep(PostStep):
    """Keep an update out of the directions that the weight's rows share.

    ``Δ (I − α UUᵀ)``, where ``U`` are the leading eigenvectors of ``ŴᵀŴ`` and the rows
    of ``Ŵ`` are those of ``W₀``, of unit length.

    Attributes:
        energy: Share of the eigenvalues' sum up to which directions are kept out; the
            first that goes beyond is one of them.
        strength: ``α``, how much of these directions is taken away.
    """

    name: Literal["sphere"] = "sphere"
    energy: Annotated[float, Field(gt=0, lt=1)] = 0.5
    strength: Share = 0.5
    paper: ClassVar[str] = "arXiv:2510.01172"
    summary: ClassVar[str] = "weaken the directions that the rows of the weight share"

    def __call__(
        self,
        delta: Float[Tensor, "d_out d_in"],
        weight: Float[Tensor, "d_out d_in"],  # noqa: ARG002
        original: Float[Tensor, "d_out d_in"],
    ) -> Float[Tensor, "d_out d_in"]:
        """Project each row of the update."""
        shared = find_shared_directions(original, self.energy)
        return delta - self.strength * (delta @ shared.mT) @ shared


def find_shared_directions(
    weight: Float[Tensor, "d_out d_in"], energy: float
) -> Float[Tensor, "rank d_in"]:
    """Return the leading right singular vectors of a weight with rows of unit length.

    Args:
        weight: Rows of 0 count as they are.
        energy: Share of the squared singular values that all but the last hold.
    """
    lengths = weight.norm(dim=1, keepdim=True)
    unit = weight / torch.where(lengths > 0, lengths, 1.0)
    # The gram of the rows has the same eigenvalues as ŴᵀŴ, and is smaller.
    squares, left = (each.flip(-1) for each in torch.linalg.eigh(unit @ unit.mT))
    held = squares.cumsum(dim=0)
    count = int((held <= energy * held[-1]).sum()) + 1
    shared: Tensor = left[:, :count].mT @ unit / squares[:count, None].sqrt()
    return shared


class RectStep(PostStep):
    """Write the entries that change most, relative to the weight.

    Of ``abs(Δ / (W₀ + ε))``, the largest share is kept; all else is 0.

    Attributes:
        density: Share of the entries that is written, rounded up; entries as large as
            the smallest of them are written too.
        epsilon: ``ε``.
    """

    name: Literal["rect"] = "rect"
    density: Share = 0.4
    epsilon: PositiveFloat = 1e-8
    paper: ClassVar[str] = "arXiv:2401.04700"
    summary: ClassVar[str] = "write the entries that change most for their size"

    def __call__(
        self,
        delta: Float[Tensor, "d_out d_in"],
        weight: Float[Tensor, "d_out d_in"],  # noqa: ARG002
        original: Float[Tensor, "d_out d_in"],
    ) -> Float[Tensor, "d_out d_in"]:
        """Zero all other entries."""
        change = (delta / (original + self.epsilon)).abs()
        ordered = change.flatten().numpy().copy()
        place = len(ordered) - ceil(self.density * len(ordered))
        ordered.partition(place)
        return delta * (change >= float(ordered[place]))


class PruneStep(PostStep):
    """Hold the singular values of all updates together near the weight's largest.

    With ``s₀`` the largest singular value of ``W₀``, each ``s > s₀`` of ``W + Δ − W₀``
    becomes ``ln s − ln s₀ + s₀``. What is written leads to that total, so the update is
    not added to weights that carry it already.
    """

    name: Literal["prune"] = "prune"
    paper: ClassVar[str] = "arXiv:2405.16821"
    summary: ClassVar[str] = "hold the singular values of all updates near the weight's"

    def __call__(
        self,
        delta: Float[Tensor, "d_out d_in"],
        weight: Float[Tensor, "d_out d_in"],
        original: Float[Tensor, "d_out d_in"],
    ) -> Float[Tensor, "d_out d_in"]:
        """Reduce the total, and take away what is there already."""
        bound = torch.linalg.eigvalsh(original @ original.mT)[-1].sqrt()
        total = weight - original + delta
        squares, left = torch.linalg.eigh(total @ total.mT)
        values = squares.clamp(min=0).sqrt()
        large = values > bound
        values, left = values[large], left[:, large]
        lost = 1 - ((values / bound).log() + bound) / values
        written: Tensor = delta - (left * lost) @ (left.mT @ total)
        return written


AnyPostStep = Annotated[SphereStep | RectStep | PruneStep, Field(discriminator="name")]
"""A step of this tree, by its name."""
