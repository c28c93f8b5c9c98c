"""Order: parties that edit in turn, each its topic, against all in every round."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.evaluation.cases import sum_cases
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.studies.curves.lines import METRICS, draw_lines, mean_score
from sims.studies.pools import fact_of, facts_by_subject
from sims.studies.study import Figure, Round, Study, Trial, TrialResult
from sims.studies.wording import state_change, state_mean

TURN, MIXED = "in turn", "mixed"
ORDERS = (TURN, MIXED)
MERGES = ("collabedit", "simple-average")


class Order(Study):
    """Give each party a topic, and edit topic by topic or all topics in every round.

    A topic is a relation. There are as many parties and rounds as topics:
    ``parties.count`` of the scenario, and ``parties.requests-per-round`` requests each.
    """

    name = "order"
    title = "Order: topics in turn, or mixed in every round"
    question = "Does it matter whether parties edit their topics one after the other?"
    scenario = Path(__file__).resolve().parents[2] / "scenarios" / "order.toml"

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """One trial a merge and order, all with the same requests of each party."""
        topics = draw_topics(pool, config.parties.sizes_of(1), seed)
        orders = {TURN: in_turn(topics), MIXED: mixed(topics)}
        return [
            Trial(
                name=f"{merge}_{order}".replace(" ", "_"),
                rounds=rounds,
                settings=(f"merge.name={merge}",),
                labels={"merge": f"{merge}, {order}"},
            )
            for merge in MERGES
            for order, rounds in orders.items()
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a round: the metrics of all requests so far after it."""
        return pd.DataFrame([row for result in results for row in rows_of(result)])

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """The scores of all edits so far."""
        return [draw_lines(frame, "edits", "edits so far", "All edits so far")]

    def state(self, frame: pd.DataFrame) -> str:
        """The score of all edits after the last round, and what the order changes."""
        last = frame[frame["edits"] == frame["edits"].max()]
        parts = []
        for merge in MERGES:
            turn, mix = (
                mean_score(last, merge=f"{merge}, {order}") for order in ORDERS
            )
            parts.append(
                f"with {merge} the score of all of them is {state_mean(turn)} {TURN} "
                f"and {state_mean(mix)} {MIXED}, a difference of "
                f"{state_change(turn - mix)}"
            )
        return f"After {last['edits'].iloc[0]} edits, {'; '.join(parts)}."


def draw_topics(
    pool: Sequence[EditRequest], sizes: Sequence[int], seed: int
) -> list[list[EditRequest]]:
    """Draw a topic for each party, and requests about it; no subject has two.

    Raises:
        InputError: If the pool has too few topics, or too few requests about one.
    """
    draw, taken = random.Random(seed), set[str]()
    by_topic: dict[str, list[EditRequest]] = {}
    for facts in facts_by_subject(pool, draw):
        for request in facts:
            by_topic.setdefault(fact_of(request).relation, []).append(request)
    # The smallest topics choose first, so that none is left with too few.
    topics = sorted(by_topic.values(), key=len, reverse=True)[: len(sizes)][::-1]
    found = []
    for size, about in zip(sizes, topics, strict=False):
        free = [request for request in about if request.subject not in taken][:size]
        taken |= {request.subject for request in free}
        found.append(free)
    if [len(own) for own in found] != list(sizes):
        raise InputError(
            f"The study wants {len(sizes)} topics with {list(sizes)} requests about "
            f"different subjects, and the pool has {len(by_topic)} relations, from "
            f"which it could draw {[len(own) for own in found]}. Name a larger pool "
            "with `requests.source`, or lower `parties.count` or "
            "`parties.requests-per-round`."
        )
    return found


def in_turn(topics: Sequence[Sequence[EditRequest]]) -> tuple[Round, ...]:
    """Let one party edit in each round."""
    return tuple(
        tuple(tuple(own) if party == turn else () for party, own in enumerate(topics))
        for turn in range(len(topics))
    )


def mixed(topics: Sequence[Sequence[EditRequest]]) -> tuple[Round, ...]:
    """Let every party edit a part of its requests in each round."""
    rounds = len(topics)
    return tuple(
        tuple(tuple(own[number::rounds]) for own in topics) for number in range(rounds)
    )


def rows_of(result: TrialResult) -> Iterator[dict[str, object]]:
    """Read the metrics of all requests so far after each round."""
    edits = 0
    for number, sizes in enumerate(result.trial.sizes, start=1):
        edits += sum(sizes)
        means = sum_cases(result.cases(number)).means()
        row = {"seed": result.seed, **result.trial.labels, "edits": edits}
        yield {**row, **{name: means.get(name) for name in METRICS}}
