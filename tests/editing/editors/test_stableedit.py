"""StableEdit's settings and what it solves."""

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.stableedit import StableEditEditor
from editing.editors.system import LayerState
from editing.editors.ultraedit import UltraEditEditor
from tests.laws import assert_same, draw_pairs, draw_prior


def test_what_is_solved_is_what_ultraedit_solves() -> None:
    """The two differ in the values."""
    state, pairs = LayerState(Prior(draw_prior())), draw_pairs(9)
    statistics = LayerStatistics.of_pairs(*pairs)
    first, second = (
        editor.system(state).solve(statistics)
        for editor in (StableEditEditor(ridge=0.7), UltraEditEditor(ridge=0.7))
    )
    assert_same(first, second)


def test_gradients_are_whitened() -> None:
    """With the settings' floor."""
    rule = StableEditEditor(learning_rate=0.5, floor=1e-4).answers
    assert (rule.learning_rate, rule.floor, rule.whitens) == (0.5, 1e-4, True)
