"""The figures of the study: a family of editors each, and the numbers beneath."""

from collections.abc import Sequence

import pandas as pd

from editing.evaluation.capability.measure import PERPLEXITY
from sims.studies.lifelong.lines import FAMILIES, LINES, NAMES, of_family
from sims.studies.plots import Panel, draw_panels
from sims.studies.study import Figure

PANELS = (
    Panel("rewrite_acc", "All edits: rewrite accuracy, teacher-forced"),
    Panel("rewrite_generated_exact", "All edits: rewrite generated, exact"),
    Panel("neighborhood_success", "All edits: neighbourhood success"),
    Panel("held_out_acc", "Held-out facts"),
    Panel(PERPLEXITY, "Perplexity of a text", per_cent=False),
    Panel("kept", "Edits still right, as old as the first"),
)
BUDGET = Panel("budget", "LyapLock's budget in use, per cent", per_cent=False)
TABLE = (
    "rewrite_success",
    "paraphrase_success",
    "neighborhood_success",
    "rewrite_acc",
    "rewrite_generated_exact",
    "rewrite_generated_contains",
    "held_out_acc",
    PERPLEXITY,
    "forgotten",
    "age_when_lost",
)
DRAWN = ("score", "paraphrase_generated_exact", *TABLE, "kept", "age", "budget")
"""What is a number, besides seed, round and edits."""

SPREAD = "standard deviation"


def families_of(frame: pd.DataFrame) -> list[str]:
    """Return the families of which a line was run; the reference is MEMIT's."""
    there = set(frame["line"])
    run = {line.family for line in LINES if line.name in there}
    return [family for family in FAMILIES if family in run]


def draw_family(frame: pd.DataFrame, family: str, kind: str) -> Figure:
    """Draw a family's lines against the number of edits."""
    names = [name for name in of_family(family) if name in set(frame["line"])]
    own = frame[frame["line"].isin(names)]
    panels = [*PANELS, *([BUDGET] if own["budget"].notna().any() else [])]
    return Figure(
        title=f"{family}: {kind}",
        caption="Mean over seeds, each seed faintly; 0 edits is the unedited model. "
        "An edit counts as still right if it was right after its own round and is so "
        "after as many rounds as the first edits have seen. The table shows the last "
        "round. Forgotten: right after its own round, wrong after the last; its age is "
        "the number of later edits after which it was first wrong.",
        picture=draw_panels(
            own, panels, x="edits", x_label="edits", lines="line", names=names
        ),
        table=spread_table(last_round(own), names),
        numbers=own.drop(columns=["requests"]),
    )


def last_round(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows after the last round."""
    last: pd.DataFrame = frame[frame["edits"] == frame["edits"].max()]
    return last


def spread_table(frame: pd.DataFrame, names: Sequence[str] = NAMES) -> pd.DataFrame:
    """Return means over seeds, with standard deviations where there are several."""
    groups = frame.groupby("line", sort=False)
    table = groups[list(TABLE)].mean().reindex(list(names))
    if frame["seed"].nunique() < 2:
        return table
    spread = groups[list(TABLE)].std().reindex(list(names))
    wide = [
        column
        for name in TABLE
        for column in (table[name], spread[name].rename(f"{name}.{SPREAD}"))
    ]
    return pd.concat(wide, axis=1)
