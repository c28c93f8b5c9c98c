"""Federated covariance: one exchange that pools the parties' second moments.

Before the first round each party is asked for the sum of ``k kᵀ`` over its own texts
at the edited layers, and for the number of their tokens. The prior's covariance is
``C₀ = Σⱼ Sⱼ / Σⱼ nⱼ``, the mean over all tokens of all parties.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from jaxtyping import Float
from torch import Tensor

from editing.algebra.second_moments import (
    MomentBounds,
    TextMoment,
    read_moment,
    write_moment,
)
from editing.algebra.statistics import StatisticsError
from strategies.rounds.registry import PartyRegistry
from strategies.wire.arrays import to_tensors
from strategies.wire.messages import Job, Phase

BEFORE = 0
"""The round that the exchange belongs to: it is over before the first."""


@dataclass(frozen=True, slots=True)
class PooledMoments:
    """What the parties' texts came to.

    Attributes:
        moments: Of all texts together, by layer.
        tokens: Number of tokens of each party, in the order of the sum; a party without
            a text of its own has 0.
        left_out: Who was asked and is not in the sum, and why; nothing private.
    """

    moments: Mapping[int, TextMoment]
    tokens: Mapping[int, int]
    left_out: tuple[str, ...]

    def covariances(self) -> dict[int, Float[Tensor, "d_in d_in"]]:
        """Compute ``C₀`` of each layer."""
        return {layer: moment.mean() for layer, moment in self.moments.items()}


def write_moments(moments: Mapping[int, TextMoment]) -> RecordDict:
    """Pack a party's moments of the layers asked for; of no text, nothing but a 0."""
    arrays = {
        f"{layer}.{name}": Array(tensor.numpy())
        for layer, moment in moments.items()
        for name, tensor in write_moment(moment).items()
    }
    tokens = max((moment.tokens for moment in moments.values()), default=0)
    single = any(moment.single for moment in moments.values())
    facts = ConfigRecord({"tokens": tokens, "single": single})
    return RecordDict({"moments": ArrayRecord(arrays), "facts": facts})


def read_moments(
    content: RecordDict,
    widths: Mapping[int, int],
    bounds: Mapping[int, MomentBounds] | None = None,
) -> dict[int, TextMoment]:
    """Unpack a party's moments; `write_moments` packs them. Of no text there are none.

    Args:
        content: What the party sent.
        widths: ``d_in`` of each layer that it was asked for.
        bounds: What their means may be, by layer; anything if None.

    Raises:
        StatisticsError: If they are not of this protocol, of other layers, or such that
            no text can have them.
    """
    try:
        tensors = to_tensors(content.array_records["moments"])
        facts = content.config_records["facts"]
        tokens, single = facts["tokens"], facts["single"] is True
    except Exception as error:  # whatever a party's bytes make numpy raise
        raise StatisticsError(
            "Second moments were asked for, and the reply does not hold them "
            f"({type(error).__name__})."
        ) from None
    if not isinstance(tokens, int) or isinstance(tokens, bool):
        raise StatisticsError("The number of tokens is no whole number.")
    if tokens == 0 and not tensors:
        return {}
    _check_names(tensors, widths)
    return {
        layer: read_moment(
            _of_layer(tensors, layer),
            tokens,
            width,
            single=single,
            bounds=(bounds or {}).get(layer),
        )
        for layer, width in widths.items()
    }


def pool_moments(
    grid: Grid,
    job: Job,
    widths: Mapping[int, int],
    registry: PartyRegistry,
    *,
    parties: int,
    timeout: float,
    bounds: Mapping[int, MomentBounds] | None = None,
) -> PooledMoments:
    """Ask all parties, and add up what they send, in the order of the parties.

    A party whose moment cannot be right is left out before any arithmetic, and takes
    part in the rounds all the same.

    Args:
        grid: Flower's way to the nodes.
        job: Says which layers, and whose model it is.
        widths: ``d_in`` of each of the layers.
        registry: Of this exchange alone; the rounds have their own.
        parties: Nodes to wait for.
        timeout: Seconds to wait for them, and then for their replies.
        bounds: What the mean of a party's text may be, by layer; anything if None.
    """
    registry.welcome(grid, job, parties, timeout)
    asking = registry.address(Phase.MOMENTS, job, ArrayRecord())
    replies = registry.exchange(grid, BEFORE, asking)
    moments, tokens = _add(replies, widths, bounds, registry)
    left_out = _left_out(registry)
    registry.require_enough(BEFORE)
    _require_text(moments, left_out)
    return PooledMoments(moments, tokens, left_out)


def _add(
    replies: Iterable[Message],
    widths: Mapping[int, int],
    bounds: Mapping[int, MomentBounds] | None,
    registry: PartyRegistry,
) -> tuple[dict[int, TextMoment], dict[int, int]]:
    """Sum the replies in their order, one total a layer at a time."""
    totals: dict[int, TextMoment] = {}
    tokens: dict[int, int] = {}
    for reply in replies:
        node = reply.metadata.src_node_id
        try:
            found = read_moments(reply.content, widths, bounds)
        except StatisticsError as error:
            registry.refuse(BEFORE, node, str(error))
            continue
        counts = [moment.tokens for moment in found.values()]
        tokens[registry.seats[node]] = counts[0] if counts else 0
        for layer, moment in found.items():
            totals[layer] = totals[layer] + moment if layer in totals else moment
    return totals, tokens


def _left_out(registry: PartyRegistry) -> tuple[str, ...]:
    """Name who is missing, a party by its number where it has one."""
    return tuple(
        f"party {place}: {each.reason}"
        if (place := registry.places.get(each.node, -1)) >= 0
        else f"node {each.node}: {each.reason}"
        for each in registry.outcomes[BEFORE].refusals
    )


def _require_text(moments: Mapping[int, TextMoment], left_out: tuple[str, ...]) -> None:
    """Stop if there is nothing to average.

    Raises:
        AggregationError: If no party sent a moment.
    """
    if not moments:
        raise AggregationError(
            "No party added a text of its own to the covariance. Give the nodes "
            "`text-path` in their node config, or set `prior.covariance` to `compute`. "
            f"Left out: {'; '.join(left_out) or 'nobody'}."
        )


def _check_names(tensors: Mapping[str, Tensor], widths: Mapping[int, int]) -> None:
    """Refuse what is not real numbers of the layers asked for.

    Raises:
        StatisticsError: Naming the layers.
    """
    layers = {name.split(".", 1)[0] for name in tensors}
    wanted = {str(layer) for layer in widths}
    if layers != wanted:
        raise StatisticsError(
            f"Second moments of layers {sorted(wanted)} were asked for, and the reply "
            f"holds others or not all."
        )
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise StatisticsError("Second moments are no real numbers.")


def _of_layer(tensors: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    prefix = f"{layer}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
