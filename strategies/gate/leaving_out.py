"""The updates of a round without each of its parties in turn, and what each weighs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from editing.algebra.influence import Influence, solve_pooled
from editing.algebra.statistics import LayerStatistics, pool
from editing.algebra.threads import threads_for
from strategies.merges.base import Merge
from strategies.merges.pooled import CollabEditMerge
from strategies.rounds.state import EditedLayer

ByParty = Mapping[int, LayerStatistics]


def without_each(
    parts: Mapping[int, ByParty],
    edited: Mapping[int, EditedLayer],
    merge: Merge,
    number: int = 1,
    before: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Merge layers without each party in turn; one party's updates are in memory.

    Args:
        parts: The parties' statistics by layer, of two parties or more.
        edited: The layers.
        merge: The run's.
        number: The round.
        before: All updates of earlier rounds.

    Yields:
        The party that is left out, and the layers' updates by parameter name.
    """
    solved = {
        layer: _solve_without(
            by_party,
            edited[layer],
            merge,
            number,
            (before or {}).get(edited[layer].weight),
        )
        for layer, by_party in parts.items()
    }
    for party in next(iter(parts.values())):
        yield party, {edited[layer].weight: next(solved[layer]) for layer in parts}


def _solve_without(
    by_party: ByParty,
    edited: EditedLayer,
    merge: Merge,
    number: int,
    total: Tensor | None,
) -> Iterator[Float[Tensor, "d_out d_in"]]:
    system, parts = edited.editor.system(edited.state(total)), list(by_party.values())
    pools = isinstance(merge, CollabEditMerge) and system.cross is None
    if pools and not edited.editor.post:
        with threads_for(edited.d_in):
            inner = [system.enter(part) for part in parts]
            for delta in solve_pooled(inner, system.prior).without_each():
                yield system.leave(delta)
        return
    for party in by_party:
        others = {each: part for each, part in by_party.items() if each != party}
        rest = list(others.values())
        given = [pool(rest)] if merge.needs == "sum" else rest
        yield edited.merge(merge, given, total, number, list(others))


def move_text(delta: Float[Tensor, "d_out d_in"], edited: EditedLayer) -> float:
    """Return how far an update moves plain text: ``√tr(Δ C₀ Δᵀ)``, a norm of states."""
    memory = edited.memory
    with threads_for(edited.d_in):
        moved = (delta @ memory.covariance.double() * delta).sum()
    return (memory.scale * moved).clamp(min=0).sqrt().item()


def weigh(
    parts: Mapping[int, ByParty],
    edited: Mapping[int, EditedLayer],
    before: Mapping[str, Tensor] | None = None,
) -> dict[int, dict[int, Influence]]:
    """Weigh the parties of a pooled merge: by layer and party.

    Args:
        parts: The parties' statistics by layer.
        edited: The layers.
        before: All updates of earlier rounds.
    """
    found = {}
    for layer, by_party in parts.items():
        one = edited[layer]
        with threads_for(one.d_in):
            system = one.editor.system(one.state((before or {}).get(one.weight)))
            inner = replace(system, cross=None)
            given = [inner.enter(part) for part in by_party.values()]
            weights = solve_pooled(given, system.prior).influences()
        found[layer] = dict(zip(by_party, weights, strict=True))
    return found
