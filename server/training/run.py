"""A run that trains: parties are asked for the sums of each step, nothing is edited.

Its folder has the hypernetwork, in the file that `editor.hypernetwork` names, the
settings, and a record of all steps.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from flwr.common.logger import log
from flwr.serverapp import Grid
from pydantic import JsonValue

from editing.files.atomic import write_whole
from editing.files.json_text import dump_json
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import Plan
from editing.malmen.files import FILE, save_hypernetwork
from editing.malmen.hypernetwork import Hypernetwork, HypernetworkShape
from editing.malmen.trainer import StepRecord, Trainer, shape_for, start
from editing.models.loading import EditableModel
from editing.sources.embedded import resolve_model
from server.config import RunConfig
from server.inputs import digest_inputs
from server.merging import StreamCallbacks
from server.monitoring.stream import EventStream
from server.monitoring.watching import watch_run
from server.output import choose_folder, create_output_folder
from server.shared_nodes import seat_parties
from server.training.progress import Progress
from strategies.rounds.limits import Limits
from strategies.rounds.registry import PartyRegistry
from strategies.training.nodes import ROUND, Nodes
from strategies.wire.messages import Job, ModelIdentity

LABEL = "training"
"""The name of the run in logs and events."""

RECORD, REPORT = "training.json", "report.md"
"""Files of the results, next to the hypernetwork."""

ROWS = 20
"""Steps that the report lists, about evenly spaced."""


def train_together(grid: Grid, config: RunConfig, stream: EventStream) -> Path:
    """Train a hypernetwork with the parties, and write it; return its folder."""
    folder = choose_folder(config)
    with create_output_folder(folder) as draft:
        watch_run(stream, config, folder)
        path = resolve_model(config.model.path)
        chosen = choose_hyperparameters(config.editing, path)
        model = chosen.load(path, config.model.dtype, config.model.device)
        plan = Plan(
            parameters=chosen.fit(model), schedule="frozen-uniform", templates=("{}",)
        )
        progress = progress_of(config, model, plan.parameters.layers)
        nodes = find_nodes(grid, config, model, plan, stream)
        trainer, records = begin(nodes, config, model, progress)
        report = partial(stream.report_progress, "steps", total=config.training.steps)
        for made in trainer.run():
            records.append(made)
            progress.keep(trainer, records)
            report(done=made.step)
            log(logging.INFO, "%s", describe_step(made))
        write_results(draft, config, trainer.net, records)
    progress.remove()
    return folder


def is_training(folder: Path) -> bool:
    """Return whether a folder of results is that of a training."""
    return (folder / RECORD).is_file()


def find_nodes(
    grid: Grid,
    config: RunConfig,
    model: EditableModel,
    plan: Plan,
    stream: EventStream,
) -> Nodes:
    """Welcome the parties, and begin the one round that training has."""
    layers = plan.parameters.layers
    widths = {layer: model.widths(layer) for layer in layers}
    identity = ModelIdentity(
        weights=model.fingerprint,
        tokenizer=model.tokenizer_fingerprint,
        configuration=model.configuration_fingerprint,
    )
    encoding = config.run.encoding
    job = Job(identity=identity, plan=plan, encoding=encoding, label=LABEL)
    limits = Limits(
        config.parties,
        config.requests.phrasings,
        widths=widths,
        tokens=model.longest_input,
    )
    callbacks = StreamCallbacks(stream, LABEL)
    registry = PartyRegistry(config.run.min_parties, callbacks, limits)
    seats, asking = seat_parties(grid, config.parties.count), job.asking(ROUND, layers)
    registry.welcome(seats, asking, config.parties.count, config.run.timeout)
    registry.begin_round(seats, ROUND, asking)
    return Nodes(seats, registry, asking, widths, config.training, limits)


def begin(
    nodes: Nodes, config: RunConfig, model: EditableModel, progress: Progress
) -> tuple[Trainer, list[StepRecord]]:
    """Begin with moments of all requests, or after the last step that was kept."""
    settings, shape = config.training, shape_for(nodes.widths, config.training)
    found = progress.find()
    if found is None:
        dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
        return Trainer(nodes, settings, start(nodes, shape, settings, dtype)), []
    trainer = Trainer(nodes, settings, Hypernetwork(shape, found.tensors))
    optimizer = trainer.optimizer
    optimizer.first, optimizer.second = found.first, found.second
    optimizer.steps = len(found.records)
    return trainer, list(found.records)


def progress_of(
    config: RunConfig, model: EditableModel, layers: Sequence[int]
) -> Progress:
    """Return where the state is kept, and all that it depends on."""
    chosen, path = config.output.checkpoint, resolve_model(config.model.path)
    made_of: dict[str, JsonValue] = {
        "training": config.training.model_dump(mode="json"),
        "model": model.fingerprint,
        "editing.layers": list(layers),
        "model.threads": config.model.threads,
        "parties": config.parties.model_dump(mode="json"),
        "requests": config.requests.model_dump(mode="json"),
        "run.encoding": config.run.encoding,
        **digest_inputs(config.requests, path),
    }
    return Progress(Path(chosen) if chosen else None, made_of)


def describe_step(made: StepRecord) -> str:
    """Describe a step in one line."""
    if made.texts == 0:
        return f"Step {made.step}: no request is in its batch; raise `training.share`"
    return (
        f"Step {made.step}: {made.edits} answer tokens, loss {made.general:.4f} in "
        f"other words, {made.local:.4f} about something else"
    )


def write_results(
    draft: Path, config: RunConfig, net: Hypernetwork, records: Sequence[StepRecord]
) -> None:
    """Write the hypernetwork, the settings, the record and a report of it."""
    save_hypernetwork(net, draft / FILE)
    settings = config.model_dump(mode="json", exclude={"output"})
    (draft / "params.json").write_text(dump_json(settings, 2) + "\n")
    record = {
        "shape": net.shape.model_dump(mode="json"),
        "digest": net.digest(),
        "steps": [asdict(each) for each in records],
    }
    write_whole(draft / RECORD, dump_json(record, 1) + "\n")
    write_whole(draft / REPORT, write_report(net.shape, records))


def write_report(shape: HypernetworkShape, records: Sequence[StepRecord]) -> str:
    """Write a page of Markdown: sizes, then losses by step."""
    lines = [
        "# Training of a hypernetwork",
        "",
        f"Layers {', '.join(map(str, shape.layers))}, {shape.blocks} blocks of rank "
        f"{shape.rank}. Losses are over the number of all texts of a step.",
        "",
        "| step | answer tokens | texts | in other words | about something else |",
        "| --: | --: | --: | --: | --: |",
    ]
    every = max(1, -(-len(records) // ROWS))
    lines += [
        f"| {each.step} | {each.edits} | {each.texts} | {each.general:.4f} "
        f"| {each.local:.4f} |"
        for each in records
        if each.step % every == 0 or each.step in {1, len(records)}
    ]
    return "\n".join(lines) + "\n"
