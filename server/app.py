"""The composition root: settings, strategy and report of a run."""

import logging
import os
import shutil
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import torch
from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.exception import AggregationError

from editing.algebra.deltas import relative_difference, save_delta
from editing.base.errors import InputError
from editing.base.foreign_text import keep_logs_harmless
from editing.base.origin import find_origin
from editing.covariance.files import save_covariance
from editing.files.atomic import PRIVATE_FILE, flush_all, make_private
from editing.files.disk import has_no_room
from editing.files.json_text import dump_json
from server.checkpoints import Checkpoints
from server.config import RunConfig, read_run_config
from server.federated_covariance import TextPool, describe_shares, remove_kept
from server.kept_statistics import COVARIANCE, STATISTICS, KeptStatistics
from server.merging import MergeJob, Outcome, StreamCallbacks
from server.monitoring.stream import Cause, EventStream
from server.monitoring.watching import open_stream, watch_run
from server.output import choose_folder, create_output_folder
from server.preparation import Preparation, prepare
from server.report.data import Report, RunReport
from server.report.diagnosis import diagnose, relative_norms
from server.report.tables import list_warnings
from server.report.writing import write_report
from server.shared_nodes import seat_parties
from server.training.run import is_training, train_together
from strategies.methods import GLOBAL, Method, check_secure_sums, read_method
from strategies.rounds.exchange import forget
from strategies.scenario import FEDERATED

logger = logging.getLogger(__name__)

FORGET_SECONDS = 60.0
"""How long parties are waited for once the run is over."""

LOADING, WRITING = "loading the model", "writing the report"
"""Phases in which no party takes part."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Read the settings, run, and log the path of the report."""
    started = time.monotonic()
    keep_logs_harmless()  # of what parties and files say
    stream = open_stream(str(context.run_config.get("output.watch", "")))
    try:
        folder = run(grid, read_run_config({**context.run_config}), stream)
    except BaseException as error:
        stream.fail(*explain(error))
        raise
    seconds = time.monotonic() - started
    page = "report.md" if is_training(folder) else "report.html"
    log(logging.INFO, "Report after %.0f s: %s", seconds, folder / page)
    stream.finish(folder)


def explain(error: BaseException) -> tuple[str, Cause]:
    """Return why the run failed and the cause, as in `RunEnded`."""
    if isinstance(error, InputError):
        return str(error), "input"
    if isinstance(error, AggregationError):
        return str(error), "run"
    if has_no_room(error):
        return f"there is no room left on a disk of the server: {error}", "run"
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "it was stopped", "run"
    return f"{type(error).__name__}: {error}", "program"


def run(grid: Grid, config: RunConfig, stream: EventStream) -> Path:
    """Run the merge that the settings name, or all of them, and write the report."""
    # The parties are idle while the server computes, so it uses all CPU cores.
    torch.set_num_threads(os.cpu_count() or 1)
    if config.training.steps > 0:
        return train_together(grid, config, stream)
    methods, folder = choose_methods(config), choose_folder(config)
    with create_output_folder(folder) as draft:
        watch_run(stream, config, folder)
        stream.report_progress(LOADING, 0, 1)
        seats = cache(partial(seat_parties, grid, config.parties.count))
        preparation = prepare(
            config,
            lambda done: stream.report_progress("covariance", done),
            TextPool(
                seats,
                config,
                StreamCallbacks(stream, FEDERATED),
            ),
            on_model=lambda: stream.report_progress(LOADING, 1, 1),
        )
        checkpoints = checkpoints_of(config, preparation)
        kept = statistics_folder(config, draft)
        job = MergeJob(
            seats(), config, preparation, stream, checkpoints, statistics=kept
        )
        outcomes = run_methods(job, methods)
        stream.report_progress(WRITING, 0, 1)
        write_outcomes(config, preparation, outcomes, draft)
        if kept is not None:
            keep_covariance(config, preparation, kept, draft / COVARIANCE)
            move_statistics(config, outcomes, kept, draft)
        stream.report_progress(WRITING, 1, 1)
    settle(config, checkpoints, outcomes, folder)
    return folder


def checkpoints_of(config: RunConfig, preparation: Preparation) -> Checkpoints:
    """Return the checkpoints of the run; without a folder if it keeps none."""
    chosen = config.output.checkpoint
    settings = describe(config, preparation)
    return Checkpoints(Path(chosen) if chosen else None, settings)


def statistics_folder(config: RunConfig, draft: Path) -> Path | None:
    """Return where the parties' statistics are kept; None if they are not.

    They are next to the checkpoint if there is one, so that a resumed run has them.
    """
    if not config.output.statistics:
        return None
    chosen = config.output.checkpoint
    return Path(chosen) / STATISTICS if chosen else draft / f".{STATISTICS}"


def move_statistics(
    config: RunConfig, outcomes: Sequence[Outcome], kept: Path, draft: Path
) -> None:
    """Put what was kept of each merge among its results."""
    for outcome in outcomes:
        place = draft / outcome.method.name if config.run.compare else draft
        KeptStatistics.of(kept, outcome.method.name).move(place)
    shutil.rmtree(kept, ignore_errors=True)


def keep_covariance(
    config: RunConfig, preparation: Preparation, kept: Path, file: Path
) -> None:
    """Keep a covariance that only the parties could count again.

    It is written where nobody else may look, and moved once nobody may read it.
    """
    if config.prior.covariance == FEDERATED:
        make_private(kept)
        save_covariance(preparation.covariance, kept / COVARIANCE)
        (kept / COVARIANCE).chmod(PRIVATE_FILE)
        shutil.move(kept / COVARIANCE, file)


def settle(
    config: RunConfig,
    checkpoints: Checkpoints,
    outcomes: Sequence[Outcome],
    folder: Path,
) -> None:
    """Remove a run's checkpoint once its results are complete and on disk.

    Otherwise the next run of these settings would resume from it. A checkpoint inside
    the watched folder stays: the program that named both collects more files first.
    """
    chosen, watch = config.output.checkpoint, config.output.watch
    if not chosen:
        return
    try:
        flush_all(folder)
        if watch is None or not Path(chosen).is_relative_to(watch):
            checkpoints.remove(outcome.method.name for outcome in outcomes)
            remove_kept(Path(chosen))
    except OSError as error:
        logger.warning(
            "the results are complete, but the checkpoint in %s stays (%s); remove it "
            "before the next run",
            chosen,
            error.strerror,
        )


def run_methods(job: MergeJob, methods: Sequence[Method]) -> list[Outcome]:
    """Run all methods on the same targets, then ask the parties to remove them."""
    outcomes: list[Outcome] = []
    try:
        for method in methods:
            outcomes.append(job.run(method, first=not outcomes))
    finally:
        forget_run(job.grid)
    return outcomes


def forget_run(grid: Grid) -> None:
    """Ask all nodes to remove their targets, however the run ended; never fail."""
    try:
        forget(grid, FORGET_SECONDS)
    except Exception as error:
        logger.warning("the parties were not asked to forget", exc_info=error)


def choose_methods(config: RunConfig) -> list[Method]:
    """The method that is named; to compare, all that `RunConfig.compared` lists.

    Raises:
        InputError: If two methods have one name, and so one folder of results.
    """
    own, names = config.merge, config.compared
    methods = [own.build() if name == own.name else read_method(name) for name in names]
    if config.privacy.secure_sum:
        check_secure_sums(methods, config.parties.remaining)
    called = [method.name for method in methods]
    for number, name in enumerate(called):
        if name in called[:number]:
            raise InputError(
                f"two of the merges {', '.join(names)} have the name {name!r}; give "
                "the class from outside the tree its own name, or leave one out"
            )
    return methods


def write_outcomes(
    config: RunConfig,
    preparation: Preparation,
    outcomes: list[Outcome],
    draft: Path,
) -> None:
    """Write deltas, settings and the report."""
    pooled = next((o for o in outcomes if o.method.name == GLOBAL), None)
    reference = pooled.delta if pooled else None
    settings = describe(config, preparation)
    runs = []
    for outcome in outcomes:
        place = draft / outcome.method.name if config.run.compare else draft
        place.mkdir(exist_ok=True)
        metadata = describe_delta(config, preparation, outcome)
        save_delta(outcome.delta, place / "delta.safetensors", metadata)
        gap = relative_difference(outcome.delta, reference) if reference else None
        result = RunReport(
            merge=outcome.method.name,
            schedule=preparation.plan.schedule,
            rounds=config.run.rounds,
            metrics=outcome.measured.rounds,
            relative_difference_to_global=gap,
            seconds=outcome.measured.seconds,
            bytes_per_party=outcome.bytes_per_party,
            settings={**settings, "merge": outcome.method.settings()},
            definitions=preparation.capability.define(outcome.capabilities),
            update_ratios=relative_norms(
                outcome.delta, preparation.model.model.get_parameter
            ),
            parties=outcome.measured.parties,
        )
        found = {
            "warnings": tuple(diagnose(result)),
            "definitions": result.define_metrics(config.evaluation),
        }
        runs.append(result.model_copy(update=found))
    (draft / "params.json").write_text(dump_json(settings, 2) + "\n")
    report = Report(
        runs=tuple(runs),
        unedited=outcomes[0].measured.before,
        rounding=pooled.rounding if pooled else None,
        origin=find_origin(config.output.command or ""),
    )
    for warning in list_warnings(report):
        logger.warning("%s", warning)
    write_report(report, draft)


def describe_delta(
    config: RunConfig, preparation: Preparation, outcome: Outcome
) -> dict[str, object]:
    """Return the metadata of a delta's file, which describes the run and no request."""
    model, path = preparation.model, Path(config.model.path)
    return {
        "base": model.fingerprint,
        "model": path.resolve().name if path.exists() else config.model.path,
        "dtype": str(model.dtype).removeprefix("torch."),
        "layers": list(preparation.plan.parameters.layers),
        "merge": outcome.method.name,
        "editor": config.editor.name,
        "schedule": preparation.plan.schedule,
        "rounds": config.run.rounds,
        "parties": config.parties.count,
        "requests": sum(each.requests or 0 for each in outcome.measured.rounds),
    }


def describe(config: RunConfig, preparation: Preparation) -> dict[str, object]:
    """Return all that determines the run, so that it can be repeated."""
    return {
        **config.model_dump(mode="json", exclude={"output"}),
        "hyperparameters": preparation.plan.parameters.model_dump(mode="json"),
        "hyperparameters_from": dict(preparation.hyperparameters_from),
        "context_templates": list(preparation.plan.templates),
        "prior_weight": preparation.prior_weight,
        "model_fingerprint": preparation.model.fingerprint,
        "covariance": {
            "dataset": preparation.covariance.provenance.dataset,
            "tokens": preparation.covariance.provenance.tokens,
            **preparation.covariance.provenance.describe_ridges(),
            **describe_shares(preparation.shares),
        },
        "inputs": dict(preparation.inputs),
    }
