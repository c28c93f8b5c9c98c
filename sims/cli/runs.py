"""The commands that run scenarios: one run, a comparison, a paper.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from editing.base.errors import InputError
from sims.cli.options import (
    DEFAULT_SCENARIO,
    SCENARIOS,
    ConnectionOption,
    DryRunOption,
    Engine,
    ScenarioArgument,
    SetOption,
    SweepOption,
    VerboseOption,
    check_new_folder,
    show_dry_run,
    takes,
)
from sims.cli.study import (
    LOADERS,
    Given,
    JobsOption,
    SeedsOption,
    leave,
    place_order,
    read_seeds,
    validate,
)
from sims.echo import echo
from sims.studies.running.order import Order
from sims.studies.running.record import RECORD, UNFINISHED

COMPARE, PAPER = "compare", "paper"

app = typer.Typer()

ENGINE_HELP = (
    "flower starts Flower's simulation and ends it afterwards; in-process runs the "
    "same apps in this process, for short runs and for debugging."
)
EngineOption = Annotated[Engine, typer.Option(help=ENGINE_HELP)]
ComparingEngineOption = Annotated[
    Engine | None,
    typer.Option(
        help=ENGINE_HELP,
        show_default="flower; in-process with --seeds or --sweep",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder to make for the results.",
        show_default="run_NUMBER in results/MERGE, or in results/compare",
    ),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEDULE",
        help="layerwise, frozen-harmonic, frozen-uniform, boundary (the first and the "
        "last layer), or alone: each party edits a copy of its own through all layers, "
        "and then they merge.",
        show_default="the scenario's",
    ),
]
MergesOption = Annotated[
    str | None,
    typer.Option(
        metavar="MERGE,…",
        help="Compare these alone: names, as `python -m sims merges` lists them, or "
        "package.module:Class.",
        show_default="those of CollabEdit's paper, the scenario's, and global",
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Resume the stopped run in DIR after its last completed round.",
    ),
]


ExternalOption = Annotated[
    bool,
    typer.Option(
        "--allow-external-merge",
        help="With --connection: accept a merge named package.module:Class, whose code "
        "then runs at the server and here. Read it first.",
    ),
]


@app.command("run")
def run_scenario(
    scenario: ScenarioArgument = DEFAULT_SCENARIO,
    settings: SetOption = None,
    engine: EngineOption = Engine.FLOWER,
    connection: ConnectionOption = None,
    output: OutputOption = None,
    resume: ResumeOption = None,
    allow_external_merge: ExternalOption = False,
    dry_run: DryRunOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run one scenario with its merge, and evaluate the edited model.

    SCENARIO.toml describes the run; sims/scenarios has examples.
    """
    external = connection is None or allow_external_merge
    if dry_run:
        show_dry_run(scenario, settings or [], resume=resume, external=external)
        return
    carrier = name_engine(engine, connection)
    if resume is not None:
        refuse_settings(scenario, settings)
        resume_run(resume, carrier, output, compare=False, verbose=verbose)
        return
    start_run(
        scenario, settings or [], carrier, output, external=external, verbose=verbose
    )


@app.command("compare")
def compare_merges(
    scenario: ScenarioArgument = DEFAULT_SCENARIO,
    settings: SetOption = None,
    engine: ComparingEngineOption = None,
    connection: ConnectionOption = None,
    output: OutputOption = None,
    schedule: ScheduleOption = None,
    merges: MergesOption = None,
    seeds: SeedsOption = None,
    sweep: SweepOption = None,
    jobs: JobsOption = None,
    resume: ResumeOption = None,
    allow_external_merge: ExternalOption = False,
    dry_run: DryRunOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run several merges on the same requests and compare them in one report.

    SCENARIO.toml describes the run; sims/scenarios has examples. With --seeds or
    --sweep each merge is a trial of its own, and tables hold means and deviations.
    """
    if dry_run:
        read_seeds(seeds or "0")
        compared = ["run.compare=true", *compare_settings(schedule, merges)]
        external = connection is None or allow_external_merge
        chosen = [*(settings or []), *compared]
        show_dry_run(scenario, chosen, sweep or [], resume=resume, external=external)
        return
    if seeds is not None or sweep or is_of_trials(resume):
        refuse_connection(connection)
        chosen = [*(settings or []), *compare_settings(schedule, None)]
        own = {"--merges": merges} if merges else {}
        place = None if resume and scenario == DEFAULT_SCENARIO else scenario
        given = Given(seeds, place, chosen or None, engine, jobs, output, resume)
        compare_trials(COMPARE, given, own, sweep or [])
        return
    carrier = name_engine(engine or Engine.FLOWER, connection)
    chosen = compare_settings(schedule, merges)
    if resume is not None:
        refuse_settings(scenario, [*(settings or []), *chosen])
        resume_run(resume, carrier, output, compare=True, verbose=verbose)
        return
    chosen = [*(settings or []), "run.compare=true", *chosen]
    external = connection is None or allow_external_merge
    start_run(scenario, chosen, carrier, output, external=external, verbose=verbose)


@dataclass(frozen=True, slots=True)
class PaperGiven(Given):
    """The options of `paper`."""

    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Run all trials once for each seed.",
            show_default="0,1,2",
        ),
    ] = None
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Use a scenario of your own; studies have its model and requests too.",
            show_default="sims/scenarios/paper.toml",
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder to make.",
            show_default="results/paper/run_NUMBER",
        ),
    ] = None
    merges: MergesOption = None
    editors: Annotated[
        str | None,
        typer.Option(
            metavar="EDITOR,…",
            help="Compare these editors, as `python -m sims editors` lists them.",
            show_default="the scenario's",
        ),
    ] = None
    studies: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY,…",
            help="Run these studies too, as `python -m sims study` lists them; none "
            "for none of them.",
            show_default="order",
        ),
    ] = None
    sweep: SweepOption = None
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md",
            help="Put the tables into this document as well, between its lines "
            "`<!-- paper -->` and `<!-- /paper -->`.",
        ),
    ] = None


@app.command("paper")
@takes(PaperGiven)
def write_paper(given: PaperGiven) -> None:
    """Make the tables and figures of a paper: one round, several rounds, studies.

    Means and standard deviations over seeds as HTML, CSV and LaTeX, figures as SVG and
    PDF, and one index page, in one folder with all that made them. Trials that earlier
    runs have already are taken from there.
    """
    if given.markdown is not None:
        from sims.paper.document import check_document

        check_document(given.markdown)
    own = {
        "--merges": given.merges,
        "--editors": given.editors,
        "--studies": given.studies,
    }
    folder = compare_trials(PAPER, given, own, given.sweep or [])
    if given.markdown is not None:
        from sims.paper.document import update_document

        update_document(given.markdown, folder)
        echo(f"Tables: {given.markdown}")


def start_run(
    scenario: Path,
    settings: Sequence[str],
    engine: str,
    output: Path | None,
    *,
    external: bool,
    verbose: bool,
) -> None:
    """Validate the settings, then load the libraries, which takes much longer."""
    from server.config import read_scenario
    from sims.console import announce_loading
    from sims.processes.superlink import check_connection

    config = read_scenario(scenario, settings, external=external)
    if output is not None:
        check_new_folder(output)
    if engine.startswith("connection:"):
        check_connection(engine.removeprefix("connection:"))
    announce_loading()
    from sims.runs.jobs import run_job

    run_job(config, engine, output, verbose=verbose)


def resume_run(
    folder: Path, engine: str, output: Path | None, *, compare: bool, verbose: bool
) -> None:
    """Resume a stopped run by the command that began it."""
    from sims.console import announce_loading

    announce_loading()
    from sims.runs.jobs import resume_job

    resume_job(folder, engine, output, compare=compare, verbose=verbose)


def compare_settings(schedule: str | None, merges: str | None) -> list[str]:
    """Write the options of `compare` as settings.

    Raises:
        InputError: If a list of merges has an empty name.
    """
    settings = []
    if schedule is not None:
        settings.append(f"editing.schedule={json.dumps(schedule)}")
    if merges is not None:
        names = [name.strip() for name in merges.split(",")]
        if not all(names):
            raise InputError(
                f"--merges {merges}: wanted names between the commas, such as "
                "`--merges collabedit,ties,package.module:Class`"
            )
        settings.append(f"run.merges={json.dumps(names)}")
    return settings


def name_engine(engine: Engine, connection: str | None) -> str:
    """Name the engine as `sims.runs.engines` does."""
    return engine.value if connection is None else f"connection:{connection}"


def refuse_settings(scenario: Path, settings: list[str] | None) -> None:
    """Refuse settings for a resumed run, which keeps those it was begun with.

    Raises:
        InputError: If there are any.
    """
    if settings or scenario != DEFAULT_SCENARIO:
        raise InputError(
            "--resume keeps the settings that the run was begun with; leave the "
            "scenario, --set, --schedule and --merges out"
        )


def compare_trials(
    name: str, given: Given, own: Mapping[str, str | None], sweeps: Sequence[str]
) -> Path:
    """Run the trials of a comparison or paper, and write what shows them.

    Args:
        name: The command.
        given: The options that it shares with studies.
        own: Its own options, None where one is left out.
        sweeps: Settings that are swept.
    """
    from sims.paper.sweep import read_sweeps

    read_sweeps(sweeps)
    pairs = [pair for pair in own.items() if pair[1] is not None]
    pairs += [("--sweep", each) for each in sweeps]
    order = place_order(name, given, {}, Order(seeds=(0, 1, 2)))
    words = tuple(str(word) for pair in pairs for word in pair)
    order = replace(order, options=words or order.options)
    validate(name, order, given.output)
    echo(f"{name.capitalize()}: loading the libraries …", err=True)
    from sims.paper.paper import run_sections
    from sims.paper.sections import compare_sections, paper_sections
    from sims.runs.jobs import execute_quietly, execute_trial

    execute = execute_trial if order.jobs == 1 else execute_quietly
    sections = (
        compare_sections(order)
        if name == COMPARE
        else paper_sections(order, LOADERS, SCENARIOS)
    )
    try:
        return run_sections(name, sections, order, execute, given.output, given.resume)
    except KeyboardInterrupt as stopped:
        leave(stopped)


def is_of_trials(resume: Path | None) -> bool:
    """Return whether a stopped comparison was begun with --seeds or --sweep."""
    if resume is None:
        return False
    names = (resume.name, resume.name + UNFINISHED)
    return any((resume.with_name(name) / RECORD).is_file() for name in names)


def refuse_connection(connection: str | None) -> None:
    """Refuse real nodes for a comparison of many trials.

    Raises:
        InputError: If a connection is named.
    """
    if connection is not None:
        raise InputError(
            "--connection: --seeds and --sweep simulate, trial by trial; leave them "
            "out, or call `compare` on the connection once for each"
        )
