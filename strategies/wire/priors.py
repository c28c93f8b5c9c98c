"""What a party that solves alone cannot know of its prior: memory, and pooled ``C₀``.

A party has ``C₀`` from its own text or file as a rule. One that is made of all parties'
texts is nowhere but at the server, so it travels with the job, and with it everybody
gets a statistic of the texts of all.
"""

from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, Message
from jaxtyping import Float
from torch import Tensor

from editing.algebra.second_moments import (
    read_triangle,
    triangle_width,
    write_triangle,
)
from strategies.wire.arrays import read_numbers
from strategies.wire.messages import reading

GRAM, COVARIANCE = "gram.", "covariance."


def write_prior(
    grams: Mapping[int, Float[Tensor, "d_in d_in"]],
    covariances: Mapping[int, Float[Tensor, "d_in d_in"]],
) -> ArrayRecord:
    """Pack matrices by layer: grams of earlier rounds, and ``C₀`` if it travels.

    All are symmetric, so half of each is enough.
    """
    matrices = {f"{GRAM}{layer}": each for layer, each in grams.items()}
    matrices |= {f"{COVARIANCE}{layer}": each for layer, each in covariances.items()}
    halves = {name: write_triangle(each) for name, each in matrices.items()}
    return ArrayRecord({name: Array(half.numpy()) for name, half in halves.items()})


def read_grams(message: Message) -> dict[int, Float[Tensor, "d_in d_in"]]:
    """The grams of earlier rounds, by layer; none unless a party solves alone.

    Others than `write_prior` packs are a `ProtocolError`.
    """
    with reading("grams of earlier rounds"):
        return {
            layer: read_triangle(half, triangle_width(half))
            for layer, half in _read(message, GRAM).items()
        }


def read_pooled_covariance(
    message: Message, widths: Mapping[int, int]
) -> dict[int, Float[Tensor, "d_in d_in"]]:
    """``C₀`` by layer, if it was sent; `write_prior` packs it.

    Another than it packs is a `ProtocolError`.

    Args:
        message: The server's.
        widths: ``d_in`` of each edited layer.
    """
    with reading("a pooled covariance"):
        return {
            layer: read_triangle(half, widths[layer])
            for layer, half in _read(message, COVARIANCE).items()
        }


def _read(message: Message, kind: str) -> dict[int, Tensor]:
    record = message.content.array_records.get("prior", ArrayRecord())
    return {
        int(name.removeprefix(kind)): read_numbers(array)
        for name, array in record.items()
        if name.startswith(kind)
    }
