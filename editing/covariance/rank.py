"""The numerical rank of a mean of ``k kᵀ``, and the ridge for missing directions."""

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 0.1
"""The ridge as a share of the mean eigenvalue, ``trace / d_in``."""

_ITERATIONS = 30


def numerical_rank(
    moment: Float[Tensor, "d_in d_in"], tokens: int, *, single: bool = False
) -> int:
    """Count the eigenvalues that rounding does not explain.

    Those above ``τ = d_in · ε · λ_max`` with the ``ε`` of float64, as NumPy's
    ``matrix_rank`` has it; above ``√d_in · ε · λ_max`` with the ``ε`` of float32 for a
    moment whose products were formed in float32, for the rounding of its entries is
    independent and such a matrix of noise has a norm that grows with ``√d_in``. Never
    more than there were tokens. One factorisation shows that the rank is full, neurons
    that never fire left out; only where it is not are the eigenvalues computed.
    """
    width = len(moment)
    epsilon = torch.finfo(torch.float32 if single else torch.float64).eps
    factor = width**0.5 if single else width
    tolerance = factor * epsilon * _largest_eigenvalue(moment)
    firing = moment.diagonal() > 0
    used = int(firing.sum())
    if tokens >= used > 0:
        shifted = moment.clone() if used == width else moment[firing][:, firing]
        shifted.diagonal().sub_(tolerance)
        if int(torch.linalg.cholesky_ex(shifted).info) == 0:
            return used
        del shifted
    above = int((torch.linalg.eigvalsh(moment) > tolerance).sum())
    return min(above, tokens)


def ridge_of(moment: Float[Tensor, "d_in d_in"], rank: int) -> float:
    """Return what to add to the diagonal: 0 at full rank, else `RIDGE` of its mean.

    Directions that no token showed then count as if they were seen with a tenth of
    the mean eigenvalue, so that the prior is positive definite by itself and an edit
    cannot move them at no cost.
    """
    if rank == len(moment):
        return 0.0
    return RIDGE * float(moment.trace()) / len(moment)


def add_ridge(
    moment: Float[Tensor, "d_in d_in"], ridge: float, rank: int, tokens: int
) -> Float[Tensor, "d_in d_in"]:
    """Add a ridge to every direction, or to those alone that no token used.

    With fewer tokens than ``d_in`` the ridge is added to the whole diagonal. With as
    many or more, missing directions stay missing, such as ReLU neurons that never fire:
    ``ridge · P`` is added, where ``P`` projects on the eigenvectors below the rank, and
    other directions are unchanged. With a ridge of 0 the moment itself is returned.
    """
    if ridge == 0:
        return moment
    if tokens >= len(moment):
        return moment + ridge * _unused(moment, rank)
    raised = moment.clone()
    raised.diagonal().add_(ridge)
    return raised


def _unused(
    moment: Float[Tensor, "d_in d_in"], rank: int
) -> Float[Tensor, "d_in d_in"]:
    """Return the projector on directions without tokens; exact for silent neurons."""
    missing = len(moment) - rank
    silent = moment.diagonal() == 0
    if int(silent.sum()) == missing:
        return torch.diag(silent.to(moment.dtype))
    # From the smallest eigenvalue up.
    vectors: Tensor = torch.linalg.eigh(moment).eigenvectors[:, :missing]
    product = vectors @ vectors.mT
    # A product of many threads may differ from its mirror image in the last bit.
    return product.triu() + product.triu(1).mT


def _largest_eigenvalue(moment: Float[Tensor, "d_in d_in"]) -> float:
    """Power iteration from the diagonal, which is never orthogonal to a mean's first.

    A first eigenvector of ``Σ k kᵀ`` whose product with the diagonal vanished would
    make this too small; the largest diagonal entry is a lower bound that always holds.
    """
    vector = moment.diagonal().clone()
    largest = float(vector.max())
    for _ in range(_ITERATIONS):
        norm = float(vector.norm())
        if norm == 0:
            return largest
        vector = moment @ (vector / norm)
    return max(largest, float(vector.norm()))
