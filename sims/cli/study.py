"""The commands of ``python -m sims study``.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editing.base.errors import InputError
from sims.cli.options import Engine, SetOption

if TYPE_CHECKING:  # it draws, and what draws is slow to import
    from sims.studies.running import Order
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
EngineOption = Annotated[
    Engine,
    typer.Option(help="What carries the messages; the results are the same."),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many trials run at once, each in a process of its own.",
        show_default="one a processor core",
    ),
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
    engine: EngineOption = Engine.IN_PROCESS,
    jobs: JobsOption = None,
    output: OutputOption = None,
) -> None:
    """Whether later rounds undo what the first one edited."""
    from sims.studies.forgetting import Forgetting

    order = place_order(seeds, scenario, settings, engine, jobs)
    carry_out(Forgetting(), order, output)


@app.command("overlap")
def study_overlap(
    seeds: SeedsOption = "0",
    scenario: ScenarioOption = None,
    settings: SetOption = None,
    engine: EngineOption = Engine.IN_PROCESS,
    jobs: JobsOption = None,
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

    own = {} if skip_known is None else {"--skip-known": skip_known}
    order = place_order(seeds, scenario, settings, engine, jobs, own)
    threshold = THRESHOLD if skip_known is None else skip_known
    carry_out(Overlap(threshold), order, output)


@app.command("augmentation")
def study_augmentation(
    seeds: SeedsOption = "0",
    scenario: ScenarioOption = None,
    settings: SetOption = None,
    engine: EngineOption = Engine.IN_PROCESS,
    jobs: JobsOption = None,
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
    from editing.requests.paraphrases import read_templates
    from sims.studies.augmentation import Augmentation

    own = {} if templates is None else {"--templates": templates}
    order = place_order(seeds, scenario, settings, engine, jobs, own)
    listed = None if templates is None else read_templates(templates)
    carry_out(Augmentation(listed), order, output)


@app.command("conflict")
def study_conflict(
    seeds: SeedsOption = "0",
    scenario: ScenarioOption = None,
    settings: SetOption = None,
    engine: EngineOption = Engine.IN_PROCESS,
    jobs: JobsOption = None,
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
    from sims.studies.conflict.study import Conflict

    own = {} if pairs is None else {"--pairs": pairs}
    order = place_order(seeds, scenario, settings, engine, jobs, own)
    carry_out(Conflict(pairs), order, output)


def place_order(
    seeds: str,
    scenario: Path | None,
    settings: list[str] | None,
    engine: Engine,
    jobs: int | None,
    own: Mapping[str, object] | None = None,
) -> "Order":
    """Say what a study is run with; `own` are options that it alone has.

    Flower's simulation takes all processors for one run.
    """
    from sims.runs.flower import count_cores
    from sims.studies.running import Order

    return Order(
        scenario,
        tuple(settings or ()),
        read_seeds(seeds),
        engine.value,
        1 if engine is Engine.FLOWER else jobs or count_cores(),
        tuple(str(word) for pair in (own or {}).items() for word in pair),
    )


def carry_out(study: "Study", order: "Order", output: Path | None) -> None:
    """Run a study by the machinery of every other run."""
    from sims.runs.jobs import execute, execute_quietly
    from sims.studies.running import run_study

    run_study(study, order, output, execute if order.jobs == 1 else execute_quietly)


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
