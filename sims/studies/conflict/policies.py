"""The effect of each policy on conflicts: whose object the edited model gives."""

from collections.abc import Iterator, Mapping

import pandas as pd

from server.config import RunConfig
from sims.studies.bars import draw_stacks
from sims.studies.conflict.pairs import NEXT, ORDERS, SAME, Contest, arrange, bare
from sims.studies.plots import Panel, mean_table
from sims.studies.study import Figure, Party, Trial, TrialResult
from sims.studies.wording import enumerate_words
from strategies.conflicts.policies import POLICIES

PART = "policies"
SHARES = {"a_acc": "A's object", "b_acc": "B's object", "neither": "neither"}
COLUMNS = (
    Panel("edited", "Edited in conflict"),
    Panel("left_out", "Left out"),
    Panel("a_success", "A's rewrite success (ES)"),
    Panel("a_acc", "A's accuracy"),
    Panel("b_success", "B's rewrite success (ES)"),
    Panel("b_acc", "B's accuracy"),
    Panel("neighbourhood", "Neighbourhood success (NS)"),
    Panel("others_success", "The others' rewrite success (ES)"),
)


def make_policies(contest: Contest, config: RunConfig) -> list[Trial]:
    """Every policy in both orders: one party asks for A and all others for B.

    Each party asks for something else too, so that every round edits something.
    """
    nobody: Party = ()
    others = contest.others
    a, *b = (bare(side + own, config) for side, own in contest.sides)
    first, against = (a, *(nobody for _ in b)), (nobody, *b)
    ranking = list(config.parties.priority) or [0]
    everybody = bare(tuple(each for own in others for each in own), config)
    return [
        Trial(
            name=f"policies_{policy}_{order}".replace(" ", "_"),
            rounds=arrange(first, against, order),
            settings=(f"parties.conflicts={policy}", f"parties.priority={ranking}"),
            labels={
                "part": PART,
                "policy": policy,
                "order": order,
                "winner": winner_of(policy, order, ranking, len(others)),
                "contested": len(contest.pairs) * len(others),
            },
            evaluated={**contest.evaluated, "others": everybody},
        )
        for policy in POLICIES
        for order in ORDERS
    ]


def winner_of(policy: str, order: str, ranking: list[int], parties: int) -> str:
    """Whose object a policy lets stay; nothing where it is both or none.

    The first party asks for A, and all others for B.
    """
    best = next((each for each in [*ranking, *range(parties)]), 0)
    won = {
        "first": "A",
        "last": "B",
        "priority": "B" if best else "A",
        "majority": "B",
        "drop": "A" if order == NEXT else "",
    }
    return won.get(policy, "")


def read_policies(result: TrialResult) -> Iterator[dict[str, object]]:
    """Read whose requests were edited, and both sides' metrics."""
    labels = result.trial.labels
    left_out = sum(metrics.left_out for metrics in result.report.metrics)
    a, b, others = (result.evaluated[name] for name in ("A", "B", "others"))
    yield {
        **{name: labels[name] for name in ("policy", "order", "winner")},
        "edited": int(labels["contested"]) - left_out,
        "left_out": left_out,
        "found": sum(metrics.conflicts for metrics in result.report.metrics),
        "a_success": a.get("rewrite_success"),
        "a_acc": a["rewrite_acc"],
        "b_success": b.get("rewrite_success"),
        "b_acc": b["rewrite_acc"],
        "neither": max(0.0, 100 - a["rewrite_acc"] - b["rewrite_acc"]),
        "neighbourhood": mean_of("neighborhood_success", a, b),
        "others_success": others.get("rewrite_success"),
    }


def mean_of(metric: str, *sides: Mapping[str, float]) -> float | None:
    """Average a metric over those sides that have it."""
    known = [means[metric] for means in sides if metric in means]
    return sum(known) / len(known) if known else None


def draw_policies(frame: pd.DataFrame) -> Figure:
    """Draw whose object the model gives under each policy, in both orders."""
    own = frame[frame["part"] == PART].copy()
    own["wins"] = [f"{name} wins" if name else "no winner" for name in own["winner"]]
    shares = {order: own[own["order"] == order] for order in ORDERS}
    names = [panel.column for panel in COLUMNS]
    return Figure(
        title="Policies",
        caption="Of the facts in conflict, the share for which A's object, B's object "
        "or neither is the model's answer. The first party asks for A and all others "
        "for B. Mean over seeds.",
        picture=draw_stacks(shares, "policy", SHARES),
        table=mean_table(own, ["policy", "order", "wins"], COLUMNS),
        numbers=own[["seed", "policy", "order", "winner", *names, "neither", "found"]],
    )


def state_policies(frame: pd.DataFrame) -> str:
    """State what the damage is without a policy, and what each one makes of it."""
    own = frame[frame["part"] == PART]
    return " ".join(state_order(own[own["order"] == order], order) for order in ORDERS)


def state_order(own: pd.DataFrame, order: str) -> str:
    """State for one order whose object the model gives under each policy."""
    parts = {str(policy): part for policy, part in own.groupby("policy", sort=False)}
    none = parts.pop("none")[[*SHARES]].mean()
    stated = []
    for policy, part in parts.items():
        winner = str(part["winner"].iloc[0])
        column = f"{winner.lower()}_acc" if winner else "neither"
        stated.append(f"{part[column].mean():.1f} {SHARES[column]} (`{policy}`)")
    beginning = "In the same round" if order == SAME else "With B one round after A"
    return (
        f"{beginning} and with no policy, {none['a_acc']:.1f} per cent of the facts in "
        f"conflict say A's object, {none['b_acc']:.1f} B's and {none['neither']:.1f} "
        f"neither; with one, {enumerate_words(stated)}."
    )
