"""The prior's covariance: the mean of ``k kᵀ`` over plain text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from editing.base.errors import InputError
from editing.covariance.estimation import (
    BATCH_TOKENS,
    Checkpoints,
    sum_moments,
)
from editing.covariance.mapping import PublishedMeans
from editing.covariance.rank import add_ridge, numerical_rank, ridge_of
from editing.covariance.texts import Document, TextSource, text_of
from editing.models.loading import EditableModel

MEMIT_TOKENS = 44_000_000
"""Tokens that MEMIT's own covariances are averaged over."""

DEFAULT_TOKENS = 132_000
"""0.3 % of them, more than Gupta et al. found to be enough (arXiv 2506.04226)."""


class CovarianceError(InputError):
    """A covariance that cannot be read or belongs to another model."""


class NoTokenError(CovarianceError):
    """A text without a token to average over."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a covariance comes from.

    Attributes:
        fingerprint: The model's, see `EditableModel.fingerprint`; empty if unknown.
        dataset: Name of the text.
        tokens: Number of tokens averaged.
        ranks: By layer, the numerical rank before any ridge, see `numerical_rank`;
            empty if it was not computed.
        ridges: By layer, what `add_ridge` added; 0 for layers of full rank.
        digest: SHA-256 of the documents that were read; empty if unknown.
        products: The precision of ``k kᵀ``; empty if unknown.
        dtype: The precision of the model, as torch names it; empty if unknown.
    """

    fingerprint: str
    dataset: str
    tokens: int
    ranks: Mapping[int, int] = field(default_factory=dict)
    ridges: Mapping[int, float] = field(default_factory=dict)
    digest: str = ""
    products: str = ""
    dtype: str = ""

    @property
    def is_single(self) -> bool:
        """Whether products were rounded to float32; assumed not if unknown."""
        return self.products.startswith("float32")

    def describe_ridges(self) -> dict[str, object]:
        """Return ranks and ridges for a run's settings; empty without ridges."""
        added = {layer: ridge for layer, ridge in self.ridges.items() if ridge}
        if not added:
            return {}
        return {
            "ranks": {str(layer): self.ranks[layer] for layer in added},
            "ridges": {str(layer): ridge for layer, ridge in added.items()},
        }


@dataclass(frozen=True, slots=True)
class Covariance:
    """``C₀ = mean of k kᵀ`` of each layer (arXiv 2210.07229, equation 15).

    Attributes:
        moments: By layer, ``d_in × d_in`` in float64, not centred.
        provenance: The source of the moments.
    """

    moments: Mapping[int, Float[Tensor, "d_in d_in"]]
    provenance: Provenance

    def scaled(self, layer: int) -> tuple[Float[Tensor, "d_in d_in"], float]:
        """Return a layer's moment as it is kept, and the factor that makes it ``C₀``.

        A published sum stays mapped, in its own precision.
        """
        if not isinstance(self.moments, PublishedMeans):
            return self.moments[layer], 1.0
        published = self.moments.sums[layer]
        return published.total, 1 / published.tokens

    def check(self, model: EditableModel, layers: Sequence[int]) -> None:
        """Refuse a covariance of another model, width or set of layers.

        Raises:
            CovarianceError: Naming what differs.
        """
        own, estimated = self.provenance.fingerprint, self.provenance.dtype
        dtype = name_dtype(model)
        if own and estimated not in {"", dtype}:
            raise CovarianceError(
                f"`prior.covariance` was estimated in {estimated}; this run is in "
                f"{dtype}, and its keys differ. Estimate it with `--dtype {dtype}`, or "
                f"set `model.dtype` to {estimated}."
            )
        if own and own != model.fingerprint:
            whose = "another model" + ("" if estimated else ", or in another precision")
            raise CovarianceError(
                f"`prior.covariance` was computed for {whose} (fingerprint "
                f"{own[:12]}…, this model's is {model.fingerprint[:12]}…). Use "
                "`compute`, or the file of this model."
            )
        for layer in layers:
            if layer not in self.moments:
                raise CovarianceError(
                    f"`prior.covariance` has layers {sorted(self.moments)}, and layer "
                    f"{layer} is to be edited."
                )
            width, wanted = len(self.scaled(layer)[0]), model.widths(layer)[1]
            if width != wanted:
                raise CovarianceError(
                    f"`prior.covariance` of layer {layer} is {width} wide and this "
                    f"model's keys are {wanted} wide. Was it made for another model?"
                )


def compute_covariance(
    model: EditableModel,
    texts: Iterable[Document],
    layers: Sequence[int],
    dataset: str,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: Callable[[int], None] | None = None,
    limit: int | None = None,
) -> Covariance:
    """Average ``k kᵀ`` over the tokens of texts, see `estimate_covariance`.

    Args:
        model: The model whose keys are averaged.
        texts: The documents, read once.
        layers: The layers whose keys are averaged.
        dataset: The data set's name in the provenance.
        batch_tokens: Padded tokens of a batch, at most.
        on_batch: Called with the number of tokens done.
        limit: Tokens after which to stop; None reads all.
    """
    text = text_of(texts, dataset)
    return estimate_covariance(
        model, text, layers, limit, batch_tokens, on_batch=on_batch
    )


def estimate_covariance(
    model: EditableModel,
    text: TextSource,
    layers: Sequence[int],
    limit: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    checkpoints: Checkpoints | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Covariance:
    """Stream a text through the model and average ``k kᵀ`` over its tokens.

    Keys are in the model's precision; for products and sums see
    `editing.covariance.sums`.
    A moment of less than full rank is left as it is; see `with_ridge`.

    Args:
        model: The model whose keys are averaged.
        text: What is read, once.
        layers: The layers whose keys are averaged, all in one pass.
        limit: Tokens after which to stop; None reads all.
        batch_tokens: Padded tokens of a batch, at most.
        checkpoints: Where the state is written, to resume after a stop.
        on_batch: Called with the number of tokens done.

    Raises:
        NoTokenError: If the text holds no token.
    """
    summed = sum_moments(
        model, text, layers, limit, batch_tokens, checkpoints, on_batch
    )
    if summed.sums.tokens == 0:
        raise NoTokenError(
            f"The text {text.name} for the covariance holds no token. Name a text file "
            "with `prior.text`."
        )
    provenance = Provenance(
        model.fingerprint,
        text.name,
        summed.sums.tokens,
        digest=summed.digest,
        products=summed.products,
        dtype=name_dtype(model),
    )
    return Covariance(summed.sums.means(), provenance)


def name_dtype(model: EditableModel) -> str:
    """Return a model's precision, as `model.dtype` and ``--dtype`` name it."""
    return str(model.dtype).removeprefix("torch.")


def default_tokens(model: EditableModel, layers: Sequence[int]) -> int:
    """Return `DEFAULT_TOKENS`, or twice the widest keys where that is more."""
    return max(DEFAULT_TOKENS, *(2 * model.widths(layer)[1] for layer in layers))


def with_ridge(covariance: Covariance) -> Covariance:
    """Find the rank of each moment, and add a ridge where it is not full.

    Moments of full rank stay as they are, to the last bit. With at least as many
    tokens as keys are wide, only directions that no token used change (`add_ridge`).
    The provenance names ranks and ridges.
    """
    made = covariance.provenance
    ranks = {
        layer: numerical_rank(moment, made.tokens, single=made.is_single)
        for layer, moment in covariance.moments.items()
    }
    ridges = {
        layer: ridge_of(moment, ranks[layer])
        for layer, moment in covariance.moments.items()
    }
    raised = {
        layer: add_ridge(moment, ridges[layer], ranks[layer], made.tokens)
        for layer, moment in covariance.moments.items()
    }
    return Covariance(raised, replace(made, ranks=ranks, ridges=ridges))
