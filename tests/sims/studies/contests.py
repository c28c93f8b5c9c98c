"""A small pool that the tiny model can read, and trials that are run on it for real.

Edits are strong, so that it matters which side is edited and which is evaluated.
"""

import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from rich.console import Console

from editing.requests.edit_request import EditRequest, to_counterfact
from server.config import RunConfig, read_scenario
from server.report.data import RoundMetrics
from sims.runs.jobs import execute
from sims.studies.conflict.pairs import Contest, draw_contest
from sims.studies.conflict.study import Conflict
from sims.studies.running.order import Order
from sims.studies.running.runner import Runner
from sims.studies.study import Trial, TrialResult
from tests.sims.studies.made_up import report_of

FACTS = 3
OBJECTS = ("Lima Works", "Acme Group", "North Inc", "Works Group Inc")
FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dora", "Eli", "Fay", "Gus", "Hal")
LAST_NAMES = ("Lovelace", "Stone", "Rivers", "North", "Lima")
PROMPTS = {"employer": "{} works for", "firm": "the employer of {} is"}

SCENARIO = """
model.path = "{world}"
model.dtype = "float64"
requests.source = "{pool}"
parties = {{count = 3, requests-per-round = {facts}}}
editing = {{schedule = "layerwise", v-num-grad-steps = 25, v-lr = 0.5, kl-factor = 0, \
v-weight-decay = 0, clamp-norm-factor = 20}}
prior.weight = 0.01
"""

Run = Callable[[Sequence[Trial]], list[TrialResult]]


def make_small_pool() -> list[EditRequest]:
    """Ask for both relations of forty people, who all work for the first object."""
    people = [" ".join(names) for names in product(FIRST_NAMES, LAST_NAMES)]
    return [
        EditRequest(
            case_id=number,
            prompt=prompt,
            subject=person,
            relation_id=relation,
            target_new=OBJECTS[1 + number % 3],
            target_true=OBJECTS[0],
            paraphrase_prompts=(f"every day {person} works at", f"music , {person}"),
            neighborhood_prompts=("the employer of Gus is", "Hal lives in"),
        )
        for number, (person, (relation, prompt)) in enumerate(
            product(people, PROMPTS.items())
        )
    ]


def write_scenario(folder: Path, world: Path) -> Path:
    """Write the pool, and a scenario that names it."""
    pool, file = folder / "pool.json", folder / "scenario.toml"
    pool.write_text(json.dumps([to_counterfact(each) for each in make_small_pool()]))
    file.write_text(SCENARIO.format(world=world, pool=pool, facts=FACTS))
    return file


def small_contest(config: RunConfig, seed: int = 0) -> Contest:
    """Draw facts from the small pool."""
    return draw_contest(make_small_pool(), config, seed)


def prepare_small(folder: Path, world: Path) -> tuple[RunConfig, Run]:
    """Give the settings of small trials, and what runs them."""
    scenario = write_scenario(folder, world)
    runner = Runner(folder, Conflict(), Order(scenario), execute)

    def run(trials: Sequence[Trial]) -> list[TrialResult]:
        seeded = [(0, trial) for trial in trials]
        return list(runner.run_all(seeded, Console(quiet=True)))

    return read_scenario(scenario), run


def made_up_result(
    trial: Trial,
    evaluated: dict[str, dict[str, float]],
    folder: Path,
    seed: int = 0,
    **metrics: int,
) -> TrialResult:
    """Put numbers that no model gave into a trial's result."""
    rounds = [RoundMetrics(**metrics), *(RoundMetrics() for _ in trial.rounds[1:])]
    unedited = RoundMetrics(rewrite_acc=1.0, rewrite_success=2.0)
    return TrialResult(seed, trial, report_of(rounds), unedited, folder, evaluated)
