"""Without a party, the update is the one that its absence would have given."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, Sums
from server.kept_statistics import KeptRound
from sims.results.replay import Replay, leave_out, replay, shifted
from strategies.merges.base import Merge
from strategies.methods import read_method
from strategies.rounds.memory import Memory
from strategies.rounds.state import EditedLayer
from tests.laws import D_IN, D_OUT, assert_same, draw_pairs, draw_prior

LAYERS, EXACT = (0, 3), 1e-10
Pairs = tuple[Tensor, Tensor]
Rounds = Sequence[Mapping[int, Mapping[int, Pairs]]]
"""By round, layer and party: keys, and what the unedited weight lacks of targets."""


def start(weight: float) -> Replay:
    """Two layers before their first round."""
    layers = {
        layer: EditedLayer(
            f"w{layer}", D_OUT, D_IN, Memory(draw_prior(layer), 2.0, weight)
        )
        for layer in LAYERS
    }
    return Replay(layers)


def draw(sizes: Sequence[Sequence[int]], seed: int) -> Rounds:
    """Draw rounds: edits of each party by round."""
    return [
        {
            layer: {
                party: draw_pairs(edits, 1000 * seed + 100 * turn + 10 * layer + party)
                for party, edits in enumerate(parties)
            }
            for layer in LAYERS
        }
        for turn, parties in enumerate(sizes)
    ]


def run(
    rounds: Rounds, begin: Replay, merge: Merge, without: int | None = None
) -> tuple[list[KeptRound], Mapping[str, Tensor]]:
    """Run the rounds as a server does: residuals on the weights as they are by then."""
    kept, state = [], begin
    for each in rounds:
        solved: dict[int, dict[int, LayerStatistics]] = {}
        for layer, parties in each.items():
            name = begin.layers[layer].weight
            update = state.updates.delta.get(name, torch.zeros(D_OUT, D_IN).double())
            solved[layer] = {
                party: LayerStatistics.of_pairs(keys, lacks - keys @ update.mT)
                for party, (keys, lacks) in parties.items()
                if party != without
            }
        kept.append(KeptRound(solved))
        state = state.round(solved, {}, merge, 1)
    return kept, state.updates.delta


@pytest.mark.parametrize("weight", [0.0, 1.0, 7.0])
@pytest.mark.parametrize(
    "name", ["collabedit", "simple-average", "task-arithmetic", "ties"]
)
def test_a_removed_party_leaves_what_a_run_without_it_solves(
    name: str, weight: float
) -> None:
    """For given keys and targets, over rounds and layers, whatever the merge."""
    rounds, begin = draw([(2, 1, 3), (1, 2, 2), (3, 1, 1)], 0), start(weight)
    merge = read_method(name).merge
    kept, delta = run(rounds, begin, merge)
    whole, rest = replay(kept, leave_out(kept, {1}), begin, merge)
    _, wanted = run(rounds, begin, merge, without=1)
    for key in wanted:
        assert_same(whole.updates.delta[key], delta[key], EXACT)
        assert_same(rest.updates.delta[key], wanted[key], EXACT)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 50))
def test_with_full_memory_it_is_one_solve_of_all_sums(
    rounds: int, parties: int, seed: int
) -> None:
    """``(Σ B̃)(λ C₀ + Σ S)⁻¹`` over the rounds and the parties that stay."""
    drawn, begin = draw([(2,) * (parties + 1)] * rounds, seed), start(1.0)
    merge = read_method("collabedit").merge
    kept, _ = run(drawn, begin, merge)
    _, rest = replay(kept, leave_out(kept, {0}), begin, merge)
    for layer in LAYERS:
        pairs = [p for each in drawn for m, p in each[layer].items() if m != 0]
        gram = sum(keys.mT @ keys for keys, _ in pairs)
        cross = sum(lacks.mT @ keys for keys, lacks in pairs)
        prior = 2.0 * draw_prior(layer)
        wanted = torch.linalg.solve(prior + gram, cross, left=False)
        assert_same(rest.updates.delta[f"w{layer}"], wanted, EXACT)


def test_a_party_that_was_there_alone_leaves_nothing() -> None:
    """Nor does a round that had nobody else."""
    rounds, begin = draw([(2,), (2, 1)], 3), start(1.0)
    merge = read_method("collabedit").merge
    kept, _ = run(rounds, begin, merge)
    _, nothing = replay(kept, leave_out(kept, {0, 1}), begin, merge)
    assert not nothing.updates.delta
    _, rest = replay(kept, leave_out(kept, {0}), begin, merge)
    _, wanted = run(rounds[1:], begin, merge, without=0)
    for key in wanted:
        assert_same(rest.updates.delta[key], wanted[key], EXACT)


def test_sums_shift_as_their_rows_do() -> None:
    """A party may have sent either."""
    keys, residuals = draw_pairs(4)
    gap, _ = draw_pairs(D_OUT, seed=9)
    rows = LayerStatistics.of_pairs(keys, residuals)
    sums = LayerStatistics.of_sums(rows.gram, rows.cross, 4)
    both = LayerStatistics(keys, residuals, 8, Sums(rows.gram, rows.cross))
    wanted = rows.cross + gap @ rows.gram
    assert_same(shifted(rows, gap).cross, wanted, EXACT)
    assert_same(shifted(sums, gap).cross, wanted, EXACT)
    assert_same(shifted(both, gap).cross, 2 * wanted, EXACT)
    assert shifted(rows, None) is rows
