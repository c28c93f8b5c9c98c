"""How a server that holds the model tests whether a guessed subject was edited.

A key depends on the subject and on the words before it, and the plan of a run says all
else. So whoever can read the span of a party's keys computes the key of a guess and
looks whether it lies there (arXiv 2602.10134 does so with updates).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from editing.requests.edit_request import EditRequest

INSIDE = 1e-3
"""Share of a key that may lie outside of the span of keys that it is one of.

Rounding leaves 1e-7 in float32, and at most 1e-4 in an update that was sent in it.
"""

NEGLIGIBLE = 1e-6
"""Directions with a smaller share of the largest one are rounding."""


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


def span_of_gram(gram: Float[Tensor, "d_in d_in"]) -> Float[Tensor, "d_in rank"]:
    """Directions of the keys that a gram is the sum of, however it travelled."""
    values, vectors = torch.linalg.eigh(gram)
    span: Tensor = vectors[:, values > NEGLIGIBLE**2 * values[-1]]
    return span


def span_of_update(
    update: Float[Tensor, "d_out d_in"], prior: Float[Tensor, "d_in d_in"], rank: int
) -> Float[Tensor, "d_in rank"]:
    """Directions of the keys that an update was solved with.

    ``delta = RᵀK (P + KᵀK)⁻¹ = Rᵀ (I + K P⁻¹ Kᵀ)⁻¹ K P⁻¹``, so that the rows of
    ``delta P`` are sums of keys. They are all of their span if there are no more keys
    than `d_out`.

    Args:
        update: Of one layer.
        prior: That it was solved against.
        rank: How many keys there are; their number is sent openly.
    """
    rows: Tensor = torch.linalg.svd(update.double() @ prior, full_matrices=False).Vh
    return rows[:rank].mT


def share_outside(
    keys: Float[Tensor, "n d_in"], span: Float[Tensor, "d_in rank"]
) -> Float[Tensor, " n"]:
    """``‖k − P k‖ / ‖k‖`` for the projection ``P`` onto a span."""
    rest = keys - keys @ span @ span.mT
    shares: Tensor = rest.norm(dim=1) / keys.norm(dim=1)
    return shares


def accuracy(shares: Float[Tensor, " n"], edited: Bool[Tensor, " n"]) -> float:
    """How often the server is right, if half of its guesses were edited."""
    said = shares < INSIDE
    right = [(said == edited)[side].double().mean() for side in (edited, ~edited)]
    return float(sum(right) / 2)


def are_among(
    guesses: Sequence[Guess], requests: Iterable[EditRequest]
) -> Bool[Tensor, " n"]:
    """Which guesses are right."""
    asked = {Guess.of(request) for request in requests}
    return torch.tensor([guess in asked for guess in guesses])
