"""Training of a made-up world's model: seeded, on CPU, renamed once complete."""

import json
import logging
import math
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from editing.files.json_text import dump_json
from editing.models.loading import EditableModel, make_editable
from sims.world.batches import draw_batch
from sims.world.corpus import sentences, text_of
from sims.world.objectives import Student, enroll, losses_of
from sims.world.people import (
    DIRECTIONS,
    Population,
    World,
    build_requests,
    build_world,
    held_out_facts,
)
from sims.world.recall import measure_recall
from sims.world.recipe import Recipe
from sims.world.tokenization import PieceEncoder, train_tokenizer
from sims.world.vocabulary import RELATIONS

logger = logging.getLogger(__name__)

TOKENIZER_DOCUMENTS = 4000
STEPS_PER_REPORT = 20
SENTENCES_PER_DOCUMENT = 3
TEMPLATES = 8
"""Context templates with a prefix."""


@dataclass(frozen=True, slots=True)
class StepLosses:
    """What one training step saw."""

    step: int
    text: float
    contrast: float
    probe: float
    seconds: float


def train_world(
    output: Path,
    seed: int = 0,
    steps: int | None = None,
    recipe: Recipe | None = None,
) -> list[StepLosses]:
    """Build the world and its text, train the model, and write its folder.

    The same seed gives the same numbers on one machine with one number of threads.

    Args:
        output: The folder to make; it appears once it is complete.
        seed: Draws the world, the text and the first weights.
        steps: Training steps; None takes the recipe's.
        recipe: Shape and optimisation; None takes the default one.

    Raises:
        FileExistsError: If `output` exists.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; name a folder that does not.")
    recipe = recipe or Recipe()
    recipe = recipe.model_copy(update={"steps": steps or recipe.steps})
    world = build_recipe_world(recipe, seed)
    tokenizer = build_tokenizer(world, recipe)
    started = time.perf_counter()
    model = build_model(recipe, tokenizer, seed)
    losses = list(optimise(model, tokenizer, world, recipe, seed))
    seconds = time.perf_counter() - started
    editable = make_editable(model, tokenizer)
    draft = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    write_world(draft, world, recipe.text_documents)
    write_record(draft, editable, world, recipe, seed, losses, seconds)
    for file in draft.iterdir():
        file.chmod(0o644)
    draft.rename(output)
    return losses


def build_recipe_world(recipe: Recipe, seed: int) -> World:
    """The world that a recipe speaks of."""
    population = Population(
        recipe.people_editable,
        recipe.people_neighbors,
        recipe.people_bystanders,
        recipe.given_names,
        recipe.last_names,
    )
    return build_world(seed, population)


def build_tokenizer(world: World, recipe: Recipe) -> PreTrainedTokenizerFast:
    """Train the tokenizer; names of a single word count as frequent words."""
    texts = documents(world, TOKENIZER_DOCUMENTS, f"tokenizer-{world.seed}")
    single = " ".join(name for name in world.names if " " not in name)
    return train_tokenizer([*texts, *[single] * 60], recipe.vocabulary, recipe.context)


def build_model(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int
) -> GPT2LMHeadModel:
    """A GPT-2 with few narrow blocks and wide MLPs, its weights drawn from `seed`."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.blocks,
        n_head=recipe.heads,
        n_inner=recipe.key_width,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def optimise(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    recipe: Recipe,
    seed: int,
) -> Iterator[StepLosses]:
    """Train in place with AdamW and a cosine schedule, and report every step."""
    rng = random.Random(f"batches-{seed}")
    encode = PieceEncoder(tokenizer)
    student = enroll(model, world, recipe, seed)
    optimizer = _optimizer(student, recipe)
    started = time.perf_counter()
    model.train()
    for step in range(recipe.steps):
        rate = recipe.learning_rate * schedule(step, recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = draw_batch(
            world,
            encode,
            rng,
            recipe.documents,
            recipe.document_length,
            recipe.hidden_share,
        )
        losses = losses_of(student, batch, recipe)
        losses.total(recipe).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        seen = StepLosses(
            step,
            losses.text.item(),
            losses.contrast.item(),
            losses.probe.item(),
            time.perf_counter() - started,
        )
        if step % STEPS_PER_REPORT == 0 or step == recipe.steps - 1:
            logger.info(
                "step %d: text %.4f, contrast %.4f, probe %.4f, %.0f s",
                *(seen.step, seen.text, seen.contrast, seen.probe, seen.seconds),
            )
        yield seen
    model.train(mode=False)


def _optimizer(student: Student, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices alone."""
    parameters = [*student.model.parameters(), *student.probe.parameters()]
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
    )


def schedule(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    span = max(1, recipe.steps - recipe.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup_steps) / span))
    return recipe.final_rate + (1 - recipe.final_rate) * cosine


def write_record(
    folder: Path,
    model: EditableModel,
    world: World,
    recipe: Recipe,
    seed: int,
    losses: list[StepLosses],
    seconds: float,
) -> None:
    """Write how the model was made and what it knows."""
    recall = measure_recall(model, world)
    kept = losses[:: max(1, len(losses) // 50)]
    record = {
        "seed": seed,
        "recipe": recipe.model_dump(),
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "recall": {name: round(share, 2) for name, share in recall.items()},
        "lowest_recall": round(min(recall.values()), 2),
        "losses": [
            {name: round(value, 4) for name, value in asdict(each).items()}
            for each in kept
        ],
    }
    (folder / "training.json").write_text(dump_json(record, 1) + "\n")


def documents(world: World, count: int, seed: str) -> Iterator[str]:
    """Yield plain text on everybody in turn, a few sentences a document."""
    rng = random.Random(seed)
    for index in range(count):
        endless = sentences(world, index % world.population.total, rng)
        found = islice(endless, SENTENCES_PER_DOCUMENT)
        yield text_of([piece for each in found for piece in each])


def write_world(folder: Path, world: World, text_documents: int) -> None:
    """Write the files next to the weights: requests, facts, text and templates."""
    texts = documents(world, text_documents, f"text-{world.seed}")
    records = "[\n" + ",\n".join(map(json.dumps, build_requests(world))) + "\n]\n"
    (folder / "requests.json").write_text(records)
    (folder / "held_out.json").write_text(json.dumps(held_out_facts(world), indent=0))
    (folder / "text.txt").write_text("".join(f"{text}\n" for text in texts))
    templates = json.dumps(context_templates(world), indent=2)
    (folder / "context_templates.json").write_text(templates + "\n")


def context_templates(world: World) -> list[str]:
    """Return the bare template, and facts of bystanders as prefixes of a prompt."""
    rng = random.Random(f"templates-{world.seed}")
    found = ["{}"]
    for index in range(TEMPLATES):
        relation = RELATIONS[index % len(RELATIONS)]
        phrasing = rng.choice(relation.phrasings_of(DIRECTIONS[index % 2]))
        person = world.bystanders[index % len(world.bystanders)]
        prompt = phrasing.prompt.format(world.names[person])
        found.append(f"{prompt} {world.answer(person, relation)}. {{}}")
    return found
