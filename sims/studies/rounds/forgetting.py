"""Forgetting: do later rounds undo what the first one edited?"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.studies.noise import NOISES, OTHER, draw_rounds
from sims.studies.plots import Panel, draw_panels, mean_table
from sims.studies.study import Figure, Study, Trial, TrialResult, partition
from sims.studies.wording import (
    enumerate_words,
    state_change,
    state_mean,
    state_verdict,
)

ZERO, ONE, LAMBDA = "γ = 0", "γ = 1", "γ = λ"
WEIGHTS = {ZERO: "0", ONE: "1", LAMBDA: "lambda"}
UNEDITED = "unedited"
LINES = (ZERO, ONE, LAMBDA, UNEDITED)
PLAIN = str.maketrans({"γ": "gamma", "λ": "lambda", " ": "", "=": "_"})
PANELS = (
    Panel("rewrite_success", "Rewrite success (ES) of the first round"),
    Panel("rewrite_acc", "Rewrite accuracy of the first round"),
    Panel(
        "paraphrase_success",
        "Paraphrase success (PS) of the first round",
    ),
    Panel(
        "neighborhood_success",
        "Neighbourhood success (NS) of the first round",
    ),
)
PRICE = (
    Panel("later_success", "Rewrite success (ES) of the round's own"),
    Panel("later_acc", "Rewrite accuracy of the round's own"),
)
METRICS = tuple(panel.column for panel in PANELS)
EXPECTED_GAIN = 10.0


class Forgetting(Study):
    """Edit targets in the first round and something else in all later ones.

    ``run.rounds`` and ``parties.requests-per-round`` of the scenario set the number of
    targets and of later requests; the pool decides what later rounds
    can be about.
    """

    name = "forgetting"
    title = "Forgetting: the first round after many later ones"
    question = (
        "How much of the first round's edits is left after later rounds, by the weight "
        "γ that the prior gives to the keys of earlier rounds?"
    )
    scenario = Path(__file__).resolve().parents[2] / "scenarios" / "forgetting.toml"

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """One trial a memory weight, and two of the contrasting kind of noise."""
        sizes = round_sizes(config)
        drawn = {
            noise: [
                targets,
                *(without_evaluation_prompts(later, config) for later in rest),
            ]
            for noise, (targets, *rest) in draw_rounds(
                pool, [sum(each) for each in sizes], seed
            ).items()
        }
        return [
            Trial(
                name=f"{noise}_{gamma}".translate(PLAIN),
                rounds=tuple(map(partition, rounds, sizes)),
                settings=(f"prior.memory-weight={WEIGHTS[gamma]}",),
                labels={"noise": noise, "gamma": gamma},
            )
            for place, (noise, rounds) in enumerate(drawn.items())
            for gamma in (WEIGHTS if place == 0 else (ZERO, ONE))
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a round: the targets after it, and the round's own requests."""
        edited = [row for result in results for row in rows_of(result)]
        before = [row for result in results for row in unedited_rows(result)]
        frame = pd.DataFrame([*edited, *before]).drop_duplicates(ignore_index=True)
        metrics = [*METRICS, *(panel.column for panel in PRICE)]
        return frame.astype(dict.fromkeys(metrics, float))

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """The targets under each kind of noise, and the later requests themselves."""
        noises = list(dict.fromkeys(frame["noise"]))
        return [
            *(draw_retention(frame[frame["noise"] == noise]) for noise in noises),
            draw_price(frame[frame["noise"] == noises[0]]),
        ]

    def state(self, frame: pd.DataFrame) -> str:
        """The gain of γ = 1, what it costs, and what the other noise did."""
        first, *others = (frame[frame["noise"] == n] for n in frame["noise"].unique())
        words = [state_gain(first), state_lambda(first), state_price(first)]
        return " ".join([*words, *map(state_contrast, others)])


def without_evaluation_prompts(
    requests: Sequence[EditRequest], config: RunConfig
) -> list[EditRequest]:
    """Leave later requests their own prompt alone to be evaluated by.

    All requests are evaluated again after every round; the later ones' paraphrases and
    neighbours would take most of the time and are not read. Paraphrases stay where they
    are edited as well.
    """
    unread: dict[str, tuple[str, ...]] = {"neighborhood_prompts": ()}
    if not config.requests.phrasings:
        unread["paraphrase_prompts"] = ()
    return [request.model_copy(update=unread) for request in requests]


def round_sizes(config: RunConfig) -> list[tuple[int, ...]]:
    """How many requests each party has in each round.

    Raises:
        InputError: If there is no round after the first.
    """
    if config.run.rounds < 2:
        raise InputError(
            "`run.rounds` is 1, and what is forgotten shows only after later rounds; "
            "set it to 2 or more"
        )
    rounds = range(1, config.run.rounds + 1)
    return [config.parties.sizes_of(number) for number in rounds]


def rows_of(result: TrialResult) -> Iterator[dict[str, object]]:
    """Read one run: its targets after each round, and the round's own requests."""
    later = 0
    for place, metrics in enumerate(result.report.metrics):
        later += sum(result.trial.sizes[place]) if place else 0
        row = {"seed": result.seed, **result.trial.labels, "edits": later}
        own = (metrics.rewrite_success, metrics.rewrite_acc) if place else (None, None)
        after = {name: getattr(metrics.by_round[0], name) for name in METRICS}
        yield row | after | {"later_success": own[0], "later_acc": own[1]}


def unedited_rows(result: TrialResult) -> Iterator[dict[str, object]]:
    """The unedited model's metrics of the targets, for all rounds that edit others."""
    if result.unedited is not None:
        before = {name: getattr(result.unedited, name) for name in METRICS}
        for row in rows_of(result):
            where = {name: row[name] for name in ("seed", "noise", "edits")}
            yield where | {"gamma": UNEDITED} | before


def draw_retention(frame: pd.DataFrame) -> Figure:
    """Draw the targets against the number of later requests, for one kind of noise."""
    noise = str(frame["noise"].iloc[0])
    columns = ["seed", "noise", "edits", "gamma", *METRICS]
    return Figure(
        title=f"The first round's requests under {NOISES[noise]}",
        caption="Mean over seeds, each seed faintly. The table shows the last round.",
        picture=draw_panels(
            frame,
            PANELS,
            x="edits",
            x_label="later requests",
            lines="gamma",
            names=LINES,
        ),
        table=mean_table(last_round(frame), ["gamma"], PANELS),
        numbers=frame[columns],
    )


def draw_price(frame: pd.DataFrame) -> Figure:
    """Draw how well the later requests themselves are written."""
    later = frame[(frame["edits"] > 0) & (frame["gamma"] != UNEDITED)]
    names = [panel.column for panel in PRICE]
    return Figure(
        title="What remembering costs: the later rounds' own requests",
        caption=(
            "Each round evaluated right after it, under "
            f"{NOISES[later['noise'].iloc[0]]}. The table shows the mean over rounds."
        ),
        picture=draw_panels(
            later,
            PRICE,
            x="edits",
            x_label="later requests",
            lines="gamma",
            names=LINES,
        ),
        table=mean_table(later, ["gamma"], PRICE),
        numbers=later[["seed", "noise", "edits", "gamma", *names]],
    )


def last_round(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows after the last round."""
    last: pd.DataFrame = frame[frame["edits"] == frame["edits"].max()]
    return last


def by_seed(frame: pd.DataFrame, gamma: str, metric: str) -> "pd.Series[float]":
    """A metric of each seed under one memory weight."""
    return frame[frame["gamma"] == gamma].groupby("seed")[metric].mean()


def difference(
    frame: pd.DataFrame, metric: str, gamma: str = ONE
) -> "pd.Series[float]":
    """By how many points a memory weight is above none, by seed."""
    return by_seed(frame, gamma, metric) - by_seed(frame, ZERO, metric)


def state_gain(frame: pd.DataFrame) -> str:
    """State what γ = 1 retains beyond γ = 0, and whether that was expected."""
    last = last_round(frame)
    changes = {name: difference(last, name) for name in METRICS}
    success = {g: state_mean(by_seed(last, g, "rewrite_success")) for g in (ZERO, ONE)}
    return (
        f"After {last['edits'].iloc[0]} {NOISES[last['noise'].iloc[0]]}, "
        f"{success[ONE]} per cent of the first round's requests still succeed with "
        f"γ = 1 and {success[ZERO]} with γ = 0. The difference in points is "
        f"{state_change(changes['rewrite_success'])} in rewrite success (ES), "
        f"{state_change(changes['rewrite_acc'])} in rewrite accuracy, "
        f"{state_change(changes['paraphrase_success'])} in paraphrase success (PS) and "
        f"{state_change(changes['neighborhood_success'])} in neighbourhood success "
        "(NS). "
        + compare_gain({name: change.mean() for name, change in changes.items()})
    )


def compare_gain(changes: Mapping[str, float]) -> str:
    """State for which of the metrics measured the expected came out."""
    least = {
        "rewrite_success": ("success", EXPECTED_GAIN),
        "rewrite_acc": ("accuracy", EXPECTED_GAIN),
        "neighborhood_success": ("the neighbourhood", 0.0),
    }
    return state_verdict(
        f"A gain of {EXPECTED_GAIN:.0f} points at no loss to the neighbourhood",
        {
            word: changes[name] >= bound
            for name, (word, bound) in least.items()
            if not math.isnan(changes[name])
        },
    )


def state_lambda(frame: pd.DataFrame) -> str:
    """State what γ = λ retains beyond γ = 0."""
    last = last_round(frame)
    gains = [
        f"{state_change(difference(last, name, LAMBDA))} in {word}"
        for word, name in (
            ("rewrite success (ES)", "rewrite_success"),
            ("rewrite accuracy", "rewrite_acc"),
            ("neighbourhood success (NS)", "neighborhood_success"),
        )
    ]
    return f"With γ = λ the difference to γ = 0 is {enumerate_words(gains)}."


def state_price(frame: pd.DataFrame) -> str:
    """State how much of the later rounds was written, which remembering can impair."""
    later = frame[frame["edits"] > 0]
    last = last_round(frame)
    parts = [
        f"{state_mean(by_seed(later, gamma, 'later_success'))} "
        f"({state_mean(by_seed(last, gamma, 'later_success'))}) with {gamma}"
        for gamma in (ZERO, ONE, LAMBDA)
    ]
    return (
        "Of the later requests themselves, evaluated right after their round, "
        f"{enumerate_words(parts)} per cent succeed in the mean over rounds (and in "
        "the last one)."
    )


def state_contrast(frame: pd.DataFrame) -> str:
    """State what the contrasting noise left of the targets."""
    last = last_round(frame)
    kept = [
        f"{state_mean(by_seed(last, gamma, 'rewrite_success'))} with {gamma}"
        for gamma in (ZERO, ONE)
    ]
    return (
        f"Under {NOISES[OTHER]} the first round's rewrite success (ES) ends at "
        f"{enumerate_words(kept)}, a difference of "
        f"{state_change(difference(last, 'rewrite_success'))} points."
    )
