"""Numbers in words."""

import pandas as pd
import pytest

from sims.studies.wording import (
    enumerate_words,
    state_change,
    state_mean,
    state_verdict,
)


def test_a_change_is_its_mean_and_each_seed() -> None:
    """With its sign."""
    change = pd.Series([10.0, -5.0], index=[0, 3])
    assert state_change(change) == "+2.5 (+10.0, -5.0 for seeds 0, 3)"
    assert state_change(change[:1]) == "+10.0 (seed 0 alone)"
    assert state_change(change * float("nan")) == "unknown"


def test_a_mean_that_nobody_measured_is_unknown() -> None:
    """And is no number."""
    assert state_mean(pd.Series([1.0, 2.0])) == "1.5"
    assert state_mean(pd.Series([float("nan")])) == "an unknown number"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "none"),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
    ],
)
def test_words_are_joined_as_in_a_sentence(words: list[str], said: str) -> None:
    """However many there are."""
    assert enumerate_words(words) == said


def test_a_verdict_states_what_did_not_hold() -> None:
    """Together with what did, or alone."""
    mixed = state_verdict("A gain", {"a": True, "b": False, "c": True})
    assert mixed == (
        "A gain was expected; this held for a and c and did not hold for b."
    )
    assert state_verdict("It", {"a": True}) == "It was expected; this held for a."
    never = state_verdict("It", {"a": False})
    assert never == "It was expected; this did not hold for a."
