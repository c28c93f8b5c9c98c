"""Augmentation: do further phrasings beat a conflicting edit that was there first?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.studies.contested import MOST_PHRASINGS, draw_contests, pair_up
from sims.studies.plots import Panel, draw_panels, mean_table
from sims.studies.study import Figure, Study, Trial, TrialResult, partition
from sims.studies.wording import enumerate_words, state_change, state_verdict

BEFORE = "before the winner's round"
ONE, ZERO = "after it, γ = 1", "after it, γ = 0"
LINES = (BEFORE, ONE, ZERO)
WEIGHTS = {ONE: 1.0, ZERO: 0.0}

CONTEST, AROUND = "contest", "around"
"""What is evaluated: right object against conflicting one, and what shall stay."""

GAP = "p(right) - p(conflicting)"
SCORES = (
    Panel("prompt_gap", f"{GAP}, edited prompt", signed=True),
    Panel("prompt_higher", "Right object more probable, edited prompt"),
    Panel("held_out_gap", f"{GAP}, held-out wording", signed=True),
    Panel("held_out_higher", "Right object more probable, held-out wording"),
)
REACH = (
    Panel("prompt_acc", "Right object most probable of all, edited prompt"),
    Panel("held_out_acc", "Right object most probable of all, held-out wording"),
    Panel("neighborhood_success", "Neighbourhood success (NS)"),
    Panel("neighborhood_acc", "Neighbourhood accuracy"),
)
READ = {
    "prompt_gap": (CONTEST, "rewrite_diff"),
    "prompt_higher": (CONTEST, "rewrite_success"),
    "prompt_acc": (CONTEST, "rewrite_acc"),
    "held_out_gap": (CONTEST, "paraphrase_diff"),
    "held_out_higher": (CONTEST, "paraphrase_success"),
    "held_out_acc": (CONTEST, "paraphrase_acc"),
    "neighborhood_success": (AROUND, "neighborhood_success"),
    "neighborhood_acc": (AROUND, "neighborhood_acc"),
}
"""Where a row's columns stand among the metrics of what is evaluated."""


class Augmentation(Study):
    """Edit conflicting requests, then those that shall win, in ever more wordings.

    ``parties.requests-per-round`` of the scenario sets how many facts are contested.
    Every party makes every conflicting request in the first round, so that a memory
    holds it as many times as there are parties; in the second round each right request
    is made by one party. Both rounds of a trial run under one ``requests.phrasings``;
    a conflicting request carries no paraphrases, and so is edited in its prompt alone.
    """

    name = "augmentation"
    title = "Augmentation: further phrasings against a conflicting edit"
    question = (
        "A conflicting edit is in the model already. Does the right request win more "
        "often if it is edited in further phrasings of its fact, and at what price?"
    )
    scenario = Path(__file__).resolve().parents[1] / "scenarios" / "augmentation.toml"

    def __init__(self, templates: Mapping[str, Sequence[str]] | None = None) -> None:
        """Phrase by templates; by the pool's own wordings if there are none."""
        self._templates = templates

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """Return the first round alone, and all counts of phrasings."""
        check_phrasings(config)
        pairs = pair_up(pool, seed)
        sizes = config.parties.sizes_of(1)
        contests = draw_contests(pairs, pool, self._templates, sum(sizes), seed)
        first = (tuple(each.loser for each in contests),) * len(sizes)
        second = partition([each.winner for each in contests], sizes)
        labels: dict[str, str | float] = {
            "facts": len(contests),
            "parties": len(sizes),
            "pairs": len(pairs),
            "agreeing": sum(not pair.contradicts for pair in pairs),
        }
        evaluated = {
            CONTEST: tuple(each.evaluated for each in contests),
            AROUND: tuple(each.surroundings for each in contests),
        }
        most = min(MOST_PHRASINGS, *(len(each.phrasings) for each in contests))
        return [
            Trial(
                name="before",
                rounds=(first,),
                labels={**labels, "line": BEFORE, "phrasings": 0},
                evaluated=evaluated,
            ),
            *(
                Trial(
                    name=f"memory_{weight:g}_phrasings_{count}",
                    rounds=(first, second),
                    settings=(
                        f"prior.memory-weight={weight}",
                        f"requests.phrasings={count}",
                    ),
                    labels={**labels, "line": line, "phrasings": count},
                    evaluated=evaluated,
                )
                for line, weight in WEIGHTS.items()
                for count in (range(most + 1) if line == ONE else (0, most))
            ),
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """One row per model; the unedited one once for each number of phrasings."""
        counts = sorted({int(each.trial.labels["phrasings"]) for each in results})
        rows = [
            {"seed": result.seed, **result.trial.labels, **scores_of(result)}
            for result in results
        ]
        return pd.DataFrame(
            [
                row | {"phrasings": count}
                for row in rows
                for count in (counts if row["line"] == BEFORE else (row["phrasings"],))
            ]
        )

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """The conflict score, then what it reaches and costs elsewhere."""
        return [
            draw_figure(frame, "Conflict score before and after", SCORES),
            draw_figure(
                frame, "What is said outright, and what is said of others", REACH
            ),
        ]

    def state(self, frame: pd.DataFrame) -> str:
        """What the second round reaches alone, and what phrasings add and cost."""
        parts = [state_setting(frame), state_baseline(frame)]
        parts += [state_gain(frame, line) for line in WEIGHTS]
        return " ".join([*parts, state_expectation(frame)])


def check_phrasings(config: RunConfig) -> None:
    """Keep a scenario from phrasing the conflicting requests as well.

    Raises:
        InputError: If it sets phrasings or templates.
    """
    if config.requests.phrasings or config.requests.templates is not None:
        raise InputError(
            "The augmentation study sets `requests.phrasings` itself, and phrases the "
            "winner's requests alone; leave it and `requests.templates` out of the "
            "scenario, and name a file of templates by --templates"
        )


def scores_of(result: TrialResult) -> dict[str, float | None]:
    """Read what a model was evaluated by, all in per cent."""
    found: dict[str, float | None] = {}
    for column, (name, metric) in READ.items():
        value = result.evaluated[name].get(metric)
        scale = 100 if metric.endswith("_diff") else 1
        found[column] = None if value is None else scale * value
    return found


def draw_figure(frame: pd.DataFrame, title: str, panels: Sequence[Panel]) -> Figure:
    """Draw what was measured of some columns against the number of phrasings."""
    panels = [panel for panel in panels if frame[panel.column].notna().any()]
    once = frame[(frame["line"] != BEFORE) | (frame["phrasings"] == 0)]
    return Figure(
        title=title,
        caption="Against the number of further phrasings that each of the winner's "
        "requests is edited in; before its round there were none. Mean over seeds, "
        "each seed faintly.",
        picture=draw_panels(
            frame,
            panels,
            x="phrasings",
            x_label="further phrasings",
            lines="line",
            names=LINES,
        ),
        table=mean_table(once, ["line", "phrasings"], panels),
        numbers=frame[
            ["seed", "line", "phrasings", *(panel.column for panel in panels)]
        ],
    )


def by_seed(
    frame: pd.DataFrame, line: str, column: str, count: int
) -> "pd.Series[float]":
    """What was measured of each seed on one line with a number of phrasings."""
    own = frame[(frame["line"] == line) & (frame["phrasings"] == count)]
    return own.set_index("seed")[column]


def most_of(frame: pd.DataFrame) -> int:
    """The most phrasings that every seed was run with."""
    edited = frame[frame["line"] == ZERO]
    return int(edited.groupby("seed")["phrasings"].max().min())


def change(
    frame: pd.DataFrame, line: str, column: str, count: int
) -> "pd.Series[float]":
    """What a number of phrasings adds to none, of each seed that was run with it."""
    none = by_seed(frame, line, column, 0)
    return (by_seed(frame, line, column, count) - none).dropna()


def write_scores(frame: pd.DataFrame, line: str) -> str:
    """Write the conflict scores of a line without phrasings, mean over seeds."""
    words = [
        f"{by_seed(frame, line, f'{place}_gap', 0).mean():+.1f} "
        f"({by_seed(frame, line, f'{place}_higher', 0).mean():.1f}) on the {name}"
        for place, name in places_of(frame).items()
    ]
    return enumerate_words(words)


def places_of(frame: pd.DataFrame) -> dict[str, str]:
    """Where the conflict score was measured, and what that is called."""
    names = {"prompt": "edited prompt", "held_out": "held-out wording"}
    return {
        place: name
        for place, name in names.items()
        if frame[f"{place}_gap"].notna().any()
    }


def state_setting(frame: pd.DataFrame) -> str:
    """State what was contested, and which of the pool's pairs were no conflicts."""
    facts, parties, pairs, agreeing = (
        int(frame[name].iloc[0]) for name in ("facts", "parties", "pairs", "agreeing")
    )
    stated = f"For each seed {facts} facts are contested"
    if parties > 1:
        stated += f", and each of {parties} parties makes their conflicting requests"
    if agreeing:
        stated += (
            f"; {agreeing} of the pool's {pairs} pairs ask for one and the same object "
            "on both sides, and were left out"
        )
    return f"{stated}."


def state_baseline(frame: pd.DataFrame) -> str:
    """State what the model held before the winner's round, and after it alone."""
    after = [f"{write_scores(frame, line)} with {weight_of(line)}" for line in WEIGHTS]
    return (
        f"The conflict score, {GAP} in points (and how often the right object is the "
        f"more probable one, in per cent), is {write_scores(frame, BEFORE)} before the "
        "winner's round. That round without further phrasings brings it to "
        f"{'; and to '.join(after)}."
    )


def weight_of(line: str) -> str:
    """Name a line by its memory weight alone."""
    return line.rpartition(", ")[2]


def state_gain(frame: pd.DataFrame, line: str) -> str:
    """State what all further phrasings add to none under one memory weight."""
    most = most_of(frame)

    def write_change(column: str) -> str:
        return state_change(change(frame, line, column, most))

    gains = [
        f"the {name} by {write_change(f'{place}_gap')} in the score and "
        f"{write_change(f'{place}_higher')} in how often the right object is ahead"
        for place, name in places_of(frame).items()
    ]
    stated = (
        f"With {weight_of(line)}, phrasing further, {most} times against none, changes "
        f"{enumerate_words(gains)}"
    )
    if frame["neighborhood_success"].isna().all():
        return f"{stated}; the pool has no neighbourhood prompts to tell the price by."
    prices = [
        f"the neighbourhood's {word} by {write_change(column)}"
        for word, column in (
            ("success (NS)", "neighborhood_success"),
            ("accuracy", "neighborhood_acc"),
        )
    ]
    return f"{stated}; and {enumerate_words(prices)}."


def state_expectation(frame: pd.DataFrame) -> str:
    """State where phrasings gained under γ = 1, and where there was nothing to gain."""
    most = most_of(frame)
    gains = {
        f"the {name} ({word})": change(frame, ONE, f"{place}_{column}", most).mean()
        for place, name in places_of(frame).items()
        for column, word in (("gap", "score"), ("higher", "how often"))
    }
    # As it is written: less than what the figures show is no gain.
    held = {name: round(gain, 1) > 0 for name, gain in gains.items()}
    stated = state_verdict("A gain by further phrasings with γ = 1", held)
    full = [
        name
        for place, name in places_of(frame).items()
        if by_seed(frame, ONE, f"{place}_higher", 0).min() >= 100
    ]
    if full:
        stated += (
            " Without them the right object was the more probable one every time "
            f"already on the {enumerate_words(full)}."
        )
    return stated
