"""What blind tokens find of planted conflicts and duplicates, and what they miss.

What was found is read from the run: a request that the server ruled out was never given
a target, so its case has no residual.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from editing.requests.conflicts import ConflictPair
from editing.requests.edit_request import EditRequest
from editing.requests.paraphrases import phrase
from server.config import RunConfig
from sims.studies.bars import draw_groups
from sims.studies.conflict.pairs import NEXT, ORDERS, SAME, Contest, arrange, bare
from sims.studies.plots import Panel
from sims.studies.pools import fact_of
from sims.studies.study import Figure, Party, Trial, TrialResult

PART = "detection"
CONFLICT, DUPLICATE, UNRELATED = "conflict", "duplicate", "unrelated"
SAME_PROMPT, OTHER_WRITING = "same prompt", "other writing"
PARAPHRASED, OTHER_WORDS = "paraphrased prompt", "object in other words"
OTHER_FACT, ALL = "another fact", "all"
WRITINGS = (SAME_PROMPT, OTHER_WRITING, PARAPHRASED, OTHER_WORDS, OTHER_FACT)
KINDS = (
    (SAME_PROMPT, CONFLICT),
    (SAME_PROMPT, DUPLICATE),
    (OTHER_WRITING, CONFLICT),
    (OTHER_WRITING, DUPLICATE),
    (PARAPHRASED, CONFLICT),
    (PARAPHRASED, DUPLICATE),
    (OTHER_WORDS, DUPLICATE),
    (OTHER_FACT, UNRELATED),
)
"""How a related request is written, and how it truly relates to the right one."""

PLANTED = 10
"""At most this many requests of each kind."""

TRIALS = (
    (CONFLICT, SAME, "parties.conflicts=drop"),
    (CONFLICT, NEXT, "parties.conflicts=drop"),
    (DUPLICATE, SAME, "parties.deduplicate=true"),
)
"""What is looked for, when, and the setting that leaves out what is found."""

SHOWN = (
    Panel("conflict recall", "Conflicts: recall"),
    Panel("conflict precision", "Conflicts: precision"),
    Panel("duplicate recall", "Duplicates: recall"),
    Panel("duplicate precision", "Duplicates: precision"),
)


def make_detection(
    contest: Contest, pool: Sequence[EditRequest], config: RunConfig
) -> list[Trial]:
    """Plant every kind at once, and look for conflicts and for duplicates.

    The model's answers are not evaluated, so targets get a single step.
    """
    planted = list(plant_all(contest.pairs + contest.spare, pool))
    nobody: Party = ()
    rights = bare(tuple(pair.right for pair, _, _ in planted), config)
    met = bare(tuple(each for _, each, _ in planted), config)
    first = (rights, nobody, nobody)
    against = (nobody, met, bare(contest.others[2], config))
    kinds = [kind for _, _, kind in planted]
    return [
        Trial(
            name=f"detection_{sought}_{order}".replace(" ", "_"),
            rounds=arrange(first, against, order),
            settings=(setting, "editing.v-num-grad-steps=1"),
            labels={"part": PART, "sought": sought, "order": order}
            | {"/".join(kind): kinds.count(kind) for kind in KINDS},
        )
        for sought, order, setting in TRIALS
    ]


def plant_all(
    pairs: Sequence[ConflictPair], pool: Sequence[EditRequest]
) -> Iterator[tuple[ConflictPair, EditRequest, tuple[str, str]]]:
    """Give each pair a kind in turn, and the request related to its right one.

    Kinds come one after the other. A pair that has no second wording or no second fact
    is passed over where one is needed.
    """
    for place, kind in enumerate(KINDS):
        for pair in pairs[place : PLANTED * len(KINDS) : len(KINDS)]:
            met = plant(pair, *kind, pool)
            if met is not None:
                yield pair, met, kind


def plant(
    pair: ConflictPair, writing: str, claim: str, pool: Sequence[EditRequest]
) -> EditRequest | None:
    """Write a request that contradicts or repeats the right one, or does neither."""
    asked = pair.conflicting if claim == CONFLICT else pair.right
    if writing == OTHER_FACT:
        return find_other_fact(pair.right, pool)
    if writing == PARAPHRASED:
        phrased = phrase(asked, 1)[1:]
        return (
            asked.model_copy(update={"prompt": phrased[0].prompt}) if phrased else None
        )
    if writing == OTHER_WORDS:
        return asked.model_copy(update={"target_new": f"the {asked.target_new}"})
    return write_otherwise(asked) if writing == OTHER_WRITING else asked


def write_otherwise(request: EditRequest) -> EditRequest:
    """Change letters' cases, add spaces, and put subject and object in quotes."""
    return request.model_copy(
        update={
            "prompt": request.prompt.swapcase().replace(" ", "  "),
            "subject": f"“{request.subject.swapcase()}”",
            "target_new": f'"{request.target_new.swapcase()}"',
        }
    )


def find_other_fact(
    request: EditRequest, pool: Iterable[EditRequest]
) -> EditRequest | None:
    """Find a request about the subject's other relations, the first in the pool."""
    for each in pool:
        same = each.subject == request.subject
        if same and fact_of(each) != fact_of(request):
            return each
    return None


def read_detection(result: TrialResult) -> Iterator[dict[str, object]]:
    """Count for each kind how many of the planted requests were left out."""
    labels, left_out = result.trial.labels, find_left_out(result)
    metrics = result.report.metrics
    sought = str(labels["sought"])
    reported = sum(
        each.conflicts if sought == CONFLICT else each.duplicates for each in metrics
    )
    place = sum(int(labels["/".join(kind)]) for kind in KINDS)
    for writing, claim in KINDS:
        size = int(labels[f"{writing}/{claim}"])
        found = sum(number in left_out for number in range(place, place + size))
        place += size
        yield {
            "sought": sought,
            "order": labels["order"],
            "writing": writing,
            "claim": claim,
            "planted": size,
            "found": found,
            "reported": reported,
        }


def find_left_out(result: TrialResult) -> set[int]:
    """Case numbers of the requests that were not edited."""
    cases = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in result.folder.glob("case_*.json")
    ]
    return {case["case_id"] for case in cases if case["residual_norm"] is None}


def rate(frame: pd.DataFrame, sought: str) -> dict[str, float | None]:
    """Recall and precision in per cent; None where nothing was planted or found."""
    looked = frame[frame["sought"] == sought]
    true = looked[looked["claim"] == sought]
    hits, found = true["found"].sum(), looked["found"].sum()
    planted = true["planted"].sum()
    return {
        f"{sought} recall": 100 * hits / planted if planted else None,
        f"{sought} precision": 100 * hits / found if found else None,
    }


def rate_writings(frame: pd.DataFrame) -> pd.DataFrame:
    """Rate each way of writing, and all of them together, a row a seed."""
    return pd.DataFrame(
        [
            {"seed": seed, "writing": writing}
            | rate(own, CONFLICT)
            | rate(own, DUPLICATE)
            for seed, of_seed in frame.groupby("seed")
            for writing in (*WRITINGS, ALL)
            for own in [
                of_seed if writing == ALL else of_seed[of_seed["writing"] == writing]
            ]
        ]
    )


def count_writings(own: pd.DataFrame) -> pd.DataFrame:
    """Write for each kind how many requests were planted and left out, over seeds."""
    rows = own.groupby(["writing", "claim"], sort=False)
    table = pd.DataFrame({"Planted": rows["planted"].sum() // len(TRIALS)})
    for sought, order, _ in TRIALS:
        looked = own[(own["sought"] == sought) & (own["order"] == order)]
        found = looked.groupby(["writing", "claim"], sort=False)["found"].sum()
        table[f"Found as {sought}, {order}"] = found
    return table


def draw_detection(frame: pd.DataFrame) -> Figure:
    """Draw recall and precision for each way of writing."""
    own = frame[frame["part"] == PART]
    rates = rate_writings(own)
    rates["group"] = [name.replace(" ", "\n", 1) for name in rates["writing"]]
    names = ["sought", "order", "writing", "claim", "planted", "found", "reported"]
    return Figure(
        title="Detection by blind tokens",
        caption="A bar that is missing has nothing to count: no such pair was planted, "
        "or none was found. Mean over seeds, a dot a seed. The table counts requests "
        "over all seeds, each kind by what the two requests truly are; conflicts are "
        f"looked for in the {ORDERS[0]} and in the {ORDERS[1]}.",
        picture=draw_groups(rates, "group", SHOWN),
        table=count_writings(own),
        numbers=own[["seed", *names]],
    )


def state_detection(frame: pd.DataFrame) -> str:
    """State what was found, and what a digest cannot see."""
    own = frame[frame["part"] == PART]
    parts = [state_rates(own, sought) for sought in (CONFLICT, DUPLICATE)]
    rewritten = own[own["writing"] == PARAPHRASED]
    unseen = rate(rewritten, CONFLICT)["conflict recall"]
    blind = (
        ""
        if unseen is None
        else " A digest sees texts and not what they mean: of conflicts whose prompt "
        f"is paraphrased, {unseen:.1f} per cent are found."
    )
    false = own[(own["sought"] == CONFLICT) & (own["claim"] != CONFLICT)]
    alarms = false[false["found"] > 0].groupby("writing")["found"].sum()
    stated = ", ".join(f"{count:.0f} under “{name}”" for name, count in alarms.items())
    wrong = (
        f" Of {false['planted'].sum():.0f} pairs in both orders that are no conflict, "
        f"{false['found'].sum():.0f} were taken for one"
        f"{f': {stated}' if stated else ''}."
    )
    return " ".join(parts) + blind + wrong


def state_rates(own: pd.DataFrame, sought: str) -> str:
    """State recall and precision over all that was planted, and by way of writing."""
    stated = []
    for writing in (ALL, *WRITINGS[:3]):
        rates = rate(own if writing == ALL else own[own["writing"] == writing], sought)
        recall, precision = rates.values()
        if recall is not None:
            exact = "–" if precision is None else f"{precision:.1f}"
            stated.append(f"{recall:.1f} and {exact} ({writing})")
    return f"Recall and precision for {sought}s are {', '.join(stated)} per cent."
