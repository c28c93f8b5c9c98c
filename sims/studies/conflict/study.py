"""Conflict: what becomes of a fact for which two parties give different objects."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.studies.conflict.detection import (
    draw_detection,
    make_detection,
    read_detection,
    state_detection,
)
from sims.studies.conflict.pairs import draw_contest
from sims.studies.conflict.policies import (
    draw_policies,
    make_policies,
    read_policies,
    state_policies,
)
from sims.studies.conflict.types import (
    draw_types,
    make_types,
    read_types,
    state_types,
)
from sims.studies.study import Figure, Study, Trial, TrialResult

READERS = {
    "types": read_types,
    "policies": read_policies,
    "detection": read_detection,
}


class Conflict(Study):
    """Ask for A and, in the same round or one later, for B instead.

    The scenario sets the number of parties and of facts on which they disagree.
    """

    name = "conflict"
    title = "Conflict: two objects for one fact"
    question = (
        "What does the model answer if parties give different objects for a fact, "
        "which conflicts do blind tokens show, and what do policies make of them?"
    )
    scenario = Path(__file__).resolve().parents[2] / "scenarios" / "conflict.toml"

    def __init__(self, pairs: Path | None = None) -> None:
        """Take pairs from a file of ConflictEdit's form, or draw them from the pool."""
        self._pairs = pairs

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """The five types, every policy, and what tokens find of planted pairs."""
        check_scenario(config)
        contest = draw_contest(pool, config, seed, self._pairs)
        return [
            *make_types(contest),
            *make_policies(contest, config),
            *make_detection(contest, pool, config),
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a measurement, in the columns of its part."""
        return pd.DataFrame(
            [
                {"seed": result.seed, "part": part, **row}
                for result in results
                for part in [str(result.trial.labels["part"])]
                for row in READERS[part](result)
            ]
        )

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """A figure for each part."""
        return [draw_types(frame), draw_policies(frame), draw_detection(frame)]

    def state(self, frame: pd.DataFrame) -> str:
        """A statement for each part."""
        parts = [state_types(frame), state_policies(frame), state_detection(frame)]
        return " ".join(parts)


def check_scenario(config: RunConfig) -> None:
    """Keep a scenario from setting what the study varies.

    Raises:
        InputError: If it does.
    """
    parties = config.parties
    if (
        parties.conflicts != "ignore"
        or parties.deduplicate
        or parties.skip_known is not None
    ):
        raise InputError(
            "The conflict study sets `parties.conflicts` and `parties.deduplicate` "
            "itself, and `parties.skip-known` would leave out what it counts; leave "
            "them out of the scenario"
        )
