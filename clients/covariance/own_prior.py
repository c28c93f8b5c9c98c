"""What a party solves against by itself, under the schedule ``alone``."""

from collections.abc import Mapping

from flwr.app import Message
from jaxtyping import Float
from torch import Tensor

from clients.settings import ClientConfig
from editing.base.errors import InputError
from editing.covariance.cache import digest_covariance, find_covariance
from editing.covariance.covariance import Covariance, Provenance
from editing.models.loading import EditableModel
from editing.sources.embedded import resolve_model
from strategies.rounds.memory import Memory
from strategies.scenario import COMPUTE, FEDERATED
from strategies.wire.messages import Job, OwnPrior
from strategies.wire.priors import read_grams, read_pooled_covariance


class OtherCovarianceError(InputError):
    """Server and client do not hold the same covariance."""


def own_priors(
    message: Message, model: EditableModel, config: ClientConfig, job: Job
) -> dict[int, Float[Tensor, "d_in d_in"]] | None:
    """Return the priors of a party that solves alone, made on the unedited model."""
    if job.prior is None:
        return None
    layers = job.plan.parameters.layers
    widths = {layer: model.widths(layer)[1] for layer in layers}
    pooled = read_pooled_covariance(message, widths)
    grams = read_grams(message)
    return find_own_priors(model, config, layers, job.prior, grams, pooled)


def find_own_priors(
    model: EditableModel,
    config: ClientConfig,
    layers: tuple[int, ...],
    prior: OwnPrior,
    grams: Mapping[int, Float[Tensor, "d_in d_in"]],
    pooled: Mapping[int, Float[Tensor, "d_in d_in"]] | None = None,
) -> dict[int, Float[Tensor, "d_in d_in"]]:
    """Compute ``λ·C₀ + γ·Σ past grams`` of each layer, with a ``C₀`` from this node.

    Args:
        model: The model without any update.
        config: Names the covariance, or the text it is computed on.
        layers: The edited layers.
        prior: The server's description of it.
        grams: Of earlier rounds, by layer; none in the first.
        pooled: ``C₀`` by layer, if the server sent it, being of all parties' texts.

    Raises:
        OtherCovarianceError: If the server holds another ``C₀``.
    """
    covariance = _find_covariance(model, config, layers, pooled or {})
    covariance.check(model, layers)
    if digest_covariance(covariance, layers) != prior.covariance:
        raise OtherCovarianceError(
            "This node's covariance is not the server's to the last bit, as `alone` "
            "wants it. Give every node the server's file, with `covariance-path` in "
            "the node config, or the same model and text on the same kind of machine."
        )
    memories = {
        layer: Memory(covariance.moments[layer], prior.weight, prior.memory_weight)
        for layer in layers
    }
    remembered = {
        layer: memory.remember(grams[layer].double()) if layer in grams else memory
        for layer, memory in memories.items()
    }
    return {layer: memory.prior().matrix() for layer, memory in remembered.items()}


def _find_covariance(
    model: EditableModel,
    config: ClientConfig,
    layers: tuple[int, ...],
    pooled: Mapping[int, Float[Tensor, "d_in d_in"]],
) -> Covariance:
    """Take what was sent, or what the settings name.

    Raises:
        OtherCovarianceError: If only the server can have it, and it was not sent.
    """
    if pooled:
        provenance = Provenance(model.fingerprint, FEDERATED, tokens=0)
        return Covariance(pooled, provenance)
    named = config.prior.covariance
    if named == FEDERATED:
        raise OtherCovarianceError(
            "`prior.covariance` is `federated`, and the server did not send what the "
            "parties pooled. Do server and clients have the same settings?"
        )
    return find_covariance(
        model,
        layers,
        None if named == COMPUTE else named,
        config.prior.text,
        resolve_model(config.model.path),
        threads=config.model.threads,
        tokens=config.prior.tokens,
    )
