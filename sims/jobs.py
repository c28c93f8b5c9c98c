"""One job from the command line: settings in, a folder of results out."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from clients.partitions import check_supply
from clients.requests import shared_requests
from editing.architectures import load_tokenizer
from editing.embedded import locate_embedded, resolve_model
from editing.errors import InputError
from editing.prompts import tokenize_target, tokenize_text
from editing.requests import EditRequest
from server.app import choose_folder
from server.config import RunConfig, read_scenario
from server.report import (
    create_output_folder,
    read_report,
    refuse_existing,
    write_whole,
)
from sims.console import (
    ProgressEvent,
    following,
    hush_libraries,
    open_console,
    tabulate,
)
from sims.errors import RunFailedError
from strategies.scenario import FlatValue, flatten

WRITTEN = "run"  # the server's folder within our draft
PRIVATE_HOME = "COLLABEDIT_HOME"

Run = Callable[[Mapping[str, FlatValue], int], None]


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
    check_early(config, folder)
    console = open_console(stderr=True)
    with (
        create_output_folder(folder) as draft,
        tempfile.TemporaryDirectory(prefix="collabedit-") as scratch,
    ):
        progress, private = Path(scratch) / "progress.jsonl", Path(scratch) / "parties"
        flat = flatten(complete(config, draft / WRITTEN, progress))
        run = choose_engine(engine, verbose=verbose)
        with following(progress, console) as finish, private_home(private):
            carry_out(run, flat, config.parties.count, finish)
        take_results(draft / WRITTEN)
        gather_cases(private, draft)
    show_results(folder, open_console())


def carry_out(
    run: Run,
    flat: Mapping[str, FlatValue],
    parties: int,
    finish: Callable[[], ProgressEvent | None],
) -> None:
    """Run, and turn an error that the server told of into one of ours.

    Raises:
        InputError: If the server refused what the run was given.
        RunFailedError: If the run ended without a result.
    """
    try:
        run(flat, parties)
    except RunFailedError as failure:
        told = finish()
        if told is None or told.error is None:
            raise
        if told.kind == "input":
            raise InputError(told.error) from None
        raise RunFailedError(f"{told.error} ({failure})") from None
    told = finish()
    if told is not None and told.error is not None:
        raise RunFailedError(told.error)


@contextmanager
def private_home(folder: Path) -> Iterator[None]:
    """Have the parties keep what is theirs under a folder of this job."""
    before = os.environ.get(PRIVATE_HOME)
    os.environ[PRIVATE_HOME] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[PRIVATE_HOME]
        else:
            os.environ[PRIVATE_HOME] = before


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


def gather_cases(private: Path, folder: Path) -> None:
    """Copy the parties' case files to the results.

    In a simulation all parties are this user's; in deployment a case file stays where
    its request is. Where several merges were run, each has a folder of its own.
    """
    for case in sorted(private.glob("*/cases/*/round_*/party_*/case_*.json")):
        label = case.parents[2].name
        place = folder / label if (folder / label).is_dir() else folder
        write_whole(place / case.name, case.read_text(encoding="utf-8"))


def choose_engine(name: str, *, verbose: bool) -> Run:
    """Load the engine of that name, and it alone."""
    if name == "in-process":
        from sims.in_process import run_in_process

        hush_libraries()
        logging.getLogger("flwr").setLevel(logging.INFO if verbose else logging.WARNING)
        return run_in_process
    from sims.flower_engine import run_under_flower

    return lambda flat, parties: run_under_flower(flat, parties, verbose=verbose)


def check_early(config: RunConfig, folder: Path) -> None:
    """Refuse in a moment what a run would refuse after a minute."""
    refuse_existing(folder)
    ordered = shared_requests(config.model, config.requests, config.parties)
    check_supply(len(ordered), config.parties, config.run.rounds)
    check_fit(resolve_model(config.model.path), ordered)


def check_fit(model_path: str, requests: Sequence[EditRequest]) -> None:
    """Hold requests to the model's context by its tokenizer alone, without weights.

    Raises:
        InputError: Naming the first request that is too long.
    """
    tokenizer, longest = load_tokenizer(model_path)
    for request in requests:
        row = tokenize_text(tokenizer, request.rewrite_prompt)
        length = len(row.ids) + len(tokenize_target(tokenizer, request.target_new))
        if length > longest:
            raise InputError(
                f"Request {request.case_id}: subject, prompt and target take {length} "
                f"tokens and the model reads {longest}. Shorten the subject or prompt."
            )


def complete(config: RunConfig, folder: Path, progress: Path) -> RunConfig:
    """Fill in where the model lies and where results and progress go."""
    model = config.model.model_copy(update={"path": resolve_model(config.model.path)})
    output = config.output.model_copy(
        update={"directory": str(folder), "progress": str(progress)}
    )
    return config.model_copy(update={"model": model, "output": output})


def show_results(folder: Path, console: Console) -> None:
    """Print the comparison and where the whole report lies."""
    console.print(tabulate(read_report(folder / "report.json")))
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def export_model(folder: Path) -> None:
    """Copy the embedded model to a new folder."""
    with create_output_folder(folder.absolute()) as beside:
        shutil.copytree(locate_embedded(), beside, dirs_exist_ok=True)
