"""Reading back: what becomes of AlphaEdit if its deltas are merged as MEMIT's are."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import hypot
from pathlib import Path

import pandas as pd
from torch import Tensor

from editing.algebra.deltas import load_delta
from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.studies.noise import cut, one_by_one
from sims.studies.plots import Panel, draw_panels, mean_table
from sims.studies.pools import facts_by_subject
from sims.studies.study import Figure, Study, Trial, TrialResult, partition
from sims.studies.wording import state_verdict

APART, SHARED = "apart", "shared"
KINDS = {
    APART: "requests about a subject each",
    SHARED: "requests about a quarter as many subjects, each at several parties",
}
SHARING = 4
"""Requests about each subject among the shared ones."""

GLOBAL, POOLED, NAIVE = "one machine", "statistics pooled", "deltas read back"
LINES = (GLOBAL, POOLED, NAIVE)
MERGES = {GLOBAL: "collabedit", POOLED: "collabedit", NAIVE: "collabedit-deltas"}

ALL = "all"
"""The row of all weights together."""

SCORES = (
    Panel("score", "Score"),
    Panel("rewrite_success", "Rewrite success"),
    Panel("paraphrase_success", "Paraphrase success"),
    Panel("neighborhood_success", "Neighbourhood success"),
)
DISTANCE = Panel("distance", "‖Δ − Δ global‖ / ‖Δ global‖", per_cent=False)
METRICS = tuple(panel.column for panel in SCORES)
COLLAPSE = 20.0
"""Points of score below one machine from which this counts as a collapse."""


class AlphaEditNaive(Study):
    """Edit the same requests on one machine and by ever more parties, with two merges.

    `collabedit` pools statistics and solves by the editor. `collabedit-deltas` reads
    each party's cross term back from its delta as if MEMIT had made it. The scenario's
    ``parties.count`` and ``parties.requests-per-round`` set how many requests there
    are. They are edited at once, by two parties, all, and one a request, and cut into
    ``run.rounds`` rounds.
    """

    name = "alphaedit-naive"
    title = "AlphaEdit, merged as if it were MEMIT"
    question = (
        "What does a merge lose that reads statistics back from the parties' deltas by "
        "MEMIT's formula, when another editor has solved them?"
    )
    scenario = (
        Path(__file__).resolve().parents[1] / "scenarios" / "alphaedit-naive.toml"
    )

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """Both kinds of requests, by one machine and by parties, in rounds as well."""
        parties, rounds = config.parties.count, config.run.rounds
        total = sum(config.parties.sizes_of(1))
        drawn = draw_requests(pool, total, seed)
        ways = [
            (GLOBAL, 1, 1),
            (NAIVE, 2, 1),
            (POOLED, parties, 1),
            (NAIVE, parties, 1),
            (NAIVE, total, 1),
        ]
        if rounds > 1:
            ways += [(GLOBAL, 1, rounds)]
            ways += [(line, parties, rounds) for line in (POOLED, NAIVE)]
        return [
            Trial(
                name=f"{kind}_{MERGES[line]}_{count}_parties_{number}_rounds",
                rounds=tuple(
                    partition(own, even_sizes(len(own), count))
                    for own in cut(requests, even_sizes(len(requests), number))
                ),
                settings=(f"merge.name={MERGES[line]}",),
                labels={
                    "editor": config.editor.name,
                    "kind": kind,
                    "line": line,
                    "parties": count,
                    "rounds": number,
                    "requests": len(requests),
                },
            )
            for kind, requests in drawn.items()
            for line, count, number in dict.fromkeys(ways)
        ]

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row a trial and weight; scores are of all requests after the last round."""
        reference = {
            (each.seed, each.trial.labels["kind"], each.trial.labels["rounds"]): each
            for each in results
            if each.trial.labels["line"] == GLOBAL
        }
        rows = []
        for result in results:
            labels = result.trial.labels
            one = reference[result.seed, labels["kind"], labels["rounds"]]
            last = result.report.metrics[-1]
            metrics = {name: getattr(last, name) for name in METRICS}
            for gaps in compare(read_update(result), read_update(one)):
                rows.append({"seed": result.seed, **labels, **metrics, **gaps})
        return pd.DataFrame(rows).astype(dict.fromkeys(METRICS, float))

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """Scores and distances of each kind, by parties and by rounds."""
        all_parties = frame.loc[frame["rounds"] > 1, "parties"]
        figures = []
        for kind in dict.fromkeys(frame["kind"]):
            own = frame[frame["kind"] == kind]
            once = own[own["rounds"] == 1]
            figures.append(draw_figure(once, str(kind), "parties"))
            if len(all_parties):
                several = own[own["parties"].isin({*all_parties})]
                figures.append(draw_figure(several, str(kind), "rounds"))
        return figures

    def state(self, frame: pd.DataFrame) -> str:
        """What pooling and reading back lose, and where that is a collapse."""
        whole = frame[frame["weight"] == ALL]
        kinds = [whole[whole["kind"] == kind] for kind in whole["kind"].unique()]
        return " ".join([state_pooled(whole), *map(state_kind, kinds), verdict(whole)])


def draw_requests(
    pool: Sequence[EditRequest], count: int, seed: int
) -> dict[str, list[EditRequest]]:
    """Draw a request about each subject, and four about each of fewer subjects.

    These may word a fact differently, and are ordered so that parties that take them in
    order have one of a subject. A kind that the pool is too small for is left out.

    Raises:
        InputError: If it is too small for both.
    """
    draw = random.Random(seed)
    apart = [facts[:1] for facts in facts_by_subject(pool, draw)]
    subjects: dict[str, list[EditRequest]] = {}
    for request in draw.sample(pool, len(pool)):
        subjects.setdefault(request.subject, []).append(request)
    several = [own[:SHARING] for own in subjects.values() if len(own) >= SHARING]
    sources = {APART: apart, SHARED: several[: -(-count // SHARING)]}
    drawn = {
        kind: list(islice(one_by_one(source), count))
        for kind, source in sources.items()
    }
    whole = {kind: asked for kind, asked in drawn.items() if len(asked) == count}
    if not whole:
        raise InputError(
            f"The study wants {count} requests about as many subjects, or {SHARING} "
            f"about each of {-(-count // SHARING)}, and the pool has {len(pool)} about "
            f"{len(subjects)} subjects. Name a larger pool with `requests.source`, or "
            "lower `parties.requests-per-round`."
        )
    return whole


def even_sizes(count: int, parts: int) -> list[int]:
    """Cut a number into parts as even as can be, the larger ones first."""
    return [count // parts + (place < count % parts) for place in range(parts)]


def read_update(result: TrialResult) -> Mapping[str, Tensor]:
    """Read what a trial's rounds wrote in all."""
    return load_delta(result.folder / "delta.safetensors")[0]


def compare(
    delta: Mapping[str, Tensor], reference: Mapping[str, Tensor]
) -> Iterator[dict[str, str | float]]:
    """Measure an update by weight against another, then all weights together.

    ``distance`` is ``‖Δ − Δ₀‖ / ‖Δ₀‖`` and ``length`` is ``‖Δ‖ / ‖Δ₀‖``.
    """
    norms: dict[str, tuple[float, ...]] = {
        name: (
            float((delta[name].double() - update.double()).norm()),
            float(delta[name].double().norm()),
            float(update.double().norm()),
        )
        for name, update in reference.items()
    }
    norms[ALL] = tuple(hypot(*each) for each in zip(*norms.values(), strict=True))
    for name, (gap, length, whole) in norms.items():
        yield {"weight": name, "distance": gap / whole, "length": length / whole}


def draw_figure(frame: pd.DataFrame, kind: str, x: str) -> Figure:
    """Draw scores and distance against the number of parties or of rounds."""
    panels, whole = (*SCORES, DISTANCE), frame[frame["weight"] == ALL]
    return Figure(
        title=f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}, by {x}",
        caption="After the last round, of all requests. Mean over seeds, each seed "
        "faintly. Distances of each weight are among the numbers.",
        picture=draw_panels(
            whole, panels, x=x, x_label=f"number of {x}", lines="line", names=LINES
        ),
        table=mean_table(whole, [x, "line"], panels),
        numbers=frame.drop(columns=["editor", "kind"]),
    )


def of_line(frame: pd.DataFrame, line: str) -> pd.DataFrame:
    """Keep one way to merge."""
    own: pd.DataFrame = frame[frame["line"] == line]
    return own


def state_pooled(frame: pd.DataFrame) -> str:
    """State how far pooled statistics are from one machine at most."""
    own = of_line(frame, POOLED)
    return (
        f"With the editor {frame['editor'].iloc[0]}, the update of pooled statistics "
        f"differs from that of one machine by at most {own['distance'].max():.1e} of "
        "its norm."
    )


def state_kind(frame: pd.DataFrame) -> str:
    """State what reading back does to one kind of requests, way by way."""
    words = [
        f"{place}: {gap:.1f} times the norm away, {length:.1f} times as long, score "
        f"{score:.1f} where one machine has {best:.1f}"
        for place, gap, length, score, best in ways_of(frame)
    ]
    head = f"{frame['requests'].iloc[0]} {KINDS[str(frame['kind'].iloc[0])]}"
    return f"Reading back, {head}: {'; '.join(words)}."


def ways_of(
    frame: pd.DataFrame,
) -> Iterator[tuple[str, float, float, float, float]]:
    """Give what reading back does by parties and rounds, means over seeds."""
    best = of_line(frame, GLOBAL).groupby("rounds")["score"].mean()
    own = of_line(frame, NAIVE)
    for _, way in own.groupby(["rounds", "parties"]):
        rounds, parties = (int(way[name].iloc[0]) for name in ("rounds", "parties"))
        place = f"{parties} parties in {rounds} round" + ("s" if rounds > 1 else "")
        means = [float(way[name].mean()) for name in ("distance", "length", "score")]
        yield place, means[0], means[1], means[2], float(best[rounds])


def verdict(frame: pd.DataFrame) -> str:
    """State where reading back is a collapse, and where it is none."""
    held = {
        f"{place} with {KINDS[str(kind)]}": best - score >= COLLAPSE
        for kind in frame["kind"].unique()
        for place, _, _, score, best in ways_of(frame[frame["kind"] == kind])
    }
    return state_verdict(
        f"A collapse, {COLLAPSE:.0f} points of score below one machine and more,", held
    )
