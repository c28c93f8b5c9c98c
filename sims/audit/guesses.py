"""Guesses of what was edited, and the keys that tell them apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from editing.requests.edit_request import EditRequest


@dataclass(frozen=True, slots=True)
class Guess:
    """What a key tells apart: a subject, and the words that come before it."""

    beginning: str
    subject: str

    @classmethod
    def of(cls, request: EditRequest) -> "Guess":
        """What is to be guessed of a request."""
        return cls(request.prompt.partition("{}")[0], request.subject)


def distinct(requests: Iterable[EditRequest]) -> dict[Guess, EditRequest]:
    """One request for each guess; the others have its key."""
    found: dict[Guess, EditRequest] = {}
    for request in requests:
        found.setdefault(Guess.of(request), request)
    return found


def are_among(
    guesses: Iterable[Guess], requests: Iterable[EditRequest]
) -> Bool[Tensor, " n"]:
    """Which guesses are right."""
    asked = {Guess.of(request) for request in requests}
    return torch.tensor([guess in asked for guess in guesses])


def index_objects(requests: Sequence[EditRequest]) -> list[str]:
    """List the new objects that guesses name, each once, in alphabetical order."""
    return sorted({each.target_new for each in requests})
