"""Federated covariance under masks: the server learns the pooled moments alone."""

from collections.abc import Mapping

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from editing.algebra.second_moments import (
    SINGLE_ROUNDING,
    MomentBounds,
    TextMoment,
    check_mean,
)
from editing.algebra.statistics import ROUNDING, StatisticsError, check_semidefinite
from strategies.rounds.covariance import (
    BEFORE_FIRST_ROUND,
    PooledMoments,
    require_text,
)
from strategies.rounds.registry import PartyRegistry
from strategies.secure.vectors import TOKENS, unpack_moments
from strategies.summing.pooled import ImpossibleSumError
from strategies.summing.sessions import SecureSessions
from strategies.wire.messages import Job, Phase

MOMENTS = "moments"
"""The one sum of this exchange."""

TOGETHER = -1
"""The number of no party, under which the tokens of all are counted."""


def pool_masked_moments(
    grid: Grid,
    job: Job,
    widths: Mapping[int, int],
    registry: PartyRegistry,
    *,
    parties: int,
    timeout: float,
    bounds: Mapping[int, MomentBounds] | None = None,
) -> PooledMoments:
    """Ask all parties for their moments under masks, and unmask the sum.

    See `strategies.rounds.covariance.pool_moments` for the arguments.

    Raises:
        ImpossibleSumError: If no texts can have such a sum.
    """
    registry.welcome(grid, job, parties, timeout)
    sessions = SecureSessions(registry)
    sessions.begin(grid, job, (MOMENTS,))
    messages = registry.address(Phase.MOMENTS, job, ArrayRecord())
    lengths = {
        f"{layer}.moment": each * (each + 1) // 2 for layer, each in widths.items()
    }
    request = sessions.ask(MOMENTS)
    opened = sessions.collect(grid, messages, request, {TOKENS: 2, **lengths})
    refusals = registry.outcomes[BEFORE_FIRST_ROUND].refusals
    left_out = tuple(f"{each.name}: {each.reason}" for each in refusals)
    try:
        moments = unpack_moments(opened.vectors, widths)
        for layer, moment in moments.items():
            _check(moment, (bounds or {}).get(layer))
    except StatisticsError as error:
        raise ImpossibleSumError(BEFORE_FIRST_ROUND, str(error)) from None
    require_text(moments, left_out)
    tokens = next(moment.tokens for moment in moments.values())
    return PooledMoments(moments, {TOGETHER: tokens}, left_out)


def _check(moment: TextMoment, bounds: MomentBounds | None) -> None:
    """Validate a pooled moment; what no texts can have is a `StatisticsError`."""
    rounding = SINGLE_ROUNDING if moment.single else ROUNDING
    check_semidefinite(moment.total, rounding)
    check_mean(moment, bounds or MomentBounds())
