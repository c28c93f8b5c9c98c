"""The updates of a round without each of its parties in turn, and what each weighs."""

from collections.abc import Iterator, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from editing.algebra.influence import Influence, solve_pooled
from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics, pool
from editing.algebra.threads import threads_for
from strategies.merges.base import Merge
from strategies.merges.pooled import CollabEditMerge
from strategies.rounds.state import EditedLayer

ByParty = Mapping[int, LayerStatistics]


def without_each(
    parts: Mapping[int, ByParty], edited: Mapping[int, EditedLayer], merge: Merge
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Merge layers without each party in turn; one party's updates are in memory.

    Args:
        parts: The parties' statistics by layer, of two parties or more.
        edited: The layers.
        merge: The run's.

    Yields:
        The party that is left out, and the layers' updates by parameter name.
    """
    solved = {
        layer: _solve_without(list(by_party.values()), edited[layer], merge)
        for layer, by_party in parts.items()
    }
    for party in next(iter(parts.values())):
        yield party, {edited[layer].weight: next(solved[layer]) for layer in parts}


def _solve_without(
    parts: Sequence[LayerStatistics], edited: EditedLayer, merge: Merge
) -> Iterator[Float[Tensor, "d_out d_in"]]:
    prior = edited.memory.prior()
    with threads_for(edited.d_in):
        if isinstance(merge, CollabEditMerge):
            yield from solve_pooled(parts, prior).without_each()
            return
        for place in range(len(parts)):
            yield _merge_all(merge, [*parts[:place], *parts[place + 1 :]], prior)


def _merge_all(
    merge: Merge, parts: Sequence[LayerStatistics], prior: Prior
) -> Float[Tensor, "d_out d_in"]:
    given = [pool(parts)] if merge.needs == "sum" else parts
    return merge(given, prior)


def move_text(delta: Float[Tensor, "d_out d_in"], edited: EditedLayer) -> float:
    """Return how far an update moves plain text: ``√tr(Δ C₀ Δᵀ)``, a norm of states."""
    memory = edited.memory
    with threads_for(edited.d_in):
        moved = (delta @ memory.covariance.double() * delta).sum()
    return (memory.scale * moved).clamp(min=0).sqrt().item()


def weigh(
    parts: Mapping[int, ByParty], edited: Mapping[int, EditedLayer]
) -> dict[int, dict[int, Influence]]:
    """Weigh the parties of a pooled merge: by layer and party."""
    found = {}
    for layer, by_party in parts.items():
        with threads_for(edited[layer].d_in):
            prior = edited[layer].memory.prior()
            weights = solve_pooled(list(by_party.values()), prior).influences()
        found[layer] = dict(zip(by_party, weights, strict=True))
    return found
