"""What a search tries fits the model and the budget."""

import pytest

from editing.base.errors import InputError
from sims.search.candidates import (
    SMALLEST_BUDGET,
    read_layers,
    refined,
    single_layers,
    split_budget,
    windows,
)


@pytest.mark.parametrize("trials", [SMALLEST_BUDGET, 9, 24, 100])
def test_a_budget_is_shared_out_whole(trials: int) -> None:
    """Every stage has a trial at least."""
    budget = split_budget(trials)
    stages = (budget.singles, budget.windows, budget.weights, budget.clamps)
    assert budget.total == trials
    assert min(stages) >= 1


def test_too_small_a_budget_is_refused() -> None:
    """By the option's name."""
    with pytest.raises(InputError, match="--max-trials 7: wanted at least 8"):
        split_budget(SMALLEST_BUDGET - 1)


def test_single_layers_are_spread_over_the_depth() -> None:
    """Both ends are among them, and no layer comes twice."""
    assert single_layers(range(28), 4) == [0, 9, 18, 27]
    assert single_layers(range(2), 5) == [0, 1]
    assert single_layers(range(5), 1) == [2]


def test_windows_end_with_the_best_layer_first() -> None:
    """Within the layers that may be edited."""
    assert windows(5, range(12), 9) == [
        (3, 4, 5),
        (1, 2, 3, 4, 5),
        (4, 5),
        (4, 5, 6),
        (2, 3, 4, 5, 6),
        (5, 6),
    ]
    assert windows(0, range(1), 4) == []
    assert len(windows(5, range(12), 2)) == 2


def test_a_weight_is_refined_to_both_sides() -> None:
    """Two steps make a decade."""
    above, below = refined(100.0)
    assert above / below == pytest.approx(10)


def test_layers_are_read_as_ranges_and_lists() -> None:
    """All but the last block if none are named."""
    assert read_layers(None, 5) == [0, 1, 2, 3]
    assert read_layers("1-3, 5", 9) == [1, 2, 3, 5]


@pytest.mark.parametrize("text", ["", "a", "3-", "0-4", "-1", "2-1"])
def test_other_layers_are_refused(text: str) -> None:
    """By the option's name."""
    with pytest.raises(InputError, match=f"--layers {text}"):
        read_layers(text, 5)
