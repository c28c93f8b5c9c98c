"""The commands of ``python -m sims study``.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once,
and after the options and the scenario are validated.
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from editing.base.errors import InputError
from sims.cli.options import SCENARIOS, Engine, SetOption, takes
from sims.echo import echo
from sims.studies.running.order import Order

if TYPE_CHECKING:  # it draws, and what draws is slow to import
    from sims.studies.running.record import StudyRecord
    from sims.studies.study import Study

app = typer.Typer(
    name="study",
    help="Run a study: several runs, figures, and the finding in numbers.",
    no_args_is_help=True,
)

SeedsOption = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,…", help="Run all trials once for each seed.", show_default="0"
    ),
]
ScenarioOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Use a scenario of your own: another model, pool, size or merge.",
        show_default="sims/scenarios/STUDY.toml",
    ),
]
EngineOption = Annotated[
    Engine | None,
    typer.Option(
        help="What carries the messages; the results are the same.",
        show_default="in-process",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many trials run at once, each in a process of its own.",
        show_default="one per CPU core",
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
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Resume the stopped study in DIR: finished trials are kept, the others "
        "run. All other options are those it was begun with.",
    ),
]


@dataclass(frozen=True, slots=True)
class Given:
    """The options that all studies have, None where one is left out."""

    seeds: SeedsOption = None
    scenario: ScenarioOption = None
    settings: SetOption = None
    engine: EngineOption = None
    jobs: JobsOption = None
    output: OutputOption = None
    resume: ResumeOption = None


PLAIN = {
    "forgetting": (
        "sims.studies.rounds.forgetting:Forgetting",
        "Whether later rounds undo what the first one edited.",
    ),
    "lifelong": (
        "sims.studies.lifelong.study:Lifelong",
        "What every editor keeps, and what it costs, until the pool is used up.",
    ),
    "alphaedit-naive": (
        "sims.studies.alphaedit_naive:AlphaEditNaive",
        "What AlphaEdit loses if its deltas are merged as MEMIT's are.",
    ),
    "scale": (
        "sims.studies.curves.scale:Scale",
        "How the score falls with the number of edits, by each merge.",
    ),
    "parties": (
        "sims.studies.curves.parties:Parties",
        "Whether an edit depends on how many parties hold the requests.",
    ),
    "order": (
        "sims.studies.rounds.order:Order",
        "Whether it matters that parties edit their topics in turn.",
    ),
    "trust": (
        "sims.studies.trust.study:Trust",
        "What one hostile party does, and what each observer learns.",
    ),
}
"""Studies without options of their own: their classes, and what they ask."""


LOADERS: dict[str, Callable[[Order], "Study"]] = {}
"""Makes each study from what it is run with; `paper` runs those that stand here."""


def add_plain(name: str, place: str, meaning: str) -> None:
    """Add the command of a study without options of its own."""

    def load(_: Order) -> "Study":
        module, found = place.split(":")
        study: Study = getattr(import_module(module), found)()
        return study

    LOADERS[name] = load

    @takes(Given)
    def study(given: Given) -> None:
        carry_out(name, given, load)

    app.command(name, help=meaning)(study)


for word, (found, asked) in PLAIN.items():
    add_plain(word, found, asked)


@dataclass(frozen=True, slots=True)
class OverlapGiven(Given):
    """The options of the study `overlap`."""

    skip_known: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="RATIO",
            help="The residual ratio up to which guarded parties leave a request out.",
            show_default="0.1",
        ),
    ] = None


def load_overlap(order: Order) -> "Study":
    """Make the study from its order."""
    from sims.studies.overlap import THRESHOLD, Overlap

    return Overlap(float(order.own.get("--skip-known", THRESHOLD)))


LOADERS["overlap"] = load_overlap


@app.command("overlap")
@takes(OverlapGiven)
def study_overlap(given: OverlapGiven) -> None:
    """How a request that is made again and again affects the others."""
    carry_out("overlap", given, load_overlap, {"--skip-known": given.skip_known})


@dataclass(frozen=True, slots=True)
class AugmentationGiven(Given):
    """The options of the study `augmentation`."""

    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Phrasings by relation, {RELATION: [PROMPT, …]}; `*` is any relation.",
            show_default="the pool's own wordings",
        ),
    ] = None


def load_augmentation(order: Order) -> "Study":
    """Make the study from its order."""
    from editing.requests.paraphrases import read_templates
    from sims.studies.augmentation import Augmentation

    path = order.own.get("--templates")
    return Augmentation(read_templates(Path(path)) if path else None)


LOADERS["augmentation"] = load_augmentation


@app.command("augmentation")
@takes(AugmentationGiven)
def study_augmentation(given: AugmentationGiven) -> None:
    """Whether further phrasings beat a conflicting edit that was there first."""
    carry_out(
        "augmentation", given, load_augmentation, {"--templates": given.templates}
    )


@dataclass(frozen=True, slots=True)
class ConflictGiven(Given):
    """The options of the study `conflict`."""

    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Requests that contradict each other, in ConflictEdit's form.",
            show_default="drawn from the pool",
        ),
    ] = None


def load_conflict(order: Order) -> "Study":
    """Make the study from its order."""
    from sims.studies.conflict.study import Conflict

    path = order.own.get("--pairs")
    return Conflict(Path(path) if path else None)


LOADERS["conflict"] = load_conflict


@app.command("conflict")
@takes(ConflictGiven)
def study_conflict(given: ConflictGiven) -> None:
    """What becomes of a fact for which two parties give different objects."""
    carry_out("conflict", given, load_conflict, {"--pairs": given.pairs})


def carry_out(
    name: str,
    given: Given,
    load: Callable[[Order], "Study"],
    own: Mapping[str, object] | None = None,
) -> None:
    """Validate what is given, then load a study and run it like every other run.

    Args:
        name: Names the study.
        given: The options that all studies have.
        load: Makes the study from its order, and imports what computes and draws.
        own: The options that it alone has, None where one is left out.
    """
    chosen = {word: value for word, value in (own or {}).items() if value is not None}
    order = place_order(name, given, chosen)
    validate(name, order, given.output)
    echo(f"Study {name}: loading the libraries …", err=True)
    from sims.runs.jobs import execute_quietly, execute_trial
    from sims.studies.running.runner import run_study

    execute = execute_trial if order.jobs == 1 else execute_quietly
    try:
        run_study(load(order), order, given.output, execute, given.resume)
    except KeyboardInterrupt as stopped:
        leave(stopped)


def place_order(
    name: str, given: Given, own: Mapping[str, object], default: Order | None = None
) -> Order:
    """Put together what a study is run with; a resumed one keeps what is not given.

    Flower's simulation takes all CPU cores for one run.
    """
    from sims.runs.flower import count_cores

    begun = read_begun(name, given)
    engine = given.engine.value if given.engine else begun.engine if begun else None
    flower = engine == Engine.FLOWER.value
    jobs = 1 if flower else given.jobs or count_cores()
    before = begun.order(jobs) if begun else default or Order()
    return Order(
        given.scenario or before.scenario,
        before.overrides if given.settings is None else tuple(given.settings),
        before.seeds if given.seeds is None else read_seeds(given.seeds),
        engine or Engine.IN_PROCESS.value,
        jobs,
        tuple(str(word) for pair in own.items() for word in pair) or before.options,
    )


def read_begun(name: str, given: Given) -> "StudyRecord | None":
    """Read what a study to be resumed was begun with; None for a new one.

    Raises:
        InputError: If there is no such study, or `--output` names another folder.
    """
    if given.resume is None:
        return None
    from sims.studies.running.record import (
        UNFINISHED,
        find_unfinished_study,
        read_record,
        refuse_other_study,
    )

    place = find_unfinished_study(given.resume.absolute())
    folder = place.with_name(place.name.removesuffix(UNFINISHED))
    if given.output is not None and given.output.absolute() != folder:
        raise InputError(f"--output: a study that is resumed ends in {folder}")
    begun = read_record(place)
    refuse_other_study(place, begun, name)
    return begun


def validate(name: str, order: Order, output: Path | None) -> None:
    """Validate settings and files before the libraries are loaded.

    Raises:
        InputError: If a file of the study's own options is missing.
    """
    from server.config import read_scenario

    read_scenario(order.scenario or SCENARIOS / f"{name}.toml", order.overrides)
    for word in ("--templates", "--pairs"):
        if word in order.own and not Path(order.own[word]).is_file():
            raise InputError(f"{word} {order.own[word]}: there is no such file")
    if output is not None:
        from server.output import refuse_existing

        refuse_existing(output)


def leave(stopped: KeyboardInterrupt) -> NoReturn:
    """Exit as a program that a signal ends: 130 for SIGINT, 143 for SIGTERM.

    Raises:
        Exit: Always.
    """
    number = stopped.args[0] if stopped.args else signal.SIGINT
    raise typer.Exit(128 + int(number))


MOST_SEEDS = 2**63
"""What a generator takes."""


def read_seeds(text: str) -> tuple[int, ...]:
    """Read the numbers of ``--seeds``, each once.

    Raises:
        InputError: If there is something else between two commas, or a number twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--seeds {text}: wanted whole numbers, such as `--seeds 0,1`")
    seeds = tuple(map(int, parts))
    if max(seeds) >= MOST_SEEDS:
        raise InputError(f"--seeds {text}: wanted numbers below {MOST_SEEDS}")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text}: names a seed twice; each is run once")
    return seeds
