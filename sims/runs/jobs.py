"""One job from the command line: settings in, a folder of results out."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from clients.own_requests import find_shares
from clients.target_cache import cache_folder, clear_cache, describe_cache
from editing.base.errors import InputError
from editing.covariance.cache import user_cache
from editing.covariance.texts import check_local_text
from editing.files.json_text import dump_json
from editing.hyperparameters.choice import choose_hyperparameters
from editing.models.loading import load_tokenizer
from editing.models.token_rows import BARE, tokenize_rewrite
from editing.requests.edit_request import EditRequest
from editing.sources.embedded import locate_embedded, resolve_model
from server.app import choose_folder
from server.config import RunConfig, read_scenario
from server.monitoring.events import EVENTS
from server.output import create_output_folder, refuse_existing
from server.report.data import read_report
from server.report.tables import list_warnings, write_bytes
from sims.console import (
    Follower,
    following,
    open_console,
    tabulate,
)
from sims.errors import RunFailedError
from sims.runs.engines import (
    CONNECTION,
    Run,
    advising,
    check_engine,
    choose_engine,
    has_own_nodes,
    name_run,
)
from sims.runs.unfinished import (
    CHECKPOINT,
    CONNECTED,
    PARTIES,
    RULINGS,
    UNFINISHED,
    WRITTEN,
    find_unfinished,
    read_kept,
    unfinished_folder,
)
from strategies.partitioning.partitions import check_supply
from strategies.scenario import FEDERATED, FlatValue, flatten

PRIVATE_HOME, CACHE = "COLLABEDIT_HOME", "COLLABEDIT_CACHE"


def run_job(
    scenario: Path,
    overrides: Sequence[str],
    engine: str,
    output: Path | None,
    *,
    verbose: bool = False,
) -> None:
    """Run a scenario on an engine, show its progress and then its results."""
    config = read_scenario(scenario, overrides)
    folder = output.absolute() if output is not None else choose_folder(config)
    execute(config, folder, engine, verbose=verbose)
    show_results(folder, open_console())


def resume_job(
    unfinished: Path,
    engine: str,
    output: Path | None,
    *,
    compare: bool = False,
    verbose: bool = False,
) -> None:
    """Go on with a run that was stopped, from its last whole round.

    Raises:
        InputError: If there is no such run, or it was one of the other command.
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
    execute(config, folder, engine, resume=True, verbose=verbose)
    show_results(folder, open_console())


def refuse_other_engine(place: Path, engine: str) -> None:
    """Keep a run with the nodes that it was begun with.

    Raises:
        InputError: If it was begun on a connection and is to be simulated.
    """
    if has_own_nodes(engine):
        from sims.runs.connections import refuse_going

        refuse_going(place, engine.removeprefix(CONNECTION))
    elif (place / CONNECTED).is_file():
        raise InputError(
            f"--resume: the run in {place} was begun with real nodes; name the "
            "connection to go on with them, --connection NAME"
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
) -> None:
    """Run a scenario and leave a whole folder of results, or one to resume.

    Until it is whole, the folder is called ``NAME.unfinished``; it stays if a round
    was finished in it, and nothing is left otherwise. Progress is shown on `console`,
    by default on standard error.
    """
    check_early(config, folder, engine)
    config = name_run(config, folder, engine)
    with unfinished_folder(folder, config, resume=resume) as draft:
        flat = flatten(complete(config, draft))
        run = choose_engine(engine, draft, verbose=verbose)
        places = {PRIVATE_HOME: str(draft), CACHE: str(chosen_cache())}
        with (
            following(draft / EVENTS, console or open_console(stderr=True)) as follower,
            environment(places),
            advising(draft, engine, "compare" if config.run.compare else "run")
            if advise
            else nullcontext(),
        ):
            carry_out(run, flat, config.parties.count, follower)
        take_results(draft / WRITTEN)
        gather_cases(draft / PARTIES, draft, config.run.rounds)


def carry_out(
    run: Run, flat: Mapping[str, FlatValue], parties: int, follower: Follower
) -> None:
    """Run, and raise the error with which the server ended the run.

    Raises:
        InputError: If the server refused what the run was given.
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
        raise RunFailedError(f"{end.error} ({failure})") from None
    end = follower.finish()
    if end is not None and end.error is not None:
        raise RunFailedError(end.error)


def execute_trial(config: RunConfig, folder: Path, engine: str) -> None:
    """Run a trial of a study, which says itself how it is resumed."""
    execute(config, folder, engine, advise=False)


def execute_quietly(config: RunConfig, folder: Path, engine: str) -> None:
    """Run a trial at the same time as others, without showing its progress."""
    execute(config, folder, engine, advise=False, console=Console(quiet=True))


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for this process and those that it starts, and take them back."""
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


def take_results(written: Path) -> None:
    """Move what the server wrote up to the folder that holds it.

    The server may be killed while it writes; its folder lies in a draft of ours, which
    goes with all that is in it unless the job ends well.

    Raises:
        RunFailedError: If the server left no report.
    """
    if not (written / "report.json").is_file():
        raise RunFailedError("the run ended well and left no report")
    for path in written.iterdir():
        path.rename(written.parent / path.name)
    written.rmdir()


def gather_cases(private: Path, folder: Path, rounds: int) -> None:
    """Copy the parties' case files to the results.

    In a simulation all parties are this user's, and so are real nodes that were started
    for the run; elsewhere a case file stays where its request is. The cases after the
    last round are written as MEMIT's evaluation does; if there were several, ``rounds``
    holds those after each. Where several merges were run, each has a folder of its own.
    """
    for label, by_round in sorted(find_cases(private).items()):
        place = folder / label if (folder / label).is_dir() else folder
        for number, lines in by_round.items():
            if rounds > 1:
                (place / "rounds").mkdir(exist_ok=True)
                file = place / "rounds" / f"round_{number:03d}.jsonl"
                file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
            for line in lines if number == rounds else ():
                case = json.loads(line)
                text = dump_json(case, 1)
                (place / f"case_{case['case_id']}.json").write_text(text, "utf-8")
    if (private / RULINGS).is_file():
        shutil.copy(private / RULINGS, folder / RULINGS)


def find_cases(private: Path) -> dict[str, dict[int, list[str]]]:
    """Read the parties' cases: lines by label and round, in the order of parties."""
    files: dict[tuple[str, int, int], Path] = {}
    for path in private.glob("**/cases/*/round_*/party_*.jsonl"):
        number = int(path.parent.name.removeprefix("round_"))
        party = int(path.stem.removeprefix("party_"))
        files[path.parents[1].name, number, party] = path
    found: dict[str, dict[int, list[str]]] = {}
    for (label, number, _), path in sorted(files.items()):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.setdefault(label, {}).setdefault(number, []).extend(lines)
    return found


def check_early(config: RunConfig, folder: Path, engine: str = "") -> None:
    """Refuse in a moment what a run would refuse after a minute."""
    refuse_existing(folder)
    check_engine(config, engine)
    if config.editing.hyperparameters is not None:
        choose_hyperparameters(config.editing, resolve_model(config.model.path))
    if has_own_nodes(engine):
        return
    if config.prior.covariance == FEDERATED:
        # A party says of its text only that it is bad, and here all have the same one.
        check_local_text(config.prior.text, resolve_model(config.model.path))
    shares = find_shares(config.model, config.requests, config.parties)
    check_supply(
        len(shares.pool), config.parties, config.run.rounds, config.requests.source
    )
    planted = [
        request
        for number in range(1, config.run.rounds + 1)
        for own in shares.in_round(number)
        for request in own.contradictions
    ]
    check_fit(resolve_model(config.model.path), [*shares.pool, *planted])


def check_fit(model_path: str, requests: Sequence[EditRequest]) -> None:
    """Hold requests to the model's context by its tokenizer alone, without weights.

    Raises:
        InputError: Naming the first request that is too long.
    """
    tokenizer, longest = load_tokenizer(model_path)
    for request in requests:
        row, target = tokenize_rewrite(tokenizer, BARE, request)
        length = len(row.ids) + len(target)
        if length > longest:
            raise InputError(
                f"Request {request.case_id}: subject, prompt and target take {length} "
                f"tokens and the model reads {longest}. Shorten the subject or prompt."
            )


def complete(config: RunConfig, draft: Path) -> RunConfig:
    """Fill in where the model lies, and where all that the run writes goes."""
    model = config.model.model_copy(update={"path": resolve_model(config.model.path)})
    output = config.output.model_copy(
        update={
            "directory": str(draft / WRITTEN),
            "checkpoint": str(draft / CHECKPOINT),
            "watch": str(draft),
        }
    )
    return config.model_copy(update={"model": model, "output": output})


def describe_target_cache() -> str:
    """Say how much is kept between runs, where, and since when."""
    place = chosen_cache()
    files, size, oldest, newest = describe_cache(place)
    if oldest is None or newest is None:
        return f"No targets are kept in {place}"
    first, last = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) for at in (oldest, newest)
    )
    return (
        f"{files} groups of targets, {write_bytes(size)}, from {first} to {last}, "
        f"in {place}"
    )


def clear_target_cache() -> str:
    """Remove what is kept between runs, and nothing else."""
    place = chosen_cache()
    return f"{clear_cache(place)} groups of targets removed from {place}"


def chosen_cache() -> Path:
    """Where targets are kept: as the environment says, or in the user's cache."""
    return cache_folder() or user_cache() / "targets"


def show_results(folder: Path, console: Console) -> None:
    """Print the comparison, who is missing from it, and where the whole report lies."""
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


def export_model(folder: Path) -> None:
    """Copy the embedded model to a new folder."""
    with create_output_folder(folder.absolute()) as beside:
        shutil.copytree(locate_embedded(), beside, dirs_exist_ok=True)
