"""The composition root: settings, strategy and report of a run."""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.exception import AggregationError
from torch import Tensor

from editing.deltas import relative_difference, save_delta
from editing.errors import InputError
from server.config import RunConfig, read_run_config
from server.evaluation import judge_held_out, summarise, to_delta
from server.preparation import Preparation, prepare
from server.progress import Progress
from server.report import (
    Report,
    RoundMetrics,
    RunReport,
    create_output_folder,
    next_folder,
    write_report,
)
from server.shared_nodes import seat_parties
from strategies.collaborative import CollaborativeEditing
from strategies.exchange import forget
from strategies.merges.base import Merge
from strategies.merges.choice import known_names, read_merge

logger = logging.getLogger(__name__)

FORGET_SECONDS = 60.0
"""How long parties are waited for once the run is over."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Read the settings, run, and say where the report is."""
    started = time.monotonic()
    progress = Progress(str(context.run_config.get("output.progress", "")) or None)
    try:
        folder = run(grid, read_run_config({**context.run_config}), progress)
    except Exception as error:
        progress.fail(*explain(error))
        raise
    seconds = time.monotonic() - started
    log(logging.INFO, "Report after %.0f s: %s", seconds, folder / "report.html")
    progress.finish(folder)


def explain(error: Exception) -> tuple[str, str]:
    """Say what stopped the run, and whether the input did; a bug gives its type."""
    if isinstance(error, InputError):
        return str(error), "input"
    if isinstance(error, AggregationError):
        return str(error), "run"
    return f"{type(error).__name__}: {error}", "run"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one merge came to."""

    merge: Merge
    delta: dict[str, Tensor]
    metrics: tuple[RoundMetrics, ...]
    before: RoundMetrics | None
    seconds: float
    bytes_per_party: float


def run(grid: Grid, config: RunConfig, progress: Progress) -> Path:
    """Run the merge that the settings name, or all of them, and write the report."""
    # The parties are idle while the server computes, so all processors are its own.
    torch.set_num_threads(os.cpu_count() or 1)
    folder = choose_folder(config)
    with create_output_folder(folder) as draft:
        preparation = prepare(config, lambda done: progress.tell("covariance", done))
        seated = seat_parties(grid, config.parties.count)
        outcomes = run_merges(seated, config, preparation, progress)
        write_outcomes(config, preparation, outcomes, draft)
    return folder


def run_merges(
    grid: Grid, config: RunConfig, preparation: Preparation, progress: Progress
) -> list[Outcome]:
    """Run merge after merge on the same targets, and have the parties forget them."""
    outcomes: list[Outcome] = []
    try:
        for merge in choose_merges(config):
            outcomes.append(
                run_merge(
                    grid, config, preparation, merge, progress, first=not outcomes
                )
            )
    finally:
        forget_run(grid)
    return outcomes


def forget_run(grid: Grid) -> None:
    """Have targets removed, whatever became of the run, and never stop it for that."""
    try:
        forget(grid, FORGET_SECONDS)
    except Exception as error:
        logger.warning("the parties were not asked to forget", exc_info=error)


def run_merge(
    grid: Grid,
    config: RunConfig,
    preparation: Preparation,
    merge: Merge,
    progress: Progress,
    *,
    first: bool,
) -> Outcome:
    """Run all rounds with one merge, on the model before any edit."""
    started = time.monotonic()
    pooled = merge.name == "global"
    strategy = CollaborativeEditing(
        preparation.job(config, merge.name, pooled=pooled),
        merge,
        preparation.layers(config.prior.memory_weight),
        parties=config.parties.count,
        min_parties=config.run.min_parties,
        dtype=wire_dtype(preparation),
        judge_unedited=first,
        report=progress.of_merge(merge.name),
    )
    result = strategy.start(
        grid,
        ArrayRecord(),
        num_rounds=config.run.rounds,
        timeout=config.run.timeout,
        evaluate_fn=held_out_judge(preparation),
    )
    rounds = {
        number: summarise(
            record,
            strategy.outcomes.get(number),
            held_out_of(result.evaluate_metrics_serverapp.get(number)),
        )
        for number, record in result.evaluate_metrics_clientapp.items()
    }
    sent = [
        sum(outcome.bytes_up.get(node, 0) for outcome in strategy.outcomes.values())
        for node in strategy.roster
    ]
    senders = [size for size in sent if size > 0]
    return Outcome(
        merge,
        strategy.delta,
        tuple(rounds[number] for number in sorted(rounds) if number > 0),
        rounds.get(0),
        time.monotonic() - started,
        sum(senders) / max(len(senders), 1),
    )


def choose_merges(config: RunConfig) -> list[Merge]:
    """The merge that is named; to compare, all of the tree.

    `global` runs last: the parties have computed all targets by then, side by side.
    """
    if not config.run.compare:
        return [config.merge.build()]
    names = sorted(known_names(), key=lambda name: name == "global")
    own = config.merge
    return [own.build() if name == own.name else read_merge(name) for name in names]


def choose_folder(config: RunConfig) -> Path:
    """The folder that is named, or the next free one for what is run."""
    if config.output.directory is not None:
        return Path(config.output.directory).absolute()
    return next_folder("compare" if config.run.compare else config.merge.name)


def wire_dtype(preparation: Preparation) -> torch.dtype:
    """Deltas travel in float32; a float64 model would lose by it."""
    full = preparation.model.dtype == torch.float64
    return torch.float64 if full else torch.float32


def held_out_judge(
    preparation: Preparation,
) -> Callable[[int, ArrayRecord], MetricRecord | None] | None:
    """Judge facts that nobody edited, after each round, at the server."""
    if not preparation.held_out:
        return None

    def judge(_: int, arrays: ArrayRecord) -> MetricRecord:
        delta = to_delta(arrays)
        share = judge_held_out(preparation.model, preparation.held_out, delta)
        return MetricRecord({"held_out_acc": share})

    return judge


def held_out_of(record: MetricRecord | None) -> float | None:
    """The share that `held_out_judge` found."""
    return None if record is None else float(str(record["held_out_acc"]))


def write_outcomes(
    config: RunConfig,
    preparation: Preparation,
    outcomes: list[Outcome],
    draft: Path,
) -> None:
    """Write deltas, settings and the report."""
    reference = next((o.delta for o in outcomes if o.merge.name == "global"), None)
    settings = describe(config, preparation)
    runs = []
    for outcome in outcomes:
        place = draft / outcome.merge.name if config.run.compare else draft
        place.mkdir(exist_ok=True)
        metadata = {
            "base": preparation.model.fingerprint,
            "merge": outcome.merge.name,
            "schedule": preparation.plan.schedule,
            "rounds": config.run.rounds,
        }
        save_delta(outcome.delta, place / "delta.safetensors", metadata)
        gap = relative_difference(outcome.delta, reference) if reference else None
        runs.append(
            RunReport(
                merge=outcome.merge.name,
                schedule=preparation.plan.schedule,
                rounds=config.run.rounds,
                metrics=outcome.metrics,
                relative_difference_to_global=gap,
                seconds=outcome.seconds,
                bytes_per_party=outcome.bytes_per_party,
                settings={**settings, "merge": outcome.merge.model_dump(mode="json")},
            )
        )
    (draft / "params.json").write_text(json.dumps(settings, indent=2) + "\n")
    write_report(Report(runs=tuple(runs), unedited=outcomes[0].before), draft)


def describe(config: RunConfig, preparation: Preparation) -> dict[str, object]:
    """All that made the run, so that it can be made again."""
    return {
        **config.model_dump(mode="json", exclude={"output"}),
        "hyperparameters": preparation.plan.parameters.model_dump(mode="json"),
        "context_templates": list(preparation.plan.templates),
        "prior_weight": preparation.prior_weight,
        "model_fingerprint": preparation.model.fingerprint,
        "covariance": {
            "dataset": preparation.covariance.provenance.dataset,
            "tokens": preparation.covariance.provenance.tokens,
        },
    }
