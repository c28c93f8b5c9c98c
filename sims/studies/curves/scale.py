"""Scale: what more and more edits at once do to the score (CollabEdit, Figure 1)."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.studies.curves.lines import (
    draw_lines,
    draw_requests,
    mean_score,
    merges_of,
    row_of,
)
from sims.studies.study import Figure, Study, Trial, TrialResult, partition
from sims.studies.wording import state_mean

STEPS = 5
"""How many sizes are tried, the scenario's own being the largest."""


class Scale(Study):
    """Edit ever larger parts of each party's requests in one round, by each merge.

    ``parties.count`` and ``parties.requests-per-round`` of the scenario set the largest
    size; smaller ones take the first of each party's requests.
    """

    name = "scale"
    title = "Scale: more edits at once"
    question = "How does the score fall with the number of edits, by each merge?"
    scenario = Path(__file__).resolve().parents[2] / "scenarios" / "scale.toml"

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """One trial a merge and size; `global` is one machine with all requests."""
        largest = config.parties.sizes_of(1)
        own = partition(draw_requests(pool, sum(largest), seed), largest)
        taken = [
            tuple(party[: take(len(party), step)] for party in own)
            for step in range(1, STEPS + 1)
        ]
        return [
            Trial(
                name=f"{merge}_{edits}",
                rounds=(parties,),
                settings=(f"merge.name={merge}",),
                labels={"merge": merge, "edits": edits},
            )
            for merge in merges_of(config, with_global=True)
            for edits, parties in {sum(map(len, each)): each for each in taken}.items()
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a trial."""
        return pd.DataFrame([row_of(each, each.report.metrics[-1]) for each in results])

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """The scores by number of edits."""
        return [draw_lines(frame, "edits", "edits", "The score by number of edits")]

    def state(self, frame: pd.DataFrame) -> str:
        """The score of each merge with the fewest and the most edits."""
        few, many = frame["edits"].min(), frame["edits"].max()
        parts = [
            f"{merge} {state_mean(mean_score(frame, merge=merge, edits=few))} and "
            f"{state_mean(mean_score(frame, merge=merge, edits=many))}"
            for merge in dict.fromkeys(frame["merge"])
        ]
        return (
            f"With {few} edits and with {many} the scores are, by merge: "
            f"{'; '.join(parts)}."
        )


def take(number: int, step: int) -> int:
    """How many of a party's requests a step takes: halves of halves, at least one."""
    return min(number, max(1, number >> (STEPS - step)))
