"""What a party solves against by itself, under the schedule ``alone``."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from clients.requests import ClientConfig
from editing.architectures import EditableModel
from editing.covariance_cache import digest_covariance, find_covariance
from editing.embedded import resolve_model
from editing.errors import InputError
from strategies.memory import Memory
from strategies.messages import OwnPrior
from strategies.scenario import COMPUTE


class OtherCovarianceError(InputError):
    """Server and client do not hold the same covariance."""


def find_own_priors(
    model: EditableModel,
    config: ClientConfig,
    layers: tuple[int, ...],
    prior: OwnPrior,
    grams: Mapping[int, Float[Tensor, "d_in d_in"]],
) -> dict[int, Float[Tensor, "d_in d_in"]]:
    """Compute ``λ·C₀ + γ·Σ past grams`` of each layer, with a ``C₀`` from this node.

    Args:
        model: The model without any update.
        config: Names the covariance, or the text it is computed on.
        layers: The edited layers.
        prior: What the server says of it.
        grams: Of earlier rounds, by layer; none in the first.

    Raises:
        OtherCovarianceError: If the server holds another ``C₀``.
    """
    named = config.prior.covariance
    covariance = find_covariance(
        model,
        layers,
        None if named == COMPUTE else named,
        config.prior.text,
        resolve_model(config.model.path),
        threads=config.model.threads,
    )
    covariance.check(model, layers)
    if digest_covariance(covariance, layers) != prior.covariance:
        raise OtherCovarianceError(
            "This node's covariance is not the server's to the last bit, as `alone` "
            "wants it. Give every node the server's file, with `covariance-path` in "
            "the node config, or the same model and text on the same kind of machine."
        )
    memories = {
        layer: Memory.of_covariance(
            covariance.moments[layer], prior.weight, prior.memory_weight
        )
        for layer in layers
    }
    remembered = {
        layer: memory.remember(grams[layer].double()) if layer in grams else memory
        for layer, memory in memories.items()
    }
    return {layer: memory.prior() for layer, memory in remembered.items()}
