"""Whether this machine is large enough for a run, by the estimate of its sizes."""

import os
import shutil
from pathlib import Path

import torch

from editing.base.errors import InputError
from editing.files.caches import user_cache
from server.config import RunConfig
from sims.sizes.estimate import Estimate, EstimateOrder
from sims.sizes.shapes import ModelShape
from sims.sizes.tables import write_size


def estimate_run(config: RunConfig, shape: ModelShape) -> Estimate:
    """Estimate the sizes of the largest round of a run."""
    run, rounds = config.run, range(1, config.run.rounds + 1)
    largest = max(max(config.parties.sizes_of(number)) for number in rounds)
    layerwise = config.editing.schedule == "alone"
    order = EstimateOrder.model_validate(
        {
            "parties": config.parties.count,
            "requests": max(1, largest * (1 + config.requests.phrasings)),
            "rounds": run.rounds,
            "encoding": run.encoding,
            "encoding_down": run.encoding_down,
            "schedule": "layerwise" if layerwise else config.editing.schedule,
            "dtype": config.model.dtype,
            "evaluate_every": config.evaluation.every or run.rounds,
            "editor": config.editor.name,
        }
    )
    return Estimate(shape, order)


def check_device(config: RunConfig) -> str:
    """Whether torch can compute on the device that the scenario names.

    Raises:
        InputError: If there is no such device.
    """
    device = config.model.device
    if device == "auto":
        return f"auto, of {torch.cuda.device_count()} GPUs and the CPU"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"`model.device` {device!r}: {reason}. Set another, such as `cpu`"
        ) from None
    return device


def check_memory(config: RunConfig, estimate: Estimate) -> str:
    """Whether server and one node fit into memory; they share it in a simulation.

    Raises:
        InputError: If the machine has less.
    """
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    server, node = estimate.server_memory_each, estimate.node_memory
    needed = server + node
    words = (
        f"server {write_size(server)} and node {write_size(node)}, activations left "
        f"out; this machine has {write_size(here)}"
    )
    if needed > here and config.model.device == "cpu":
        raise InputError(f"{words}: too little")
    return words


def check_disk(estimate: Estimate) -> str:
    """Whether the results and the covariance fit on the disk of the caches.

    Raises:
        InputError: If less is free.
    """
    place = user_cache()
    existing = next(each for each in (place, *place.parents) if each.is_dir())
    free = shutil.disk_usage(Path(existing)).free
    needed = estimate.server_disk - estimate.weights
    words = (
        f"{write_size(needed)} for covariance, checkpoints and results, weights left "
        f"out; {write_size(free)} are free"
    )
    if needed > free:
        raise InputError(f"{words}: too little")
    return words
