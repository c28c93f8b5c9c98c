"""The hypernetwork: from a key and a gradient to the value that is written.

    x₀ = standardised (k, g)
    x_{b+1} = x_b + s_{b,l} ⊙ U_b relu(D_b x_b + c_b) + t_{b,l}
    (k̃, g̃) = the last x
    v = −η_l (k · k̃) g̃

with a rank of ``D`` and ``U`` far below the width, and scales ``s``, shifts ``t`` and
learning rates ``η`` of each edited layer ``l`` (MALMEN, arXiv 2311.04661). The delta is
``(Σ v kᵀ)(Σ k kᵀ + e^λ_l I)⁻¹``. Before training ``U`` is 0 and ``(k̃, g̃) = x₀``.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveInt, field_validator
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from editing.base.errors import InputError
from editing.base.settings import Settings

EPSILON = 1e-7
"""Added to standard deviations, so that an entry that never varies is 0."""

MEAN, SCALE = "mean", "scale"
"""Names of what standardises, which is not trained."""

RATES, RIDGES = "rates", "ridges"
"""Names of ``ln η`` and of ``λ``, one a layer."""

_SHARED, _OF_BLOCK = 4, 5
"""The number of tensors that all blocks share, and of those that a block has."""


class HypernetworkError(InputError):
    """A hypernetwork that cannot be read, or is not the one that is wanted."""


class HypernetworkShape(Settings):
    """The sizes of a hypernetwork.

    Attributes:
        layers: Edited blocks, in ascending order.
        d_in: Width of the keys.
        d_out: Width of the gradients.
        rank: Rank of a block.
        blocks: Number of blocks.
    """

    layers: tuple[NonNegativeInt, ...]
    d_in: PositiveInt
    d_out: PositiveInt
    rank: PositiveInt = 64
    blocks: PositiveInt = 2

    @field_validator("layers")
    @classmethod
    def check_layers(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        """Validate that there are layers, in ascending order.

        Raises:
            ValueError: Giving those that came.
        """
        if not layers or list(layers) != sorted(set(layers)):
            raise ValueError(f"wanted blocks in ascending order, got {list(layers)}")
        return layers

    @property
    def width(self) -> int:
        """The entries of a key and a gradient."""
        return self.d_in + self.d_out

    @property
    def tensor_count(self) -> int:
        """The number of tensors, without listing them."""
        return _SHARED + _OF_BLOCK * self.blocks

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor, by name."""
        count, width, rank = len(self.layers), self.width, self.rank
        found: dict[str, tuple[int, ...]] = {MEAN: (width,), SCALE: (width,)}
        found |= {RATES: (count,), RIDGES: (count,)}
        for block in range(self.blocks):
            found |= {
                f"{block}.down": (rank, width),
                f"{block}.bias": (rank,),
                f"{block}.up": (width, rank),
                f"{block}.scale": (count, width),
                f"{block}.shift": (count, width),
            }
        return found


@dataclass(frozen=True, eq=False)
class Hypernetwork:
    """A hypernetwork, trained or not.

    Attributes:
        shape: Its sizes.
        tensors: By name, as `HypernetworkShape.sizes` has them.
    """

    shape: HypernetworkShape
    tensors: Mapping[str, Tensor]

    @classmethod
    def fresh(
        cls,
        shape: HypernetworkShape,
        moments: Moments,
        generator: torch.Generator,
        rate: float = 1e-3,
        dtype: torch.dtype = torch.float32,
    ) -> "Hypernetwork":
        """Make one before training, which standardises and does nothing else.

        Args:
            shape: Its sizes.
            moments: Of the keys and gradients that it is to be trained on.
            generator: Draws ``D``.
            rate: ``η`` of every layer.
            dtype: Its precision.
        """
        made: dict[str, Tensor] = {}
        for name, size in shape.sizes().items():
            kind = name.rpartition(".")[2]
            if kind == "down":
                drawn = torch.randn(size, generator=generator, dtype=torch.float64)
                made[name] = drawn / math.sqrt(shape.width)
            else:
                one = kind == "scale" and name != SCALE
                made[name] = torch.full(size, float(one), dtype=torch.float64)
        made[RATES] += math.log(rate)
        made |= {MEAN: moments.mean, SCALE: moments.std + EPSILON}
        return cls(shape, {name: each.to(dtype) for name, each in made.items()})

    @property
    def trained(self) -> list[str]:
        """Names of the tensors that training changes, ridges aside."""
        return [n for n in self.shape.sizes() if n not in {MEAN, SCALE, RIDGES}]

    def values(
        self,
        layer: int,
        pairs: AnswerPairs,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "n d_out"]:
        """Compute ``v`` of each row of a layer, in the hypernetwork's precision.

        Args:
            layer: One of the edited layers.
            pairs: Its keys and gradients.
            tensors: In the place of its own, to take gradients by.
        """
        own, place = tensors or self.tensors, self.shape.layers.index(layer)
        rows = torch.cat([pairs.keys, pairs.gradients], dim=1).to(own[MEAN].dtype)
        state = (rows - own[MEAN]) / own[SCALE]
        for block in range(self.shape.blocks):
            inner = (state @ own[f"{block}.down"].mT + own[f"{block}.bias"]).relu()
            added = own[f"{block}.scale"][place] * (inner @ own[f"{block}.up"].mT)
            state = state + added + own[f"{block}.shift"][place]
        keys, gradients = state.split([self.shape.d_in, self.shape.d_out], dim=1)
        along = (rows[:, : self.shape.d_in] * keys).sum(dim=1, keepdim=True)
        values: Tensor = -own[RATES][place].exp() * along * gradients
        return values

    def statistics(
        self, pairs: Mapping[int, AnswerPairs]
    ) -> dict[int, LayerStatistics]:
        """Compute each layer's ``Σ k kᵀ`` and ``Σ v kᵀ``, which add up over parties."""
        with torch.no_grad():
            return {
                layer: LayerStatistics.of_pairs(own.keys, self.values(layer, own))
                for layer, own in pairs.items()
            }

    def prior(self, layer: int) -> Prior:
        """Return ``e^λ I`` of a layer."""
        eye = torch.eye(self.shape.d_in, dtype=torch.float64)
        return Prior(eye, self.prior_weight(layer))

    def prior_weight(self, layer: int) -> float:
        """Return ``e^λ`` of a layer."""
        ridge = self.tensors[RIDGES][self.shape.layers.index(layer)]
        return float(ridge.double().exp())

    def to(self, dtype: torch.dtype) -> "Hypernetwork":
        """Return it in another precision."""
        return self.with_tensors(
            {k: each.to(dtype) for k, each in self.tensors.items()}
        )

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Hypernetwork":
        """Return it with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **tensors})

    def digest(self) -> str:
        """Return a SHA-256 of all that it computes."""
        state = hashlib.sha256(self.shape.model_dump_json().encode())
        for name in sorted(self.tensors):
            each = self.tensors[name].contiguous()
            state.update(f"{name} {each.dtype}".encode())
            state.update(each.numpy().tobytes())
        return state.hexdigest()


def check_fit(
    shape: HypernetworkShape, widths: Mapping[int, tuple[int, int]], what: str
) -> None:
    """Refuse a hypernetwork that is not for these layers.

    Args:
        shape: Its sizes.
        widths: ``d_out`` and ``d_in`` of each edited layer.
        what: Names it in the error.

    Raises:
        HypernetworkError: Saying what differs.
    """
    own = (shape.d_out, shape.d_in)
    wrong = {layer: each for layer, each in widths.items() if each != own}
    if list(shape.layers) != sorted(widths) or wrong:
        raise HypernetworkError(
            f"{what}: is for layers {list(shape.layers)} with keys {shape.d_in} and "
            f"hidden states {shape.d_out} wide, and the run edits {widths}. Set "
            "`editing.layers`, or train one for this model."
        )
