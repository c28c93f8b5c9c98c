"""All updates of a merge so far, and how they travel to the parties."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from flwr.app import ArrayRecord
from torch import Tensor

from editing.algebra.deltas import add_deltas
from editing.algebra.factors import Factors, factorise_delta
from strategies.wire.arrays import to_array, to_tensors, write_delta

LEFT, RIGHT = "/left", "/right"
"""Follow a parameter's name where its update travels as two factors."""

EncodingDown = Literal["whole", "factors"]
"""How updates are written on the wire."""


@dataclass(frozen=True, slots=True)
class Updates:
    """The updates of a merge so far, by parameter name.

    Under ``factors`` an update of low rank is rounded to the product of its factors,
    so that the server, its files and all parties have the same one to the last bit.

    Attributes:
        delta: In float64.
        factors: Of those that travel as two factors.
        encoding: How updates are to travel.
        dtype: Precision of the weights.
    """

    delta: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, Factors] = field(default_factory=dict)
    encoding: EncodingDown = "whole"
    dtype: torch.dtype = torch.float32

    def given(self, arrays: ArrayRecord) -> "Updates":
        """Begin with updates of earlier runs, of which no rank is known."""
        found = join_factors(to_tensors(arrays))
        return replace(
            self, delta={name: each.double() for name, each in found.items()}
        )

    def add(self, solved: Mapping[str, Tensor], rows: int) -> "Updates":
        """Add updates that were solved from a number of rows."""
        delta, factors = add_deltas(self.delta, solved), dict(self.factors)
        for name in solved:
            rank = self._rank_of(name)
            factors.pop(name, None)
            found = None if rank is None else self._factorise(delta[name], rank + rows)
            if found is not None:
                delta[name], factors[name] = found.product(), found
        return replace(self, delta=delta, factors=factors)

    def to_arrays(self) -> ArrayRecord:
        """Write them as they travel: whole in the precision of the weights, or not."""
        whole = {
            name: each for name, each in self.delta.items() if name not in self.factors
        }
        arrays = dict(write_delta(whole, self.dtype))
        for name, each in self.factors.items():
            arrays[name + LEFT] = to_array(each.left)
            arrays[name + RIGHT] = to_array(each.right)
        return ArrayRecord(arrays)

    def _rank_of(self, name: str) -> int | None:
        """Return a bound of an update's rank so far; None if there is none."""
        if name not in self.delta:
            return 0
        return self.factors[name].rank if name in self.factors else None

    def _factorise(self, delta: Tensor, rank: int) -> Factors | None:
        """Return the factors of an update if they take fewer bytes on the wire."""
        if self.encoding == "whole" or self.dtype == torch.float64:
            return None
        d_out, d_in = delta.shape
        smaller = 4 * rank * (d_out + d_in) < self.dtype.itemsize * d_out * d_in
        return factorise_delta(delta, rank) if smaller else None


def join_factors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole updates by parameter name: products of those sent as factors.

    A product is rounded to float32, as an update that travels whole is; then it may be
    added to a weight of any precision.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(LEFT):
            whole = name.removesuffix(LEFT)
            found[whole] = Factors(tensor, tensors[whole + RIGHT]).product().float()
        elif not name.endswith(RIGHT):
            found[name] = tensor
    return found
