"""Parties: do the same requests edit alike, however many parties hold them?"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from editing.algebra.deltas import load_delta, relative_difference
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.studies.curves.lines import (
    divide,
    draw_lines,
    draw_requests,
    mean_score,
    merges_of,
    row_of,
)
from sims.studies.plots import Panel, draw_panels
from sims.studies.study import Figure, Study, Trial, TrialResult
from sims.studies.wording import state_mean

COUNTS = (1, 2, 5, 10, 50)
DIFFERENCE = Panel("difference", "Difference to one party, collabedit", per_cent=False)


class Parties(Study):
    """Share the same requests out among more and more parties, by each merge.

    ``parties.count`` and ``parties.requests-per-round`` of the scenario set how many
    requests there are; the numbers of parties are the study's own.
    """

    name = "parties"
    title = "Parties: the same requests held by more of them"
    question = (
        "Does an edit depend on how many parties hold the requests, by each merge?"
    )
    scenario = Path(__file__).resolve().parents[2] / "scenarios" / "parties.toml"

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """One trial a merge and number of parties; no more of them than requests."""
        requests = draw_requests(pool, sum(config.parties.sizes_of(1)), seed)
        return [
            Trial(
                name=f"{merge}_{count}",
                rounds=(divide(requests, count),),
                settings=(f"merge.name={merge}",),
                labels={"merge": merge, "parties": count},
            )
            for merge in merges_of(config, with_global=False)
            for count in COUNTS
            if count <= len(requests)
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a trial: its metrics, and how far its update is from one party's."""
        return pd.DataFrame(list(rows_of(results)))

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """The scores, and the distances of the updates."""
        names = list(dict.fromkeys(frame["merge"]))
        distances = frame.groupby(["merge", "parties"], sort=False)["difference"].mean()
        table = distances.unstack(sort=False)
        return [
            draw_lines(frame, "parties", "parties", "The score by number of parties"),
            Figure(
                title="The update by number of parties",
                caption="Largest over layers of ‖Δ − Δ₁‖ / ‖Δ₁‖, Δ₁ of one party.",
                picture=draw_panels(
                    frame,
                    [DIFFERENCE],
                    x="parties",
                    x_label="parties",
                    lines="merge",
                    names=names,
                ),
                table=table.set_axis(
                    [f"relative_difference.{each:g} parties" for each in table.columns],
                    axis=1,
                ),
                numbers=frame[["seed", "merge", "parties", "difference"]],
            ),
        ]

    def state(self, frame: pd.DataFrame) -> str:
        """The score of each merge with the fewest and the most parties."""
        few, many = frame["parties"].min(), frame["parties"].max()
        parts = []
        for merge in dict.fromkeys(frame["merge"]):
            first, last = (
                state_mean(mean_score(frame, merge=merge, parties=count))
                for count in (few, many)
            )
            own = frame[frame["merge"] == merge]["difference"].max()
            parts.append(f"{merge} {first} and {last} (difference up to {own:.1e})")
        return (
            f"With {few} party and with {many} the same requests score, by merge: "
            f"{'; '.join(parts)}."
        )


def rows_of(results: Sequence[TrialResult]) -> Iterator[dict[str, object]]:
    """Read the trials, those of one party by `collabedit` as the reference."""
    updates = {
        (result.seed, result.trial.name): load_delta(
            result.folder / "delta.safetensors"
        )[0]
        for result in results
    }
    for result in results:
        one = updates[result.seed, "collabedit_1"]
        gap = relative_difference(updates[result.seed, result.trial.name], one)
        yield row_of(result, result.report.metrics[-1]) | {"difference": gap}
