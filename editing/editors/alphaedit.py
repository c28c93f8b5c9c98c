"""AlphaEdit: write only where plain text has next to nothing."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from editing.algebra.solving import Prior
from editing.base.errors import InputError
from editing.editors.base import Editor
from editing.editors.system import LayerState, System

BASIS = "basis"
"""The name under which an editor keeps ``U``."""


class AlphaEditEditor(Editor):
    """Solve ``delta = B P ((S + γM) P + βI)⁻¹`` with ``P = UUᵀ``.

    ``U`` are the eigenvectors of ``C₀`` with eigenvalues below the threshold. In this
    basis the system is symmetric, ``delta = B U (Uᵀ(S + γM)U + βI)⁻¹ Uᵀ``. The prior
    weight ``λ`` is not read.

    Attributes:
        threshold: Eigenvalues of ``C₀``, the mean over tokens, below which a direction
            counts as free.
        ridge: ``β``, the program's ``L2``.
    """

    name: Literal["alphaedit"] = "alphaedit"
    threshold: PositiveFloat = 2e-2
    ridge: PositiveFloat = 10.0
    paper: ClassVar[str] = "arXiv:2410.02355"
    summary: ClassVar[str] = "write only in directions that plain text does not use"

    def begin(self, state: LayerState) -> dict[str, Tensor]:
        """Compute ``U``; it depends on the plain text alone."""
        return {BASIS: find_null_space(state.prior.text(), self.threshold)}

    def system(self, state: LayerState) -> System:
        """Lay out the system in the basis."""
        basis, past = state.kept[BASIS], state.prior.past()
        ridge = self.ridge * torch.eye(basis.shape[1], dtype=basis.dtype)
        inner = None if past is None else basis.mT @ past @ basis
        return System(Prior(ridge, 1.0, inner, 1.0), basis)


def find_null_space(
    moment: Float[Tensor, "d_in d_in"], threshold: float
) -> Float[Tensor, "d_in rank"]:
    """Return the eigenvectors whose eigenvalues are below a threshold, in float64.

    Raises:
        InputError: If there are none, or nothing else.
    """
    values, vectors = torch.linalg.eigh(moment.double())
    rank = int((values < threshold).sum())
    if rank in (0, len(values)):
        side = "none" if rank == 0 else "each"
        raise InputError(
            f"`editor.threshold`: {side} of the {len(values)} eigenvalues of the "
            f"covariance is below {threshold:g}; they are between {values[0]:.3g} and "
            f"{values[-1]:.3g}. Choose a threshold between, so that the largest few "
            "hundredths of them are above it."
        )
    free: Tensor = vectors[:, :rank].contiguous()
    return free
