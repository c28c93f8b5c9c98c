"""The embedded model's hypernetwork: trained on public edits, measured on others."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch

from editing.algebra.deltas import applied
from editing.answers.gradients import read_answers
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.files.json_text import dump_json
from editing.malmen.files import FILE, save_hypernetwork
from editing.malmen.holders import train
from editing.malmen.hypernetwork import Hypernetwork
from editing.malmen.settings import TrainingSettings
from editing.malmen.trainer import StepRecord
from editing.malmen.training import solve
from editing.models.loading import EditableModel, load_editable_model
from editing.requests.edit_request import EditRequest, read_requests, sample_requests
from editing.sources.embedded import resolve_model
from sims.world.pairs import public_pairs
from sims.world.recipe import Recipe
from sims.world.training import build_recipe_world

LAYERS = (3, 4)
"""Where keys at the last token of a prompt tell one person from another: those of two
wordings of a fact are alike (a cosine of 0.95), those of two people are not (0.5 to
0.6). In the first three blocks both are (0.91 to 0.97)."""

MOST_EDITS = 48
"""Edits of the largest batches, on average."""

SETTINGS = TrainingSettings(steps=450, rate=4e-3, value_rate=3e-3, rank=32)

HELD_OUT = 100
"""Requests of each of the draws that it is measured on."""

DRAWS = (0, 1, 2)

MEASURES = (
    "score",
    "rewrite_success",
    "paraphrase_success",
    "neighborhood_success",
)

STEPS_PER_REPORT = 25

RECORD = "hypernetwork.json"
"""The file that says how it was made and how it does."""


def train_embedded(
    output: Path, model_path: str = "embedded", seed: int = 0, steps: int | None = None
) -> Hypernetwork:
    """Train a hypernetwork for a model of `sims.world.training.train_world`.

    One thread is used: the same command gives the same bits.

    Args:
        output: The folder to make; it appears once it is complete.
        model_path: The model's folder, or ``embedded``.
        seed: Draws the public edits, the first tensors and the batches.
        steps: Training steps; None takes those of `SETTINGS`.

    Raises:
        FileExistsError: If `output` exists.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; name a folder that does not.")
    torch.set_num_threads(1)
    folder = Path(resolve_model(model_path))
    model, requests = load_editable_model(str(folder)), find_pairs(folder, seed)
    change = {"share": MOST_EDITS / len(requests), "seed": seed}
    change |= {"steps": steps or SETTINGS.steps}
    settings = SETTINGS.model_copy(update=change)
    records: list[StepRecord] = []

    started = time.perf_counter()
    net = train(model, [requests], LAYERS, settings, records.append)
    seconds = time.perf_counter() - started
    record = {
        "settings": settings.model_dump(mode="json"),
        "requests": len(requests),
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
        "digest": net.digest(),
        "held_out": measure(model, net, read_requests(folder / "requests.json")),
        "steps": summarise(records),
    }
    draft = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_hypernetwork(net, draft / FILE)
    (draft / RECORD).write_text(dump_json(record, 1) + "\n")
    draft.rename(output)
    return net


def find_pairs(folder: Path, seed: int) -> list[EditRequest]:
    """Make the public edits of the world that a model was trained on."""
    made = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    recipe = Recipe.model_validate(made["recipe"])
    return public_pairs(build_recipe_world(recipe, made["seed"]), seed)


def measure(
    model: EditableModel, net: Hypernetwork, pool: Sequence[EditRequest]
) -> list[dict[str, float]]:
    """Edit draws of requests that training knows nothing of, and evaluate each."""
    draws = [sample_requests(pool, HELD_OUT, seed) for seed in DRAWS]
    found = [edit(model, net, requests) for requests in draws]
    return [{name: round(each[name], 2) for name in MEASURES} for each in found]


def edit(
    model: EditableModel, net: Hypernetwork, requests: Sequence[EditRequest]
) -> dict[str, float]:
    """Edit requests at once, and evaluate them."""
    statistics = net.statistics(read_answers(model, requests, net.shape.layers))
    delta = {
        model.weight_name(layer): each.delta
        for layer, each in solve(net, statistics).items()
    }
    with applied(delta, model.model):
        return sum_cases(evaluate_requests(model, requests)).means()


def summarise(records: Sequence[StepRecord]) -> list[dict[str, float]]:
    """Average the losses of some steps each."""
    starts = range(0, len(records), STEPS_PER_REPORT)
    parts = [records[start : start + STEPS_PER_REPORT] for start in starts]
    return [
        {
            "step": own[-1].step,
            "general": round(fmean(each.general for each in own), 3),
            "local": round(fmean(each.local for each in own), 3),
        }
        for own in parts
    ]
