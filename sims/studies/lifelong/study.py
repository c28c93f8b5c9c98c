"""Lifelong editing: what lasts, and what it costs, until the pool is used up."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.evaluation.capability.measure import PERPLEXITY
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from server.report.data import RoundMetrics
from sims.studies.lifelong.ages import read_ages
from sims.studies.lifelong.lines import LINES
from sims.studies.lifelong.pages import DRAWN, draw_family, families_of
from sims.studies.lifelong.words import state_kind
from sims.studies.noise import cut, one_by_one
from sims.studies.pools import facts_by_subject
from sims.studies.study import Figure, Study, Trial, TrialResult, partition
from sims.studies.wording import plain_name

APART, AGAIN = "apart", "again"
KINDS = {
    APART: "requests about a subject each",
    AGAIN: "requests about subjects that come again with another fact",
}


class Lifelong(Study):
    """Edit round after round with every editor, from one pool of requests.

    ``parties.count``, ``parties.requests-per-round`` and ``run.rounds`` of the scenario
    say how many requests there are. No fact is edited twice, so that all edits can
    hold at once. Editors and their settings are the study's own.
    """

    name = "lifelong"
    title = "Lifelong editing: every editor, round after round"
    question = (
        "What is left of all edits, and of the model besides them, as rounds follow "
        "each other, by each editor?"
    )
    scenario = Path(__file__).resolve().parents[2] / "scenarios" / "lifelong.toml"

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """One trial an editor, with and without subjects that come again."""
        sizes = [config.parties.sizes_of(n + 1) for n in range(config.run.rounds)]
        drawn = draw_kinds(pool, sum(map(sum, sizes)), seed)
        return [
            Trial(
                name=f"{kind}_{place:02}_{plain_name(line.name)}",
                rounds=tuple(
                    map(partition, cut(requests, list(map(sum, sizes))), sizes)
                ),
                settings=line.settings,
                labels={"requests": kind, "line": line.name},
            )
            for kind, requests in drawn.items()
            for place, line in enumerate(LINES)
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a round, the unedited model first."""
        frame = pd.DataFrame([row for result in results for row in rows_of(result)])
        return frame.astype(dict.fromkeys(DRAWN, float))

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """A figure for each kind of requests and family of editors."""
        return [
            draw_family(own, family, KINDS[str(kind)])
            for kind in dict.fromkeys(frame["requests"])
            for own in [frame[frame["requests"] == kind]]
            for family in families_of(own)
        ]

    def state(self, frame: pd.DataFrame) -> str:
        """What each editor keeps, what it costs, and when edits are lost."""
        return " ".join(
            state_kind(frame[frame["requests"] == kind], KINDS[str(kind)])
            for kind in dict.fromkeys(frame["requests"])
        )


def draw_kinds(
    pool: Sequence[EditRequest], count: int, seed: int
) -> dict[str, list[EditRequest]]:
    """Draw one fact of each of many subjects, and all facts of few.

    Subjects with most facts are taken first, and their facts one by one. A kind that
    the pool is too small for is left out.

    Raises:
        InputError: If it is too small for both.
    """
    subjects = facts_by_subject(pool, random.Random(seed))
    richest = sorted(subjects, key=len, reverse=True)
    few: list[list[EditRequest]] = []
    while richest and sum(map(len, few)) < count:
        few.append(richest.pop(0))
    random.Random(seed).shuffle(few)
    sources = {APART: [facts[:1] for facts in subjects], AGAIN: few}
    drawn = {
        kind: list(islice(one_by_one(source), count))
        for kind, source in sources.items()
    }
    whole = {kind: asked for kind, asked in drawn.items() if len(asked) == count}
    if len(few) == count:  # each has one fact alone
        whole.pop(AGAIN, None)
    if not whole:
        raise InputError(
            f"The study wants {count} requests about different facts, and the pool has "
            f"{sum(map(len, subjects))} about {len(subjects)} subjects. Name a larger "
            "pool with `requests.source`, or lower `run.rounds`, `parties.count` or "
            "`parties.requests-per-round`."
        )
    return whole


def rows_of(result: TrialResult) -> Iterator[dict[str, object]]:
    """Read a run: the unedited model, then all edits so far after each round.

    ``kept`` is of all edits that are as old as the first ones are after the round.
    """
    base = {"seed": result.seed, **result.trial.labels}
    yield base | {"round": 0, "edits": 0, **read_model(result.unedited)}
    sizes = result.trial.sizes
    numbers = range(1, len(sizes) + 1)
    ages = read_ages(sizes, [result.cases(number) for number in numbers])
    for number, metrics in zip(numbers, result.report.metrics, strict=True):
        yield base | {
            "round": number,
            "edits": ages.edits[number - 1],
            "age": ages.edits[number - 1] - ages.edits[0],
            **{name: metrics.all_edits.get(name) for name in DRAWN},
            **read_model(metrics),
            "kept": ages.kept_at(number - 1),
            "forgotten": ages.forgotten(number),
            "age_when_lost": ages.age_when_lost(number),
        }


def read_model(metrics: RoundMetrics | None) -> dict[str, float | None]:
    """Read what was measured of the model besides its edits."""
    own = metrics or RoundMetrics()
    return {
        "held_out_acc": own.held_out_acc,
        PERPLEXITY: own.capability.get(PERPLEXITY),
        "budget": own.budget,
    }
