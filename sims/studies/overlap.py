"""Overlap: what it does to the others that one request is made again and again."""

import random
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.evaluation.cases import sum_cases
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from server.report.data import RoundMetrics
from sims.studies.plots import Panel, draw_panels, mean_table
from sims.studies.pools import facts_by_subject
from sims.studies.study import Figure, Round, Study, Trial, TrialResult
from sims.studies.wording import enumerate_words, state_change

PARTIES = (1, 2, 5, 10)
"""By how many parties the repeated request is made in one round."""

THRESHOLD = 0.1
"""The residual ratio up to which a guarded party leaves a request out as known."""

TOGETHER, IN_TURN = "together", "in turn"
GUARDS = {
    TOGETHER: ("every copy counts", "copies count once"),
    IN_TURN: ("all are edited", "known ones are left out"),
}
"""What the lines are called, without the guard and with it."""

LEFT = Panel("repeated_norm", "‖z − h‖ of the repeated request", per_cent=False)
OTHERS_LEFT = Panel("others_norm", "mean ‖z − h‖ of the round's others", per_cent=False)
SCORES = (
    Panel("rewrite_success", "Rewrite success (ES) of the others"),
    Panel("rewrite_acc", "Rewrite accuracy of the others"),
    Panel("paraphrase_success", "Paraphrase success (PS) of the others"),
    Panel("neighborhood_success", "Neighbourhood success (NS) of the others"),
)
METRICS = ("score", *(panel.column for panel in SCORES))


class Overlap(Study):
    """Repeat one request together with others that are never repeated.

    Several parties make it in one round, and one of them once more in the next, where
    the residual shows what is left to write. Or one party makes it in round after
    round. The scenario sets the number of parties, how many other requests each
    has in a round, and how many rounds.
    """

    name = "overlap"
    title = "Overlap: the same request again and again"
    question = (
        "What does a request that is made more than once, by several parties in a "
        "round or in round after round, still write, and what does it do to the others?"
    )
    scenario = Path(__file__).resolve().parents[1] / "scenarios" / "overlap.toml"

    def __init__(self, threshold: float = THRESHOLD) -> None:
        """The setting by which guarded parties leave out small residual ratios."""
        self.threshold = threshold

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """Each number of parties, and the rounds in turn, without a guard and with."""
        check_guards(config)
        repeated, others = draw_requests(pool, config, seed)
        known = f"parties.skip-known={self.threshold}"
        counts = [number for number in PARTIES if number <= config.parties.count]
        made = [
            trial
            for copies in counts
            for trial in guard(
                TOGETHER,
                make_together(repeated, others[0], copies),
                "parties.deduplicate=true",
                copies,
            )
        ]
        return made + guard(IN_TURN, make_in_turn(repeated, others), known, len(others))

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a measurement: the repeated request's residual, or the others."""
        readers = {TOGETHER: read_together, IN_TURN: read_in_turn}
        frame = pd.DataFrame(
            [
                {"seed": result.seed, **result.trial.labels, **row}
                for result in results
                for row in readers[str(result.trial.labels["part"])](result)
            ]
        )
        return frame.astype(dict.fromkeys(METRICS, float))

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """What is left to write, and the others' scores, for both ways to repeat."""
        return [
            draw_figure(frame, part, title, panels)
            for part in (TOGETHER, IN_TURN)
            for title, panels in (
                ("what is left to write", residuals_of(part)),
                ("the other requests", SCORES),
            )
        ]

    def state(self, frame: pd.DataFrame) -> str:
        """What repetition left to write, what it did to the others, and the guards."""
        together, in_turn = (frame[frame["part"] == p] for p in (TOGETHER, IN_TURN))
        return " ".join(
            [
                state_together(together),
                state_in_turn(in_turn),
                state_known(in_turn, self.threshold),
            ]
        )


def check_guards(config: RunConfig) -> None:
    """Keep a scenario from guarding the trials that have no guard.

    Raises:
        InputError: If it sets one.
    """
    if config.parties.skip_known is not None or config.parties.deduplicate:
        raise InputError(
            "The overlap study sets `parties.skip-known` and `parties.deduplicate` "
            "itself, in half of its trials; leave them out of the scenario, and name "
            "the threshold by --skip-known"
        )


def draw_requests(
    pool: Sequence[EditRequest], config: RunConfig, seed: int
) -> tuple[EditRequest, list[Round]]:
    """Draw the repeated request and each round's others, all of distinct subjects.

    Raises:
        InputError: If the pool has too few subjects.
    """
    numbers = range(1, config.run.rounds + 1)
    sizes = [config.parties.sizes_of(number) for number in numbers]
    wanted = 1 + sum(map(sum, sizes))
    drawn = [facts[0] for facts in facts_by_subject(pool, random.Random(seed))]
    if len(drawn) < wanted:
        raise InputError(
            f"The study wants {wanted} requests with distinct subjects, and the pool "
            f"has {len(drawn)} subjects. Name a larger pool with `requests.source`, or "
            "lower `parties.requests-per-round` or `run.rounds`."
        )
    rest = iter(drawn[1:])
    others = [tuple(tuple(islice(rest, size)) for size in each) for each in sizes]
    return drawn[0], others


def make_together(
    repeated: EditRequest, others: Round, copies: int
) -> tuple[Round, ...]:
    """Give the first parties a copy each, and then the very first one once more."""
    first = tuple(
        (repeated, *own) if party < copies else own for party, own in enumerate(others)
    )
    return first, ((repeated,), *(() for _ in others[1:]))


def make_in_turn(repeated: EditRequest, others: Sequence[Round]) -> tuple[Round, ...]:
    """Let one party make the request in every round, and another all the others.

    Two parties do: the others' number is what weighs, not by how many they are made.
    """
    everything = (tuple(chain.from_iterable(parties)) for parties in others)
    return tuple(((repeated,), asked) for asked in everything)


def guard(
    part: str, rounds: tuple[Round, ...], setting: str, times: int
) -> list[Trial]:
    """Make a trial without a guard and one with it."""
    return [
        Trial(
            name=f"{part}_{times}{end}".replace(" ", "_"),
            rounds=rounds,
            settings=settings,
            labels={"part": part, "guard": GUARDS[part][index], "repeated": times},
        )
        for index, (end, settings) in enumerate((("", ()), ("_guarded", (setting,))))
    ]


Row = dict[str, object]
CaseRecord = dict[str, object]


def split_cases(
    result: TrialResult, number: int
) -> tuple[list[CaseRecord], list[CaseRecord]]:
    """Separate the cases of the repeated request from all others after a round."""
    requests = result.trial.requests
    same = requests[0].model_copy(update={"case_id": 0})
    copies: list[CaseRecord] = []
    others: list[CaseRecord] = []
    for case in result.cases(number):
        asked = requests[int(str(case["case_id"]))]
        plain = asked.model_copy(update={"case_id": 0})
        (copies if plain == same else others).append(case)
    return copies, others


def left_to_write(cases: Sequence[CaseRecord], number: int) -> float | None:
    """Mean residual norm of a round's cases, as it was before their edit."""
    norms = [
        float(str(case["residual_norm"]))
        for case in cases
        if case["round"] == number and case["residual_norm"] is not None
    ]
    return sum(norms) / len(norms) if norms else None


def measure_others(cases: Sequence[CaseRecord], metrics: RoundMetrics) -> Row:
    """Metrics of the requests that no party repeated, and what was left out."""
    means = sum_cases(cases).means()
    found: Row = {name: means.get(name) for name in METRICS}
    return found | {"left_out": metrics.left_out, "known": metrics.known}


def read_together(result: TrialResult) -> Iterator[Row]:
    """Read what copies in one round left to write, and the others after that round."""
    times = result.trial.labels["repeated"]
    copies, others = split_cases(result, 1)
    again, _ = split_cases(result, 2)
    yield {"times": 0, "repeated_norm": left_to_write(copies, 1)}
    yield {
        "times": times,
        "repeated_norm": left_to_write(again, 2),
        **measure_others(others, result.report.metrics[0]),
    }


def read_in_turn(result: TrialResult) -> Iterator[Row]:
    """Read each round: residuals before its edit, the others so far after it."""
    for number, metrics in enumerate(result.report.metrics, start=1):
        copies, others = split_cases(result, number)
        yield {
            "times": number - 1,
            "repeated_norm": left_to_write(copies, number),
            "others_norm": left_to_write(others, number),
        }
        yield {"times": number, **measure_others(others, metrics)}


def residuals_of(part: str) -> tuple[Panel, ...]:
    """The residuals that one way to repeat shows; others are edited once together."""
    return (LEFT,) if part == TOGETHER else (LEFT, OTHERS_LEFT)


def draw_figure(
    frame: pd.DataFrame, part: str, title: str, panels: Sequence[Panel]
) -> Figure:
    """Draw some metrics against how often the request had been made."""
    own = frame[frame["part"] == part]
    columns = [panel.column for panel in panels]
    measured = own[own[columns].notna().any(axis=1)]
    where = "In one round" if part == TOGETHER else "In round after round"
    label = "parties" if part == TOGETHER else "rounds"
    return Figure(
        title=f"{where}: {title}",
        caption=f"Against the number of {label} that had made the request. Mean over "
        "seeds, each seed faintly.",
        picture=draw_panels(
            measured,
            panels,
            x="times",
            x_label=f"{label} that had made the request",
            lines="guard",
            names=GUARDS[part],
        ),
        table=mean_table(measured, ["guard", "times"], panels),
        numbers=measured[["seed", "guard", "times", *columns]],
    )


def means_by_times(frame: pd.DataFrame, guard: str, metric: str) -> "pd.Series[float]":
    """A metric by how often the request had been made, mean over seeds."""
    own = frame[(frame["guard"] == guard) & frame[metric].notna()]
    return own.groupby("times")[metric].mean()


def change(frame: pd.DataFrame, guard: str, metric: str) -> "pd.Series[float]":
    """A metric at the most repetitions less that at the fewest, by seed."""
    own = frame[(frame["guard"] == guard) & frame[metric].notna()]
    wide = own.pivot_table(index="seed", columns="times", values=metric)
    return wide[wide.columns.max()] - wide[wide.columns.min()]


def write_row(values: "pd.Series[float]", digits: int = 2) -> str:
    """Write several numbers as a sentence does."""
    return enumerate_words([f"{value:.{digits}f}" for value in values])


def headline(frame: pd.DataFrame) -> tuple[str, str]:
    """Choose the metric to report, and its name; a pool may not support all."""
    names = {
        "score": "score",
        "rewrite_success": "rewrite success (ES)",
        "rewrite_acc": "rewrite accuracy",
    }
    measured = [name for name in names if frame[name].notna().any()]
    return measured[0], names[measured[0]]


def state_together(frame: pd.DataFrame) -> str:
    """State what copies in one round leave, and what they do to the others."""
    plain, guarded = GUARDS[TOGETHER]
    metric, name = headline(frame)
    left = {
        each: means_by_times(frame, each, "repeated_norm") for each in GUARDS[TOGETHER]
    }
    parties = enumerate_words([str(times) for times in left[plain].index[1:]])
    return (
        f"Made by {parties} parties in one round, the request has "
        f"‖z − h‖ = {write_row(left[plain].iloc[1:])} left to write if every copy "
        f"counts and {write_row(left[guarded].iloc[1:])} if copies count once; it had "
        f"{left[plain].iloc[0]:.2f} before any edit. The others' {name} is "
        f"{write_row(means_by_times(frame, plain, metric), 1)}, from fewest to most "
        f"copies a change of {state_change(change(frame, plain, metric))} points; "
        f"with copies counted once the change is "
        f"{state_change(change(frame, guarded, metric))}. "
        f"`deduplicate` left out {frame['left_out'].sum():.0f} copies in all."
    )


def state_in_turn(frame: pd.DataFrame) -> str:
    """State the residual of each round, next to the others'."""
    plain, guarded = GUARDS[IN_TURN]
    metric, name = headline(frame)
    left = means_by_times(frame, plain, "repeated_norm")
    others = means_by_times(frame, plain, "others_norm")
    return (
        f"Made in round after round, it has ‖z − h‖ = {write_row(left)} before each "
        f"round's edit, where the round's other requests have {write_row(others)}. "
        f"After the last round the {name} of all others is "
        f"{means_by_times(frame, plain, metric).iloc[-1]:.1f}, and "
        f"{means_by_times(frame, guarded, metric).iloc[-1]:.1f} where known requests "
        "are left out."
    )


def state_known(frame: pd.DataFrame, threshold: float) -> str:
    """State how many requests the guard left out."""
    own = frame[(frame["guard"] == GUARDS[IN_TURN][1]) & frame["known"].notna()]
    repeats = len(own) - own["seed"].nunique()
    return (
        f"`skip-known = {threshold:g}` left out {own['known'].sum():.0f} requests; the "
        f"request was repeated {repeats} times."
    )
