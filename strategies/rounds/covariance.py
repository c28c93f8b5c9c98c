"""Federated covariance: one exchange that pools the parties' second moments.

Before the first round each party is asked for the sum of ``k kᵀ`` over its own texts
at the edited layers, and for the number of their tokens. The prior's covariance is
``C₀ = Σⱼ Sⱼ / Σⱼ nⱼ``, the mean over all tokens of all parties.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from jaxtyping import Float
from torch import Tensor

from editing.algebra.second_moments import MomentBounds, TextMoment
from editing.algebra.statistics import StatisticsError
from strategies.rounds.registry import PartyRegistry
from strategies.wire.messages import Job, Phase
from strategies.wire.moments import read_moments

BEFORE_FIRST_ROUND = 0
"""The round number of this exchange."""


@dataclass(frozen=True, slots=True)
class PooledMoments:
    """The pooled moments of the parties' texts.

    Attributes:
        moments: Of all texts together, by layer.
        tokens: Number of tokens of each party, in the order of the sum; a party without
            a text of its own has 0. After a secure sum there is one number for all,
            under −1.
        left_out: Parties that are not in the sum, and why; it quotes nothing private.
    """

    moments: Mapping[int, TextMoment]
    tokens: Mapping[int, int]
    left_out: tuple[str, ...]

    def covariances(self) -> dict[int, Float[Tensor, "d_in d_in"]]:
        """Compute ``C₀`` of each layer."""
        return {layer: moment.mean() for layer, moment in self.moments.items()}


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

    A party whose moment is invalid is left out before any arithmetic, and takes part in
    the rounds all the same.

    Args:
        grid: Flower's connection to the nodes.
        job: Says which layers, and whose model it is.
        widths: ``d_in`` of each of the layers.
        registry: Of this exchange alone; the rounds have their own.
        parties: Nodes to wait for.
        timeout: Seconds to wait for them, and then for their replies.
        bounds: What the mean of a party's text may be, by layer; anything if None.
    """
    registry.welcome(grid, job, parties, timeout)
    asking = registry.address(Phase.MOMENTS, job, ArrayRecord())
    replies = registry.exchange(grid, BEFORE_FIRST_ROUND, asking)
    moments, tokens = _add(replies, widths, bounds, registry)
    refusals = registry.outcomes[BEFORE_FIRST_ROUND].refusals
    left_out = tuple(f"{each.name}: {each.reason}" for each in refusals)
    registry.require_enough(BEFORE_FIRST_ROUND)
    require_text(moments, left_out)
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
            registry.refuse(BEFORE_FIRST_ROUND, node, str(error))
            continue
        counts = [moment.tokens for moment in found.values()]
        tokens[registry.parties.id_of(node)] = counts[0] if counts else 0
        for layer, moment in found.items():
            totals[layer] = totals[layer] + moment if layer in totals else moment
    return totals, tokens


def require_text(moments: Mapping[int, TextMoment], left_out: tuple[str, ...]) -> None:
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
