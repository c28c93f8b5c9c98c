"""The finding of the study, in numbers of its run."""

import pandas as pd

from editing.evaluation.capability.measure import PERPLEXITY
from sims.studies.lifelong.lines import MEMORIES, NAMES
from sims.studies.lifelong.pages import last_round
from sims.studies.wording import enumerate_words

COLLAPSED = 50.0
"""Per cent of edits, neighbours or held-out facts below which a line has failed."""

NAIVE, ALIGNED = "AlphaEdit, naive", "AlphaEdit, aligned"
FAILURES = {
    "rewrite_acc": "edits",
    "neighborhood_success": "neighbours",
    "held_out_acc": "held-out facts",
}


def state_kind(frame: pd.DataFrame, kind: str) -> str:
    """State what is left after the last round, of one kind of requests."""
    last = last_round(frame)
    head = f"After {last['edits'].iloc[0]} {kind}, in {last['round'].iloc[0]} rounds,"
    parts = [
        f"{head} {state_edits(last)}",
        state_model(frame, last),
        state_forgetting(last),
        state_memories(last),
        state_naive(last),
        state_budget(frame),
        state_failed(last),
    ]
    return " ".join(filter(None, parts))


def state_edits(last: pd.DataFrame) -> str:
    """State how many edits are right, teacher-forced and generated."""
    parts = [
        f"{name} {spread(of(last, name, 'rewrite_acc'))} and "
        f"{spread(of(last, name, 'rewrite_generated_exact'))}"
        for name in names_of(last)
    ]
    return (
        "the per cent of all edits that are right teacher-forced and generated is "
        f"{'; '.join(parts)}."
    )


def state_model(frame: pd.DataFrame, last: pd.DataFrame) -> str:
    """State what edits cost the rest of the model: the range over the editors."""
    before = frame[frame["round"] == 0]
    parts = []
    for metric, word in (
        ("neighborhood_success", "per cent of neighbours that keep their object"),
        ("held_out_acc", "per cent of held-out facts still known"),
        (PERPLEXITY, "the perplexity of the text"),
    ):
        means = last.groupby("line", sort=False)[metric].mean().dropna()
        if means.empty:
            continue
        low, high = str(means.idxmin()), str(means.idxmax())
        known = before[metric] if metric in before else pd.Series(dtype=float)
        unedited = f" ({known.mean():.1f} unedited)" if known.notna().any() else ""
        parts.append(
            f"{word} {spread(of(last, low, metric))} ({low}) and "
            f"{spread(of(last, high, metric))} ({high}){unedited}"
        )
    return f"The lowest and the highest by editor: {'; '.join(parts)}." if parts else ""


def state_forgetting(last: pd.DataFrame) -> str:
    """State which share of written edits is lost, and at which age."""
    parts = [
        f"{name} {spread(lost)} per cent"
        + (f", {spread(ages)} edits later" if ages.notna().any() else "")
        for name in names_of(last)
        for lost, ages in [
            (of(last, name, "forgotten"), of(last, name, "age_when_lost"))
        ]
        if lost.mean() > 0
    ]
    return f"Forgotten is what was right once: {'; '.join(parts) or 'nothing'}."


def state_memories(last: pd.DataFrame) -> str:
    """State what memory weights do to MEMIT."""
    if not set(MEMORIES.values()) <= set(last["line"]):
        return ""
    parts = [
        f"{spread(of(last, name, 'score'))} with {weight}"
        for weight, name in MEMORIES.items()
    ]
    return f"MEMIT scores {enumerate_words(parts)}."


def state_naive(last: pd.DataFrame) -> str:
    """State what reading AlphaEdit's deltas back does."""
    if not {NAIVE, ALIGNED} <= set(last["line"]):
        return ""
    gap = of(last, NAIVE, "score") - of(last, ALIGNED, "score")
    return (
        f"AlphaEdit scores {spread(of(last, ALIGNED, 'score'))} aligned; naive, its "
        "deltas read back as if MEMIT had solved them, "
        f"{spread(gap, signed=True)} points."
    )


def state_budget(frame: pd.DataFrame) -> str:
    """State how much of LyapLock's budget is in use."""
    budget = frame[frame["budget"].notna()].groupby("round")["budget"].mean()
    if budget.empty:
        return ""
    return (
        f"LyapLock has {budget.iloc[-1]:.1f} per cent of its budget in use after the "
        f"last round, {budget.max():.1f} at most."
    )


def state_failed(last: pd.DataFrame) -> str:
    """Name the lines of which less than half is left, and what of them."""
    means = last.groupby("line", sort=False)[[*FAILURES]].mean()
    failed = []
    for name, row in means.iterrows():
        lost = [word for metric, word in FAILURES.items() if row[metric] < COLLAPSED]
        failed += [f"{name} ({enumerate_words(lost)})"] if lost else []
    verdict = enumerate_words(failed) if failed else "no editor"
    return f"Less than half is left by {verdict}."


def names_of(frame: pd.DataFrame) -> list[str]:
    """Return the lines that were run, in the study's order."""
    there = set(frame["line"])
    return [name for name in NAMES if name in there]


def of(frame: pd.DataFrame, line: str, metric: str) -> "pd.Series[float]":
    """A metric of each seed under one line."""
    return frame[frame["line"] == line].groupby("seed")[metric].mean()


def spread(values: "pd.Series[float]", *, signed: bool = False) -> str:
    """Write a mean over seeds, and the standard deviation where there are several."""
    known = values.dropna()
    if known.empty:
        return "an unknown number"
    mean = format(known.mean(), "+.1f" if signed else ".1f")
    return f"{mean} ± {known.std():.1f}" if len(known) > 1 else mean
