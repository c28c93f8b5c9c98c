"""Laws of the gate's decisions, on given numbers."""

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from strategies.gate.decision import (
    GateConfig,
    Measures,
    describe_measures,
    find_cause,
    find_culprit,
    find_faults,
)

CONFIG = GateConfig(
    requests=10, max_drop=5.0, max_perplexity_ratio=2.0, max_update_ratio=3.0
)
BEFORE = Measures(90.0, 10.0, 1.0)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"held_out": 85.0}, []),
        ({"held_out": 84.9}, ["gate.max-drop"]),
        ({"held_out": math.nan}, ["gate.max-drop"]),
        ({"perplexity": 20.0}, []),
        ({"perplexity": 20.1}, ["gate.max-perplexity-ratio"]),
        ({"perplexity": math.inf}, ["gate.max-perplexity-ratio"]),
        ({"update_ratio": 3.0}, []),
        ({"update_ratio": math.nan}, ["gate.max-update-ratio"]),
        (
            {"held_out": 0.0, "perplexity": 99.0, "update_ratio": 4.0},
            ["gate.max-drop", "gate.max-perplexity-ratio", "gate.max-update-ratio"],
        ),
    ],
)
def test_each_limit_holds_up_to_itself(
    changed: dict[str, float], named: list[str]
) -> None:
    """A number beyond it, or none at all, is a fault that names its setting."""
    after = replace(BEFORE, **changed)
    faults = find_faults(BEFORE, after, CONFIG)
    assert [fault.rpartition("`")[0].rpartition("`")[2] for fault in faults] == named


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"max_drop": 5.0}, "max-drop"),
        ({"text": "embedded"}, "text"),
        ({"max_perplexity_ratio": 2.0}, "max-perplexity-ratio"),
        ({"max_update_ratio": 1.0}, "max-update-ratio"),
        ({"min_success": 0.0}, "min-success"),
    ],
)
def test_an_open_gate_has_no_limits(setting: dict[str, object], key: str) -> None:
    """Or they would be set, and nobody would ask about them."""
    with pytest.raises(ValidationError, match=rf"`gate\.{key}` needs `gate\.requests`"):
        GateConfig.model_validate(setting)
    GateConfig.model_validate({**setting, "requests": 1})


def test_without_a_text_there_is_no_perplexity() -> None:
    """Nor a limit of it."""
    silent = replace(BEFORE, perplexity=None)
    assert find_faults(silent, silent, CONFIG) == []


def test_the_party_is_named_without_which_the_update_is_best() -> None:
    """Of those without which it is within the limits; nobody if there is none."""
    bad, fair, good = (replace(BEFORE, held_out=each) for each in (70.0, 86.0, 90.0))
    assert find_culprit(BEFORE, {0: bad, 1: fair, 2: good}, CONFIG) == 2
    assert find_culprit(BEFORE, {0: bad, 1: fair}, CONFIG) == 1
    assert find_culprit(BEFORE, {0: bad, 1: bad}, CONFIG) is None
    assert find_culprit(BEFORE, {}, CONFIG) is None


def test_a_cause_is_what_at_least_halves_the_evil() -> None:
    """An evil that remains without anybody has no cause among them."""
    assert find_cause(1.0, {0: 0.9, 1: 0.5, 2: 0.6}) == 1
    assert find_cause(1.0, {0: 0.9, 1: 0.51}) is None
    assert find_cause(1.0, {}) is None


@pytest.mark.parametrize("left", [0.0, 1e-17, math.nan])
def test_where_nothing_is_left_to_mend_nobody_is_the_cause(left: float) -> None:
    """Or half of nothing would be a reason to blame the first party."""
    assert find_cause(left, {0: 0.0, 1: 0.0}) is None


def test_what_an_accepted_round_cost_is_said_in_one_line() -> None:
    """Of a text only if there is one."""
    before, after = Measures(100.0, None, 0.0), Measures(98.0, None, 0.01)
    said = "held-out facts 100.0 -> 98.0 per cent of 50, ‖Δ‖/‖W‖ 0 -> 0.01"
    assert describe_measures(before, after, 50) == said
    read = describe_measures(BEFORE, replace(after, perplexity=12.0), 50)
    assert "perplexity 10 -> 12" in read
