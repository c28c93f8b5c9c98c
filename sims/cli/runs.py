"""The commands that run scenarios, and the one that averages what runs left.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from editing.base.errors import InputError
from sims.cli.options import (
    DEFAULT_SCENARIO,
    ConnectionOption,
    Engine,
    ScenarioArgument,
    SetOption,
    VerboseOption,
    check_new_folder,
)

app = typer.Typer()

EngineOption = Annotated[
    Engine,
    typer.Option(
        help="flower starts Flower's simulation and ends it afterwards; in-process "
        "runs the same apps in this process, for short runs and for debugging."
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
    verbose: VerboseOption = False,
) -> None:
    """Run one scenario with its merge, and evaluate the edited model.

    SCENARIO.toml describes the run; sims/scenarios has examples.
    """
    carrier = name_engine(engine, connection)
    if resume is not None:
        refuse_settings(scenario, settings)
        resume_run(resume, carrier, output, compare=False, verbose=verbose)
        return
    external = connection is None or allow_external_merge
    start_run(
        scenario, settings or [], carrier, output, external=external, verbose=verbose
    )


@app.command("compare")
def compare_merges(
    scenario: ScenarioArgument = DEFAULT_SCENARIO,
    settings: SetOption = None,
    engine: EngineOption = Engine.FLOWER,
    connection: ConnectionOption = None,
    output: OutputOption = None,
    schedule: ScheduleOption = None,
    merges: MergesOption = None,
    resume: ResumeOption = None,
    allow_external_merge: ExternalOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run several merges on the same requests and compare them in one report.

    SCENARIO.toml describes the run; sims/scenarios has examples.
    """
    carrier = name_engine(engine, connection)
    chosen = compare_settings(schedule, merges)
    if resume is not None:
        refuse_settings(scenario, [*(settings or []), *chosen])
        resume_run(resume, carrier, output, compare=True, verbose=verbose)
        return
    chosen = [*(settings or []), "run.compare=true", *chosen]
    external = connection is None or allow_external_merge
    start_run(scenario, chosen, carrier, output, external=external, verbose=verbose)


@app.command("summarize")
def summarize_results(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS…")],
    runs: Annotated[
        str | None,
        typer.Option(metavar="RUN,…", help="Average these runs only, as run_003 or 3."),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(min=1, help="Average this many cases of each run, by number."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Write the table: .csv, .md or .txt. Repeatable."
        ),
    ] = None,
) -> None:
    """Average the case files of runs, ours and those of MEMIT and CollabEdit.

    RESULTS are folders of results or of runs. One row for each editor: means and
    standard deviations over its runs, or over the cases of a single one.
    """
    from sims.results.summaries import summarize

    summarize(results, runs, first, output or [])


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
