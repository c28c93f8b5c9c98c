"""The parts of a paper: comparisons and studies, each with its trials."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from editing.base.errors import InputError
from server.config import RunConfig, read_scenario
from server.tables import ConfigurationError, read_tables, resolve_paths
from sims.paper.comparison import Comparison, Grid
from sims.paper.sweep import Point, read_sweeps
from sims.studies.pools import read_pool
from sims.studies.running.order import Order
from sims.studies.running.trials import PlannedTrial
from sims.studies.study import Study, Trial

LoadStudy: TypeAlias = Callable[[Order], Study]
"""Makes a study from what it is run with."""

COMPARE, PAPER = "compare", "paper"
SINGLE, ROUNDS = "single", "rounds"
DEFAULT_STUDIES = ("order",)
"""A quick one; others take minutes."""

SHARED_TABLES = ("model", "requests", "prior", "editing", "editor")
"""What a scenario of a paper says about every study; sizes are a study's own."""


class SingleRound(Comparison):
    """A comparison after one round."""

    title = "Single round"
    question = "Which merge keeps what all parties edit in one round?"


class SeveralRounds(Comparison):
    """A comparison after several rounds."""

    title = "Several rounds"
    question = "What is left of all edits after several rounds?"


PARTS = {
    SINGLE: (SingleRound, ("run.rounds=1",)),
    ROUNDS: (SeveralRounds, ()),
}
"""The comparisons of a paper, and what each sets."""


@dataclass(frozen=True, slots=True)
class Section:
    """A study with what it is run with.

    Attributes:
        name: Names its files and, before a trial's own name, its trials.
        study: What is run.
        scenario: Its TOML file.
        overrides: Settings over it.
        seeds: All trials are run once for each.
    """

    name: str
    study: Study
    scenario: Path
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def config(self) -> RunConfig:
        """Its settings, which each trial changes a little."""
        if isinstance(self.study, Comparison):
            return self.study.configure(())
        return read_scenario(self.scenario, self.overrides)

    def plan(self) -> list[PlannedTrial]:
        """Plan its trials; a mistake in a setting or too small a pool is refused."""
        config = self.config
        pool = [] if isinstance(self.study, Comparison) else read_pool(config)
        return [
            PlannedTrial(
                seed,
                trial,
                self.scenario,
                self.overrides,
                self.name,
                self.study.executor(trial),
            )
            for seed in self.seeds
            for trial in self._trials(pool, config, seed)
        ]

    def _trials(
        self, pool: Sequence[object], config: RunConfig, seed: int
    ) -> list[Trial]:
        try:
            return self.study.trials(pool, config, seed)  # type: ignore[arg-type]
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None


def compare_sections(order: Order) -> list[Section]:
    """Return the one part of `compare`."""
    scenario = order.scenario or Comparison.scenario
    grid = grid_of(order)
    study = Comparison(grid, scenario, order.overrides)
    check(study, grid)
    return [Section(COMPARE, study, scenario, order.overrides, order.seeds)]


def paper_sections(
    order: Order, known: Mapping[str, LoadStudy], scenarios: Path
) -> list[Section]:
    """Return the parts of a paper: one round, several, and the studies it names.

    An unknown study and a wrong setting are an `InputError`.

    Args:
        order: What it is run with.
        known: The studies there are.
        scenarios: The folder of the studies' own scenarios.
    """
    scenario = order.scenario or Comparison.scenario
    rounds = read_scenario(scenario, order.overrides).run.rounds
    refuse_swept_rounds(grid_of(order))
    sections = []
    for name, (part, settings) in PARTS.items():
        if name == ROUNDS and rounds == 1:
            continue
        grid = replace(grid_of(order), settings=settings)
        study = part(grid, scenario, order.overrides)
        check(study, grid)
        section = Section(name, study, scenario, order.overrides, order.seeds)
        sections.append(section)
    shared = share_settings(order.scenario)
    for name in studies_of(order, known):
        overrides = (*shared, *order.overrides)
        own = replace(order, scenario=None, overrides=overrides, options=())
        place = scenarios / f"{name}.toml"
        sections.append(Section(name, known[name](own), place, overrides, order.seeds))
    return sections


def grid_of(order: Order) -> Grid:
    """Read what a comparison runs from its options."""
    sweeps = order.repeated("--sweep")
    return Grid(
        editors=read_names(order, "--editors"),
        merges=read_names(order, "--merges"),
        points=tuple(read_sweeps(sweeps)) if sweeps else (Point(),),
    )


def refuse_swept_rounds(grid: Grid) -> None:
    """Refuse to sweep what the parts of a paper set themselves.

    Raises:
        InputError: If ``run.rounds`` is swept.
    """
    if any(key == "run.rounds" for point in grid.points for key, _ in point.labels):
        raise InputError(
            "--sweep run.rounds: a paper has one part with a single round and one with "
            "the scenario's; sweep it with `compare`"
        )


def read_names(
    order: Order, option: str, otherwise: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Read the names of an option, each once.

    Raises:
        InputError: If there is nothing between two commas, or a name twice.
    """
    text = order.own.get(option)
    if text is None:
        return otherwise
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"{option} {text}: wanted names between the commas, each once")
    return names


def studies_of(order: Order, known: Mapping[str, LoadStudy]) -> tuple[str, ...]:
    """Return the studies that a paper runs; ``none`` is none of them.

    Raises:
        InputError: If one is unknown.
    """
    names = read_names(order, "--studies", DEFAULT_STUDIES)
    if names == ("none",):
        return ()
    for name in names:
        if name not in known:
            raise InputError(
                f"--studies: there is no study {name!r}; there are "
                f"{', '.join(sorted(known))}, and `none` for none of them"
            )
    return names


def share_settings(scenario: Path | None) -> tuple[str, ...]:
    """Return what a paper's scenario says of its studies, too, each ``key=value``."""
    if scenario is None:
        return ()
    tables = resolve_paths(read_tables(scenario), scenario.resolve().parent)
    found = []
    for table in SHARED_TABLES:
        own = tables.get(table, {})
        assert isinstance(own, dict)
        found += [
            f"{table}.{key}={json.dumps(value, ensure_ascii=False)}"
            for key, value in own.items()
        ]
    return tuple(found)


def check(study: Comparison, grid: Grid) -> None:
    """Validate every choice of a comparison before anything is run.

    Raises:
        InputError: Naming the option that gave what is wrong.
    """
    study.configure(())
    try:
        for variant in study.variants():
            study.configure(variant.settings)
    except ConfigurationError as error:
        raise InputError(name_option(str(error), grid)) from None


def name_option(message: str, grid: Grid) -> str:
    """Name the option of a comparison in place of the setting that it makes."""
    options = {"editor.name": "--editors", "merge.name": "--merges"}
    options |= {
        key: f"--sweep {key}" for point in grid.points for key, _ in point.labels
    }
    for key, option in options.items():
        message = message.replace(f"--set {key}:", f"{option}:")
    return message
