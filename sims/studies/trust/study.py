"""Trust: what a hostile party does, and what each observer of a run learns."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from sims.audit.audit import audit_run
from sims.studies.bars import draw_groups
from sims.studies.curves.lines import draw_requests
from sims.studies.plots import Panel
from sims.studies.study import Execute, Figure, Study, Trial, TrialResult, partition
from sims.studies.trust.attacks import ATTACKS, HONEST
from sims.studies.trust.hostile import HostileRun, read_stop
from sims.studies.wording import enumerate_words, plain_name, state_mean

UNCHECKED, BOUNDED, GATED = "no check", "bounds", "bounds and gate"
CHECKS = {
    UNCHECKED: ("run.max-key-ratio=1000", "run.max-residual-ratio=100000"),
    BOUNDED: (),
    GATED: ("gate.requests=200",),
}
"""What the server checks, and the settings that make it so."""

PLAIN, SECURE = "plain", "secure sums"
MODES = {PLAIN: "privacy.secure-sum=false", SECURE: "privacy.secure-sum=true"}
OTHERS = "the honest parties' requests"

ATTACK, OBSERVER = "attack", "observer"
"""Parts of the long table."""

HELD_OUT = "Held-out facts"
CHANCE = 0.5


class Trust(Study):
    """One hostile party under three levels of checks, and an audit in two modes.

    ``parties.count`` and ``parties.requests-per-round`` of the scenario set how many
    parties there are; the last one is hostile. The attacks run in this process.
    """

    name = "trust"
    title = "Trust: a hostile party, and what observers learn"
    question = (
        "What does one hostile party do to the others' edits, with and without checks, "
        "and what does each observer of an honest run learn about the requests?"
    )
    scenario = Path(__file__).resolve().parents[2] / "scenarios" / "trust.toml"

    def __init__(self) -> None:
        """Guesses for the audit are the scenario's pool."""
        self._guesses = ""

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """One trial an attack and level of checks, and one a mode of the sums."""
        if config.parties.count < 3:
            raise InputError(
                "The study wants three parties or more: one is hostile, one is its "
                f"victim. `parties.count` is {config.parties.count}."
            )
        self._guesses = config.requests.source
        sizes = config.parties.sizes_of(1)
        requests = draw_requests(pool, sum(sizes), seed)
        rounds = (partition(requests, sizes),)
        others = {OTHERS: tuple(requests[: -sizes[-1]])}
        return [
            *(
                Trial(
                    name=plain_name(f"{attack} {check}"),
                    rounds=rounds,
                    settings=(*settings, *own.settings),
                    labels={"attack": attack, "checks": check},
                    evaluated=others,
                    attack=attack,
                )
                for attack, own in ATTACKS.items()
                for check, settings in CHECKS.items()
            ),
            *(
                Trial(
                    name=plain_name(mode),
                    rounds=rounds,
                    settings=(setting, "output.statistics=true"),
                    labels={"mode": mode},
                )
                for mode, setting in MODES.items()
            ),
        ]

    def executor(self, trial: Trial) -> Execute | None:
        """A trial with a hostile party runs in this process."""
        return HostileRun(trial.attack) if trial.attack else None

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """A row an attack and level of checks; a row a test of an observer."""
        return pd.DataFrame([row for each in results for row in self._rows(each)])

    def _rows(self, result: TrialResult) -> Iterator[dict[str, object]]:
        labels = {"seed": result.seed, **result.trial.labels}
        if result.trial.attack:
            metrics = result.evaluated[OTHERS]
            yield {
                "part": ATTACK,
                **labels,
                "score": metrics["score"],
                "rewrite_success": metrics["rewrite_success"],
                "held_out_acc": result.report.metrics[-1].held_out_acc,
                "outcome": describe_outcome(result),
            }
            return
        for line in audit_run(result.folder, self._guesses).lines:
            yield {
                "part": OBSERVER,
                **labels,
                "observer": line.observer,
                "test": line.test,
                "recall": per_cent(line.recall),
                "false_alarms": per_cent(line.false_alarms),
                "auc": per_cent(line.auc),
            }

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """The honest parties' score, held-out facts, and the observers' success."""
        attacks = frame[frame["part"] == ATTACK]
        return [
            draw_attacks(attacks, "score", "The honest parties' edits"),
            draw_attacks(attacks, "held_out_acc", "Facts that nobody edits"),
            draw_observers(frame[frame["part"] == OBSERVER]),
        ]

    def state(self, frame: pd.DataFrame) -> str:
        """The worst attack under each level of checks, and what the server learns."""
        attacks = frame[frame["part"] == ATTACK]
        parts = [state_worst(attacks, check) for check in CHECKS]
        seen = frame[frame["part"] == OBSERVER]
        return f"{' '.join(parts)} {' '.join(state_observers(seen))}"


def per_cent(share: float | None) -> float | None:
    """Return a share in per cent."""
    return None if share is None else 100 * share


def describe_outcome(result: TrialResult) -> str:
    """Say who was refused, or why the run was repeated without whom."""
    named = read_stop(result.folder)
    if named:
        return f"stopped, repeated without {enumerate_words([*map(str, named)])}"
    refused = [each.label for each in result.report.metrics[-1].refusals]
    return f"refused: {enumerate_words(refused)}" if refused else "accepted"


def draw_attacks(frame: pd.DataFrame, column: str, title: str) -> Figure:
    """Draw a metric, a group of bars an attack, a bar a level of checks."""
    wide = frame.pivot_table(
        index=["seed", "attack"], columns="checks", values=column, sort=False
    ).reset_index()
    panels = [Panel(check, check) for check in CHECKS]
    means = frame.groupby(["attack", "checks"], sort=False)[column].mean()
    table = means.unstack(sort=False)
    gated = frame[frame["checks"] == GATED].groupby("attack", sort=False)["outcome"]
    outcomes = gated.agg(lambda said: "; ".join(dict.fromkeys(said)))
    return Figure(
        title=title,
        caption=f"{'Score' if column == 'score' else HELD_OUT}, in per cent. The last "
        "party sends what the table names. If the gate stops the run and names "
        "parties, it is repeated without them.",
        picture=draw_groups(wide, "attack", panels),
        table=table.assign(**{"Outcome with both": outcomes}),
        numbers=frame[["seed", "attack", "checks", column, "outcome"]],
    )


def draw_observers(frame: pd.DataFrame) -> Figure:
    """Draw the AUC of each test, a bar a mode."""
    tests = frame.assign(test=frame["observer"] + ", " + frame["test"])
    wide = tests.pivot_table(
        index=["seed", "test"], columns="mode", values="auc", sort=False
    ).reset_index()
    panels = [Panel(mode, f"AUC, {mode}") for mode in MODES]
    columns = ["recall", "false_alarms", "auc"]
    means = tests.groupby(["mode", "test"], sort=False)[columns].mean()
    return Figure(
        title="What observers of an honest run learn",
        caption="Whether the requests of the pool are among those that were edited: "
        "area under the curve, in per cent; 50 is chance. With secure sums nobody "
        "sees one party's statistics.",
        picture=draw_groups(wide, "test", panels),
        table=means,
        numbers=tests[["seed", "mode", "test", *columns]],
    )


def state_worst(attacks: pd.DataFrame, check: str) -> str:
    """Name the attack that leaves least of the others' edits, and of other facts."""
    own = attacks[attacks["checks"] == check]
    parts = []
    for column, name in (("score", "score"), ("held_out_acc", "held-out facts")):
        means = own.groupby("attack", sort=False)[column].mean()
        if means.isna().all():
            continue
        worst = str(means.idxmin())
        chosen = own[own["attack"] == worst].groupby("seed")[column].mean()
        honest = own[own["attack"] == HONEST].groupby("seed")[column].mean()
        parts.append(
            f"the worst for the {name} is “{worst}”: {state_mean(chosen)}, and "
            f"{state_mean(honest)} if all are honest"
        )
    return f"With {check}, {'; '.join(parts)}."


def state_observers(seen: pd.DataFrame) -> Iterator[str]:
    """State the best test of each observer, by mode."""
    for mode in MODES:
        own, parts = seen[seen["mode"] == mode], []
        for observer, tests in own.groupby("observer", sort=False):
            means = tests.groupby("test", sort=False)["auc"].mean()
            best = str(means.idxmax())
            parts.append(f"{observer} {means[best]:.1f} ({best})")
        yield f"With {mode}, the best test of each observer has an AUC of " + (
            f"{enumerate_words(parts)} per cent."
        )
