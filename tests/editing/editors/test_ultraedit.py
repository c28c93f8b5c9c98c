"""UltraEdit's settings and what it solves."""

import torch

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.system import LayerState
from editing.editors.ultraedit import UltraEditEditor
from tests.laws import D_IN, assert_same, draw_pairs, draw_prior


def test_the_delta_is_a_ridge_regression_of_values_on_keys() -> None:
    """Whatever plain text and earlier rounds hold."""
    keys, values = draw_pairs(9)
    state = LayerState(Prior(draw_prior(), 3.0, draw_prior(2), 1.0))
    system = UltraEditEditor(ridge=0.7).system(state)
    found = system.solve(LayerStatistics.of_pairs(keys, values))
    ridge = 0.7 * torch.eye(D_IN, dtype=torch.float64)
    assert_same(found, values.mT @ keys @ torch.linalg.inv(keys.mT @ keys + ridge))


def test_gradients_are_standardised_entry_by_entry() -> None:
    """With the settings' learning rate."""
    rule = UltraEditEditor(learning_rate=0.5, ridge=2.0).answers
    assert (rule.learning_rate, rule.ridge, rule.whitens) == (0.5, 2.0, False)
