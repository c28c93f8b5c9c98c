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
    weighs_text: ClassVar[bool] = False

    @classmethod
    def most_kept(cls, d_out: int, d_in: int) -> int:  # noqa: ARG003
        """Return the numbers of a basis of all directions, which ``U`` is less than."""
        return d_in * d_in

    def begin(self, state: LayerState) -> dict[str, Tensor]:
        """Compute ``U``; it depends on the plain text alone."""
        return {BASIS: find_free_of_text(state.prior.text(), self.threshold)}

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
        InputError: If there are none.
    """
    values, vectors = torch.linalg.eigh(moment.double())
    rank = int((values < threshold).sum())
    if rank == 0:
        raise InputError(
            f"`editor.threshold`: none of the {len(values)} eigenvalues, between "
            f"{values[0]:.3g} and {values[-1]:.3g}, is below {threshold:g}, so no "
            "direction is free for edits; raise the threshold"
        )
    free: Tensor = vectors[:, :rank].contiguous()
    return free


def find_free_of_text(
    text: Float[Tensor, "d_in d_in"], threshold: float
) -> Float[Tensor, "d_in rank"]:
    """Find the null space of plain text.

    Raises:
        InputError: If it is nothing, or all: then the text holds nothing in place.
    """
    basis = find_null_space(text, threshold)
    if basis.shape[1] == len(text):
        raise InputError(
            f"`editor.threshold`: each of the {len(text)} eigenvalues of the "
            f"covariance is below {threshold:g}, so plain text would hold nothing in "
            "place; lower the threshold"
        )
    return basis
