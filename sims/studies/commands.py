"""The commands of ``python -m sims study``.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from editing.errors import InputError

if TYPE_CHECKING:  # it draws, and what draws is slow to import
    from sims.studies.study import Study

app = typer.Typer(
    name="study",
    help="Run a study: a row of runs, its figures, and what they say in numbers.",
    no_args_is_help=True,
)

SeedsOption = Annotated[
    str, typer.Option(metavar="N,N,…", help="Run all trials once for each seed.")
]
ScenarioOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Run it on a scenario of your own: another model, pool, size or merge.",
        show_default="sims/scenarios/STUDY.toml",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting of the scenario, such as run.rounds=5. Repeatable.",
    ),
]
EngineOption = Annotated[
    Literal["in-process", "flower"],
    typer.Option(help="What carries the messages; the results are the same."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder to make for the results.",
        show_default="results/study-STUDY/run_NUMBER",
    ),
]


@app.command("forgetting")
def study_forgetting(
    seeds: SeedsOption = "0",
    scenario: ScenarioOption = None,
    settings: SetOption = None,
    engine: EngineOption = "in-process",
    output: OutputOption = None,
) -> None:
    """Whether later rounds undo what the first one edited."""
    from sims.studies.forgetting import Forgetting

    carry_out(Forgetting(), seeds, scenario, settings, engine, output)


@app.command("overlap")
def study_overlap(
    seeds: SeedsOption = "0",
    scenario: ScenarioOption = None,
    settings: SetOption = None,
    engine: EngineOption = "in-process",
    output: OutputOption = None,
    skip_known: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="RATIO",
            help="The residual ratio up to which guarded parties leave a request out.",
            show_default="0.1",
        ),
    ] = None,
) -> None:
    """What it does to the others that one request is made again and again."""
    from sims.studies.overlap import THRESHOLD, Overlap

    threshold = THRESHOLD if skip_known is None else skip_known
    carry_out(Overlap(threshold), seeds, scenario, settings, engine, output)


@app.command("augmentation")
def study_augmentation(
    seeds: SeedsOption = "0",
    scenario: ScenarioOption = None,
    settings: SetOption = None,
    engine: EngineOption = "in-process",
    output: OutputOption = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Phrasings by relation, {RELATION: [PROMPT, …]}; `*` is any relation.",
            show_default="the pool's own wordings",
        ),
    ] = None,
) -> None:
    """Whether further phrasings beat a conflicting edit that was there first."""
    from editing.augmentation import read_templates
    from sims.studies.augmentation import Augmentation

    listed = None if templates is None else read_templates(templates)
    carry_out(Augmentation(listed), seeds, scenario, settings, engine, output)


@app.command("conflict")
def study_conflict(
    seeds: SeedsOption = "0",
    scenario: ScenarioOption = None,
    settings: SetOption = None,
    engine: EngineOption = "in-process",
    output: OutputOption = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Requests that contradict each other, in ConflictEdit's form.",
            show_default="drawn from the pool",
        ),
    ] = None,
) -> None:
    """What becomes of a fact for which two parties give different objects."""
    from sims.studies.conflict import Conflict

    carry_out(Conflict(pairs), seeds, scenario, settings, engine, output)


def carry_out(
    study: "Study",
    seeds: str,
    scenario: Path | None,
    settings: list[str] | None,
    engine: str,
    output: Path | None,
) -> None:
    """Run a study by the machinery of every other run."""
    from sims.jobs import execute
    from sims.studies.running import Order, run_study

    order = Order(scenario, tuple(settings or ()), read_seeds(seeds), engine)
    run_study(study, order, output, execute)


def read_seeds(text: str) -> tuple[int, ...]:
    """Read the numbers of ``--seeds``, each once.

    Raises:
        InputError: If there is something else between two commas, or a number twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--seeds {text}: wanted whole numbers, such as `--seeds 0,1`")
    seeds = tuple(map(int, parts))
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text}: names a seed twice; each is run once")
    return seeds
