"""The five types of experiment on conflicts, each meaning what its name says."""

from collections.abc import Iterator

import pandas as pd

from sims.studies.bars import draw_groups
from sims.studies.conflict.pairs import NEXT, ORDERS, SAME, Contest, arrange
from sims.studies.plots import Panel, mean_table
from sims.studies.study import Figure, Party, Round, Trial, TrialResult
from sims.studies.wording import state_verdict

PART = "types"
ALONE = "alone"
FORGETFUL = "next round, γ = 0"
"""The next round, where the prior does not weigh the first one's keys."""

A, B, BOTH, NOTHING = "A", "B", "A and B", "nothing"
TYPES = {
    "whether-conflict": (A, "B"),
    "performance-a": (A, "A"),
    "single-b": (B, "B"),
    "performance-b": (BOTH, "A"),
    "performance-a+b": (BOTH, "B"),
    "unedited": (NOTHING, "B"),
}
"""For each type what is edited, and whose objects the model is evaluated by."""

METRICS = (
    Panel("rewrite_success", "Rewrite success (ES)"),
    Panel("rewrite_acc", "Rewrite accuracy"),
    Panel("paraphrase_success", "Paraphrase success (PS)"),
    Panel("neighborhood_success", "Neighbourhood success (NS)"),
    Panel("score", "Score"),
)
COLUMNS = tuple(panel.column for panel in METRICS)
DESTROYED, NEITHER = 0.5, 50.0


def make_types(contest: Contest) -> list[Trial]:
    """A alone, B alone, and both in every order; both sides are evaluated each time."""
    nobody: Party = ()
    rest = [nobody] * (len(contest.others) - 2)
    a, b = (contest.a, nobody, *rest), (nobody, contest.b, *rest)
    made: dict[tuple[str, str], tuple[Round, ...]] = {
        (A, ALONE): (a,),
        (B, ALONE): (b,),
        **{(BOTH, order): arrange(a, b, order) for order in ORDERS},
        (BOTH, FORGETFUL): arrange(a, b, NEXT),
    }
    return [
        Trial(
            name=f"types_{place}_{edited}".replace(" ", "_"),
            rounds=rounds,
            settings=(
                "parties.conflicts=none",
                *(("prior.memory-weight=0",) if order == FORGETFUL else ()),
            ),
            labels={"part": PART, "edited": edited, "order": order},
            evaluated=contest.evaluated,
        )
        for place, ((edited, order), rounds) in enumerate(made.items(), start=1)
    ]


def read_types(result: TrialResult) -> Iterator[dict[str, object]]:
    """Read each type that a trial answers."""
    edited, order = result.trial.labels["edited"], result.trial.labels["order"]
    for name, (which, evaluated) in TYPES.items():
        if which == edited:
            means = result.evaluated[evaluated]
            found = {metric: means.get(metric) for metric in COLUMNS}
            yield {"type": name, "order": order, **found}
    if edited == B and result.unedited is not None:
        found = {metric: getattr(result.unedited, metric) for metric in COLUMNS}
        yield {"type": "unedited", "order": ALONE, **found}


def draw_types(frame: pd.DataFrame) -> Figure:
    """Draw a group of bars for each type and order."""
    own = frame[frame["part"] == PART].copy()
    rank = {name: place for place, name in enumerate(TYPES)}
    own = own.sort_values("type", key=lambda column: column.map(rank), kind="stable")
    own["group"] = [
        name if order == ALONE else f"{name},\n{order}"
        for name, order in zip(own["type"], own["order"], strict=True)
    ]
    return Figure(
        title="Types of experiment",
        caption="whether-conflict: A edited, evaluated by B's objects; performance-a: "
        "A edited, evaluated by A's; single-b: B edited, evaluated by B's; "
        "performance-b: both edited, evaluated by A's; performance-a+b: both edited, "
        "evaluated by B's; unedited: evaluated by B's before any edit. γ weighs the "
        "first round's keys in the second; it is the scenario's unless it is given. "
        "Mean over seeds, a dot a seed.",
        picture=draw_groups(own, "group", METRICS),
        table=mean_table(own, ["type", "order"], METRICS),
        numbers=own[["seed", "type", "order", *COLUMNS]],
    )


def value(frame: pd.DataFrame, name: str, order: str, metric: str) -> float:
    """A metric of one type and order, mean over seeds."""
    own = frame[(frame["type"] == name) & (frame["order"] == order)]
    return float(own[metric].mean())


def state_types(frame: pd.DataFrame) -> str:
    """State the results of A and B, alone and together, and what was expected."""
    own = frame[frame["part"] == PART]

    def say(name: str, order: str) -> str:
        success = value(own, name, order, "rewrite_success")
        return f"{value(own, name, order, 'rewrite_acc'):.1f} ({success:.1f})"

    alone = (
        "Rewrite accuracy, and in brackets rewrite success (ES), is "
        f"{say('performance-a', ALONE)} for A alone, evaluated by A; "
        f"{say('single-b', ALONE)} for B alone, evaluated by B; "
        f"{say('whether-conflict', ALONE)} for A alone, evaluated by B, where before "
        f"any edit it is {say('unedited', ALONE)}."
    )
    together = [
        f"With both, {order}, A has {say('performance-b', order)} and B "
        f"{say('performance-a+b', order)}."
        for order in (*ORDERS, FORGETFUL)
    ]
    return " ".join([alone, *together, state_expected(own)])


def state_expected(own: pd.DataFrame) -> str:
    """State for which orders it came out as CollabEdit's paper has it."""
    alone = value(own, "performance-a", ALONE, "rewrite_acc")
    left = {
        order: value(own, "performance-b", order, "rewrite_acc")
        for order in (SAME, NEXT, FORGETFUL)
    }
    destroyed = {
        f"the {order}": left[order] < DESTROYED * alone for order in (NEXT, FORGETFUL)
    }
    opposite = value(own, "performance-a+b", SAME, "rewrite_acc")
    neither = {"the same round": left[SAME] + opposite < NEITHER}
    return " ".join(
        [
            state_verdict("That B, edited after A, destroys A", destroyed),
            state_verdict("That conflicts in one round end in neither", neither),
        ]
    )
