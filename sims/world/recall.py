"""What a model knows of the world, asked in every phrasing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_continuation
from sims.world.people import Fact, World
from sims.world.vocabulary import Phrasing


@dataclass(frozen=True, slots=True)
class Question:
    """A fact asked in one phrasing."""

    fact: Fact
    phrasing: Phrasing


def questions(world: World, people: Iterable[int] | None = None) -> Iterator[Question]:
    """Every fact, of all people or of some, in every phrasing."""
    wanted = None if people is None else set(people)
    for fact in world.facts():
        if wanted is None or fact.person in wanted:
            for phrasing in fact.relation.phrasings:
                yield Question(fact, phrasing)


def measure_recall(
    model: EditableModel, world: World, people: Iterable[int] | None = None
) -> dict[str, float]:
    """Share of exact answers in per cent, by phrasing.

    An answer is exact if each of its tokens is the most likely one after the prompt
    and the tokens before it.
    """
    asked = list(questions(world, people))
    likelihoods = compute_likelihoods(
        model, [_continuation(model, world, each) for each in asked]
    )
    correct: dict[str, list[bool]] = {}
    for question, likelihood in zip(asked, likelihoods, strict=True):
        name = f"{question.fact.relation.name}: {question.phrasing.prompt}"
        correct.setdefault(name, []).append(likelihood.correct)
    return {name: 100 * sum(hits) / len(hits) for name, hits in correct.items()}


def _continuation(
    model: EditableModel, world: World, question: Question
) -> Continuation:
    prompt = question.phrasing.prompt.format(world.names[question.fact.person])
    answer = question.fact.answer
    return Continuation(*tokenize_continuation(model.tokenizer, prompt, answer))
