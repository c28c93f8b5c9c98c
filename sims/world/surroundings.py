"""The files that lie beside the embedded model's weights."""

import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sims.world.corpus import sentences, text_of
from sims.world.people import DIRECTIONS, World, build_requests, held_out_facts
from sims.world.vocabulary import RELATIONS

TEXT_DOCUMENTS = 700
SENTENCES_PER_DOCUMENT = 3
TEMPLATES = 8


def documents(world: World, count: int, seed: str) -> Iterator[str]:
    """Plain text on everybody in turn, a few sentences a document."""
    rng = random.Random(seed)
    for index in range(count):
        endless = sentences(world, index % world.population.total, rng)
        found = islice(endless, SENTENCES_PER_DOCUMENT)
        yield text_of([piece for each in found for piece in each])


def write_world(folder: Path, world: World) -> None:
    """Write what lies beside the weights: requests, facts, text and templates."""
    texts = documents(world, TEXT_DOCUMENTS, f"text-{world.seed}")
    records = "[\n" + ",\n".join(map(json.dumps, build_requests(world))) + "\n]\n"
    (folder / "requests.json").write_text(records)
    (folder / "held_out.json").write_text(json.dumps(held_out_facts(world), indent=0))
    (folder / "text.txt").write_text("".join(f"{text}\n" for text in texts))
    templates = json.dumps(context_templates(world), indent=2)
    (folder / "context_templates.json").write_text(templates + "\n")


def context_templates(world: World) -> list[str]:
    """The bare one, and facts of bystanders in either direction to stand behind."""
    rng = random.Random(f"templates-{world.seed}")
    found = ["{}"]
    for index in range(TEMPLATES):
        relation = RELATIONS[index % len(RELATIONS)]
        phrasing = rng.choice(relation.phrasings_of(DIRECTIONS[index % 2]))
        person = world.bystanders[index % len(world.bystanders)]
        prompt = phrasing.prompt.format(world.names[person])
        found.append(f"{prompt} {world.answer(person, relation)}. {{}}")
    return found
