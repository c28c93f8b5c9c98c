"""Numbers of a study in words."""

from collections.abc import Mapping, Sequence

import pandas as pd


def state_change(change: "pd.Series[float]", digits: int = 1) -> str:
    """Write a difference by seed as its mean, followed by each seed's."""
    if change.isna().all():
        return "unknown"
    mean = f"{change.mean():+.{digits}f}"
    if len(change) == 1:
        return f"{mean} (seed {change.index[0]} alone)"
    each = ", ".join(f"{value:+.{digits}f}" for value in change)
    seeds = ", ".join(str(seed) for seed in change.index)
    return f"{mean} ({each} for seeds {seeds})"


def state_mean(values: "pd.Series[float]") -> str:
    """Write the mean of a metric, which a pool may not ask for."""
    return "an unknown number" if values.isna().all() else f"{values.mean():.1f}"


def enumerate_words(words: Sequence[str]) -> str:
    """Join words as a sentence does."""
    if not words:
        return "none"
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def state_verdict(expected: str, held: Mapping[str, bool]) -> str:
    """State for what an expectation held, and for what it did not."""
    yes = [name for name, true in held.items() if true]
    no = [name for name, true in held.items() if not true]
    parts = [f"held for {enumerate_words(yes)}"] if yes else []
    parts += [f"did not hold for {enumerate_words(no)}"] if no else []
    return f"{expected} was expected; this {' and '.join(parts)}."


def plain_name(text: str) -> str:
    """Write a name as part of a file's: small letters and digits, joined by ``_``."""
    letters = text.lower().replace("γ", "gamma").replace("λ", "lambda")
    return "_".join("".join(c if c.isalnum() else " " for c in letters).split())
