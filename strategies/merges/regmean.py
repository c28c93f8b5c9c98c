"""Solve, then fit one delta to what each party's delta does to its own inputs."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics, pool
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext


class RegmeanMerge(Merge):
    """Fit one delta to the outputs that each party's delta gives on its inputs.

    ``delta = (Σ deltaⱼ Gⱼ)(Σ Gⱼ)⁻¹`` minimises ``Σ tr((delta − deltaⱼ) Gⱼ (…)ᵀ)``. The
    gram ``Gⱼ`` of a party's inputs is that of its edits and its share of the plain text
    and the past, which each party writes against and all have in common:
    ``Gⱼ = Sⱼ + A/m`` with the prior ``A``. So ``Σ Gⱼ`` is the system of `collabedit`.
    The weight cancels, as ``W + deltaⱼ`` is fitted on the same inputs. If an editor
    works in a basis, grams are those of the inputs in that basis.

    Attributes:
        off_diagonal: Factor of the grams' entries off the diagonal, the paper's ``α``,
            below 1 against fitting too closely. 0.9 is the paper's for most models; it
            takes 0.1 for T5.
    """

    name: Literal["regmean"] = "regmean"
    off_diagonal: Annotated[float, Field(ge=0, le=1)] = 0.9
    paper: ClassVar[str] = "arXiv:2212.09849"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Add up ``deltaⱼ Gⱼ`` party by party, then solve once."""
        parts = [system.enter(each) for each in statistics]
        inner = System(system.prior)
        prior = self._damp(system.prior.matrix())
        fitted, total = None, None
        for part, delta in zip(parts, inner.solve_each(parts), strict=True):
            image = self._image(delta, part)
            fitted = image if fitted is None else fitted + image
            total = delta if total is None else total + delta
        assert fitted is not None
        assert total is not None
        fitted += total @ prior / len(parts)
        gram = self._damp(pool(parts).gram)
        pooled = LayerStatistics.of_sums(gram, fitted, sum(p.count for p in parts))
        return system.leave(solve_delta(pooled, Prior(prior)))

    def _damp(self, gram: Float[Tensor, "d_in d_in"]) -> Float[Tensor, "d_in d_in"]:
        """Scale all but the diagonal."""
        damped = self.off_diagonal * gram
        damped.diagonal().copy_(gram.diagonal())
        return damped

    def _image(
        self, delta: Float[Tensor, "d_out d_in"], part: LayerStatistics
    ) -> Float[Tensor, "d_out d_in"]:
        """Compute ``delta Sⱼ`` with the gram damped; of rows, without their gram."""
        image = (delta @ part.keys.mT) @ part.keys
        diagonal = part.keys.square().sum(dim=0)
        if part.sums is not None:
            image += delta @ part.sums.gram
            diagonal = diagonal + part.sums.gram.diagonal()
        rest = 1 - self.off_diagonal
        return self.off_diagonal * image + rest * delta * diagonal
