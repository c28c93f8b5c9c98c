"""What these studies share: requests drawn once, a line a merge, the table beneath."""

import random
from collections.abc import Sequence

import pandas as pd

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from server.report.data import RoundMetrics
from sims.studies.plots import Panel, draw_panels
from sims.studies.pools import facts_by_subject
from sims.studies.study import Figure, Round, TrialResult, partition
from strategies.methods import GLOBAL

PANELS = (
    Panel("score", "Score"),
    Panel("rewrite_success", "Rewrite success"),
    Panel("paraphrase_success", "Paraphrase success"),
    Panel("neighborhood_success", "Neighbourhood success"),
)
METRICS = tuple(panel.column for panel in PANELS)


def draw_requests(
    pool: Sequence[EditRequest], number: int, seed: int
) -> list[EditRequest]:
    """Draw requests about distinct subjects.

    Raises:
        InputError: If the pool has too few subjects.
    """
    subjects = facts_by_subject(pool, random.Random(seed))
    if len(subjects) < number:
        raise InputError(
            f"The study wants {number} requests about different subjects, and the pool "
            f"has {len(subjects)} subjects. Name a larger pool with `requests.source`, "
            "or lower `parties.requests-per-round` or `parties.count`."
        )
    return [facts[0] for facts in subjects[:number]]


def divide(requests: Sequence[EditRequest], parties: int) -> Round:
    """Partition requests across parties as evenly as can be, in their order."""
    each, more = divmod(len(requests), parties)
    return partition(requests, [each + (party < more) for party in range(parties)])


def merges_of(config: RunConfig, *, with_global: bool) -> tuple[str, ...]:
    """The merges that a comparison of the scenario runs."""
    compared = config.model_copy(
        update={"run": config.run.model_copy(update={"compare": True})}
    ).compared
    return tuple(name for name in compared if with_global or name != GLOBAL)


def row_of(result: TrialResult, metrics: RoundMetrics) -> dict[str, object]:
    """Write a trial's labels and metrics as a row."""
    measured = {name: getattr(metrics, name) for name in METRICS}
    return {"seed": result.seed, **result.trial.labels} | measured


def draw_lines(frame: pd.DataFrame, x: str, x_label: str, title: str) -> Figure:
    """Draw the metrics against a number, a line a merge."""
    names = list(dict.fromkeys(frame["merge"]))
    return Figure(
        title=title,
        caption="Mean over seeds, each seed faintly. The table shows the score.",
        picture=draw_panels(
            frame, PANELS, x=x, x_label=x_label, lines="merge", names=names
        ),
        table=score_table(frame, x),
        numbers=frame[["seed", "merge", x, *METRICS]],
    )


def score_table(frame: pd.DataFrame, x: str) -> pd.DataFrame:
    """Return the mean score: a row a merge, a column a number."""
    means = frame.groupby(["merge", x], sort=False)["score"].mean().unstack(sort=False)
    return means.set_axis([f"Score at {name:g}" for name in means.columns], axis=1)


def mean_score(frame: pd.DataFrame, **where: object) -> "pd.Series[float]":
    """The score of each seed, where columns have these values."""
    chosen = frame
    for name, value in where.items():
        chosen = chosen[chosen[name] == value]
    return chosen.groupby("seed")["score"].mean()
