"""One job from the command line: settings in, a folder of results out.

Flower's simulation starts before torch is loaded, which a run is checked with.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from rich.console import Console

from editing.base.errors import InputError
from editing.base.origin import own_command
from editing.files.caches import user_cache
from editing.sources.embedded import OWN_MODELS, locate_embedded
from server.config import RunConfig
from server.monitoring.events import EVENTS
from server.output import choose_folder, create_output_folder, refuse_existing
from server.report.data import read_report
from sims.console import Follower, following, open_console, tabulate
from sims.errors import RunFailedError
from sims.processes.fork_server import ForkServer
from sims.runs.cases import find_cases, gather_cases, take_results
from sims.runs.connections import refuse_going
from sims.runs.engines import (
    CONNECTION,
    DEPLOYMENT,
    Run,
    advising,
    choose_engine,
    describe_start,
    has_own_nodes,
    name_run,
    search_path_of,
)
from sims.runs.unfinished import (
    CHECKPOINT,
    CONNECTED,
    PARTIES,
    UNFINISHED,
    WRITTEN,
    draft_of,
    find_unfinished,
    read_kept,
    unfinished_folder,
)
from strategies.scenario import FlatValue, flatten

if TYPE_CHECKING:  # it loads torch
    from sims.runs.in_process import ClientFunction

PRIVATE_HOME, CACHE = "COLLABEDIT_HOME", "COLLABEDIT_CACHE"


def run_job(
    config: RunConfig, engine: str, output: Path | None, *, verbose: bool = False
) -> None:
    """Run a scenario on an engine, show its progress and then its results."""
    folder = output.absolute() if output is not None else choose_folder(config)
    execute(config, folder, engine, verbose=verbose, show=show_results)


def resume_job(
    unfinished: Path,
    engine: str,
    output: Path | None,
    *,
    compare: bool = False,
    verbose: bool = False,
) -> None:
    """Resume a stopped run after its last completed round.

    Raises:
        InputError: If there is no such run, or the other command began it.
    """
    place = find_unfinished(unfinished.absolute())
    config = read_kept(place)
    refuse_other_engine(place, engine)
    if config.run.compare != compare:
        other = "compare" if config.run.compare else "run"
        raise InputError(f"{place} was begun by `{other}`; resume it with `{other}`")
    folder = place.with_name(place.name.removesuffix(UNFINISHED))
    if output is not None and output.absolute() != folder:
        raise InputError(f"--output: a run that is resumed ends in {folder}")
    execute(config, folder, engine, resume=True, verbose=verbose, show=show_results)


def refuse_other_engine(place: Path, engine: str) -> None:
    """Refuse to resume a run with other nodes than those that it was begun with.

    Raises:
        InputError: If it was begun on a connection and is to be simulated.
    """
    if has_own_nodes(engine):
        refuse_going(place, engine.removeprefix(CONNECTION))
    elif (place / CONNECTED).is_file():
        raise InputError(
            f"--resume: the run in {place} was begun with real nodes; name their "
            "connection with --connection NAME"
        )


def execute(
    config: RunConfig,
    folder: Path,
    engine: str = "in-process",
    *,
    resume: bool = False,
    verbose: bool = False,
    advise: bool = True,
    console: Console | None = None,
    client: "ClientFunction | None" = None,
    show: Callable[[Path, Console], None] = lambda *_: None,
) -> None:
    """Run a scenario and leave a complete folder of results, or one to resume.

    Until it is complete, the folder is called ``NAME.unfinished``; it stays if a round
    was completed in it, and nothing is left otherwise. Progress is shown on `console`,
    by default on standard error. In this process, `client` can answer for the parties
    instead of their app. The results are shown by `show` before what the engine
    started is ended.
    """
    refuse_existing(folder)
    config = note_command(name_run(settle(config, engine), folder, engine))
    draft = draft_of(folder)
    places = {PRIVATE_HOME: str(draft), CACHE: str(chosen_cache())}
    places["PYTHONPATH"] = search_path_of(config)
    with (
        environment(places),
        choose_engine(engine, draft, verbose=verbose, client=client) as (
            run,
            fork_server,
        ),
    ):
        check(config, folder, engine, fork_server)
        with unfinished_folder(folder, config, resume=resume):
            flat = flatten(complete(config, draft))
            with (
                following(
                    draft / EVENTS, console or open_console(stderr=True)
                ) as follower,
                advising(draft, engine, "compare" if config.run.compare else "run")
                if advise
                else nullcontext(),
            ):
                follower.show(describe_start(engine, config))
                load_tables()
                carry_out(run, flat, config.parties.count, follower)
            take_results(draft / WRITTEN)
            gather_cases(draft / PARTIES, draft, config.run.rounds)
            if advise:  # of a study's trials there may be hundreds
                cases = find_cases(draft / PARTIES)
                from sims.case_page import write_case_page  # it loads pandas

                write_case_page(cases, draft, config.run.rounds)
        show(folder, open_console())


def note_command(config: RunConfig) -> RunConfig:
    """Note the command of this process; a run that is resumed keeps its first one."""
    command = config.output.command or own_command() or None
    output = config.output.model_copy(update={"command": command})
    return config.model_copy(update={"output": output})


def settle(config: RunConfig, engine: str) -> RunConfig:
    """Choose what the settings leave open; only real nodes need libraries for it."""
    if engine != DEPLOYMENT and not has_own_nodes(engine):
        return config
    from sims.runs.checks import settle_privacy

    return settle_privacy(config, engine)


def check(
    config: RunConfig, folder: Path, engine: str, fork_server: ForkServer | None
) -> None:
    """Validate a run where the libraries are loaded already; here if that fails.

    Raises:
        InputError: If it is refused.
    """
    done = None
    if fork_server is not None:
        asked = [config.model_dump_json(), str(folder), engine, str(Path.cwd())]
        done = fork_server.call("sims.runs.checks:answer", [json.dumps(asked)])
    if done is None or done.returncode != 0:
        from sims.runs.checks import check_early

        check_early(config, folder, engine)
    elif refused := json.loads(done.stdout.splitlines()[-1])["refused"]:
        raise InputError(refused)


def load_tables() -> None:
    """Load, while the run computes, what its results are going to be shown with."""
    Thread(target=import_module, args=("server.report.tables",)).start()


def carry_out(
    run: Run, flat: Mapping[str, FlatValue], parties: int, follower: Follower
) -> None:
    """Run, and raise the error with which the server ended the run.

    Raises:
        InputError: If the server refused the run's input.
        RunFailedError: If the run ended without a result.
    """
    try:
        run(flat, parties)
    except RunFailedError as failure:
        end = follower.finish()
        if end is None or end.error is None:
            raise
        if end.cause == "input":
            raise InputError(end.error) from None
        if end.error == str(failure):
            raise
        raise RunFailedError(f"{end.error} ({failure})") from None
    end = follower.finish()
    if end is not None and end.error is not None:
        raise RunFailedError(end.error)


def execute_trial(config: RunConfig, folder: Path, engine: str) -> None:
    """Run a trial of a study; the study itself explains how it is resumed."""
    execute(config, folder, engine, advise=False)


def execute_quietly(config: RunConfig, folder: Path, engine: str) -> None:
    """Run a trial at the same time as others, without showing its progress."""
    execute(config, folder, engine, advise=False, console=Console(quiet=True))


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for this process and its children within the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def complete(config: RunConfig, draft: Path) -> RunConfig:
    """Fill in the model's folder, and the places of all that the run writes."""
    path = config.model.path
    path = str(locate_embedded(path)) if path in OWN_MODELS else path
    model = config.model.model_copy(update={"path": path})
    output = config.output.model_copy(
        update={
            "directory": str(draft / WRITTEN),
            "checkpoint": str(draft / CHECKPOINT),
            "watch": str(draft),
        }
    )
    return config.model_copy(update={"model": model, "output": output})


def describe_target_cache() -> str:
    """Describe the target cache: its size, its place, and the age of its files."""
    from clients.target_cache import describe_cache
    from server.report.tables import write_bytes

    place = chosen_cache()
    files, size, oldest, newest = describe_cache(place)
    if oldest is None or newest is None:
        return f"No targets are cached in {place}"
    first, last = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) for at in (oldest, newest)
    )
    return (
        f"{files} groups of targets, {write_bytes(size)}, from {first} to {last}, "
        f"in {place}"
    )


def clear_target_cache() -> str:
    """Remove the cached targets, and nothing else."""
    from clients.target_cache import clear_cache

    place = chosen_cache()
    return f"{clear_cache(place)} groups of targets removed from {place}"


def chosen_cache() -> Path:
    """The folder of cached targets: the environment's, or the user's cache."""
    named = os.environ.get(CACHE)
    return Path(named) if named else user_cache() / "targets"


def show_results(folder: Path, console: Console) -> None:
    """Print the comparison, the parties missing from it, and the report's place."""
    if not (folder / "report.json").is_file():  # a training edits nothing
        console.print(f"Report: {folder / 'report.md'}", soft_wrap=True)
        return
    from server.report.tables import list_warnings

    report = read_report(folder / "report.json")
    console.print(tabulate(report, console.width))
    for warning in list_warnings(report):
        console.print(
            f"Warning: {warning}", soft_wrap=True, highlight=False, markup=False
        )
    for run in report.runs:
        for number, metrics in enumerate(run.metrics, start=1):
            missing = [f"{each.label}: {each.reason}" for each in metrics.refusals]
            if missing:
                line = f"{run.merge}, round {number} without: {'; '.join(missing)}"
                console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def export_model(folder: Path, name: str) -> None:
    """Copy a model that comes with the system to a new folder."""
    with create_output_folder(folder.absolute()) as draft:
        shutil.copytree(locate_embedded(name), draft, dirs_exist_ok=True)
