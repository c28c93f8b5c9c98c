"""Laws of leaving one party out: the definition is to merge without it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, pool
from editing.editors.memit import MemitEditor
from editing.editors.system import System
from editing.post_steps.steps import RectStep
from strategies.gate.leaving_out import move_text, weigh, without_each
from strategies.merges.base import NOWHERE, Merge, MergeContext
from strategies.merges.choice import read_merge
from strategies.rounds.memory import Memory
from strategies.rounds.state import EditedLayer
from tests.laws import ALGEBRA, assert_same, draw_pairs, draw_prior

WIDTH, OUT, PARTIES = 24, 4, (5, 7, 9)


class ScaledSum(Merge):
    """A merge from outside the tree that needs the sum alone."""

    name: str = "scaled"
    paper = "none"
    needs = "sum"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,  # noqa: ARG002 - a merge need not read it
        context: MergeContext = NOWHERE,  # noqa: ARG002
    ) -> Float[Tensor, "d_out d_in"]:
        """Return a share of the cross term."""
        (total,) = statistics
        return total.cross / total.count


def draw(layer: int) -> tuple[dict[int, LayerStatistics], EditedLayer]:
    """Draw the parties' statistics of a layer."""
    parts = {
        party: LayerStatistics.of_pairs(*draw_pairs(4, 10 * layer + party, WIDTH, OUT))
        for party in PARTIES
    }
    memory = Memory(draw_prior(layer, WIDTH), 3.0, 1.0, scale=0.5)
    return parts, EditedLayer(f"weight.{layer}", OUT, WIDTH, memory)


def test_who_is_left_out_changes_nobody_elses_draws_and_no_step_after_the_merge() -> (
    None
):
    """Masks go by the party's number, and steps are taken without each party too."""
    parts, edited = draw(1)
    original = draw_pairs(OUT, 3, WIDTH)[0]
    masked = replace(edited, context=MergeContext(layer=1, seed=4))
    dare = read_merge("dare")
    alone = {
        party: masked.merge(dare, [part], None, 2, [party])
        for party, part in parts.items()
    }
    for party, updates in without_each({1: parts}, {1: masked}, dare, 2):
        others = sum(each for other, each in alone.items() if other != party)
        assert isinstance(others, Tensor)
        assert_same(updates[edited.weight], others, ALGEBRA)
    editor = MemitEditor(post=(RectStep(density=0.2),))
    finished = replace(edited, editor=editor, original=original)
    pooled = read_merge("collabedit")
    for party, updates in without_each({1: parts}, {1: finished}, pooled):
        rest = pool(part for each, part in parts.items() if each != party)
        delta = System(edited.memory.prior()).solve(rest)
        expected = RectStep(density=0.2)(delta, original.double(), original.double())
        assert_same(updates[edited.weight], expected, ALGEBRA)


@pytest.mark.parametrize("merge", ["collabedit", "simple-average", "ties", "scaled"])
def test_an_update_without_a_party_is_that_of_all_others(merge: str) -> None:
    """Of each layer, by every merge."""
    chosen = ScaledSum() if merge == "scaled" else read_merge(merge)
    drawn = {layer: draw(layer) for layer in (1, 2)}
    parts = {layer: found[0] for layer, found in drawn.items()}
    edited = {layer: found[1] for layer, found in drawn.items()}
    left_out = []
    for party, updates in without_each(parts, edited, chosen):
        left_out.append(party)
        for by_party, of_layer in drawn.values():
            others = [part for each, part in by_party.items() if each != party]
            given = [pool(others)] if chosen.needs == "sum" else others
            expected = chosen(given, System(of_layer.memory.prior()))
            assert_same(updates[of_layer.weight], expected, ALGEBRA)
    assert tuple(left_out) == PARTIES


def test_leverages_and_the_priors_share_make_up_the_width() -> None:
    """``tr(A⁻¹ prior) + Σ tr(A⁻¹ S) = d_in``."""
    parts, edited = draw(1)
    (found,) = weigh({1: parts}, {1: edited}).values()
    prior = edited.memory.prior().matrix()
    system = prior + sum(part.gram for part in parts.values())
    own = torch.linalg.solve(system, prior).trace().item()
    total = own + sum(each.leverage for each in found.values())
    assert tuple(found) == PARTIES
    assert total == pytest.approx(WIDTH)


def test_text_moves_by_the_root_mean_square_over_its_keys() -> None:
    """With ``C₀ = Σ k kᵀ / tokens``, it is that of ``‖Δk‖``."""
    keys, delta = torch.randn(50, WIDTH).double(), torch.randn(OUT, WIDTH).double()
    memory = Memory(keys.mT @ keys, 3.0, 1.0, scale=1 / 50)
    edited = EditedLayer("weight", OUT, WIDTH, memory)
    expected = (keys @ delta.mT).square().sum(dim=1).mean().sqrt().item()
    assert move_text(delta, edited) == pytest.approx(expected)
