"""The singular values of a delta, and its best approximation of low rank."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDING = 2.0**-24
"""Half the distance from 1 to the next float32: what a delta's file rounds by."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """A delta as ``Δ = Σ_i u_i s_i v_iᵀ``, largest first, in float64.

    Attributes:
        left: The orthonormal columns ``u_i``.
        values: The singular values ``s_i``.
        right: The rows ``s_i v_iᵀ = u_iᵀ Δ``.
    """

    left: Float[Tensor, "d_out k"]
    values: Float[Tensor, " k"]
    right: Float[Tensor, "k d_in"]

    @property
    def rank(self) -> int:
        """Number of singular values that are more than the rounding of the file.

        Rounding each entry to float32 moves no singular value by more than
        ``2⁻²⁴ ‖Δ‖`` (Weyl), so those above it are the delta's own. An edit of ``n``
        requests adds at most ``n``.
        """
        return int((self.values > ROUNDING * self.values.norm()).sum())

    def energy(self, rank: int) -> float:
        """Share ``Σ_{i≤r} s_i² / Σ_i s_i²`` that `rank` of them hold; 1 of nothing."""
        total = self.values.square().sum()
        kept = self.values[:rank].square().sum()
        return float(kept / total) if total > 0 else 1.0

    def error(self, rank: int) -> float:
        """Frobenius distance of the truncation, ``(Σ_{i>r} s_i²)^½`` (Eckart–Young)."""
        return float(self.values[rank:].norm())

    def rank_for(self, energy: float) -> int:
        """Smallest rank that holds a share of the energy, at most `rank`.

        Raises:
            ValueError: If the share is not between 0 and 1.
        """
        if not 0 <= energy <= 1:
            raise ValueError(f"`energy` is a share between 0 and 1, got {energy}")
        for rank in range(self.rank):
            if self.energy(rank) >= energy:
                return rank
        return self.rank

    def factors(
        self, rank: int
    ) -> tuple[Float[Tensor, "d_out rank"], Float[Tensor, "rank d_in"]]:
        """Split the truncation in two: ``B = U √S`` and ``A = √S Vᵀ``, ``B A ≈ Δ``.

        A rank beyond the number of singular values gives all of them.
        """
        roots = self.values[:rank].sqrt()
        inverse = torch.where(roots > 0, 1 / roots, 0.0)
        return self.left[:, :rank] * roots, self.right[:rank] * inverse[:, None]


def decompose(delta: Float[Tensor, "d_out d_in"]) -> Spectrum:
    """Find the singular values and vectors of a delta, in float64.

    ``U`` holds the eigenvectors of ``Δ Δᵀ`` (of ``Δᵀ Δ`` if that is smaller), six times
    faster than a general decomposition of the shapes met here; the rest is its product
    with ``Δ`` itself, so that the parts add up to ``Δ`` to rounding and only the order
    among singular values below ``10⁻⁸ s_1`` is uncertain.
    """
    matrix = delta.double()
    if matrix.shape[0] <= matrix.shape[1]:
        left, values = _eigenvectors(matrix)
        return Spectrum(left, values, left.mT @ matrix)
    right, values = _eigenvectors(matrix.mT)
    scaled = matrix @ right
    inverse = torch.where(values > 0, 1 / values, 0.0)
    return Spectrum(scaled * inverse, values, values[:, None] * right.mT)


def _eigenvectors(
    matrix: Float[Tensor, "short long"],
) -> tuple[Float[Tensor, "short short"], Float[Tensor, " short"]]:
    _, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    # More exact than the roots of eigenvalues, and never the root of a negative one.
    values = (vectors.mT @ matrix).norm(dim=1)
    order = values.argsort(descending=True)
    return vectors[:, order], values[order]
