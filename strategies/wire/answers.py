"""Moments of keys and gradients on the wire, up from a party and down to all."""

from collections.abc import Iterable

from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from editing.algebra.statistics import StatisticsError
from editing.answers.moments import ByShape, Moments, Shape
from editing.answers.vectors import read_vectors, write_vectors
from strategies.wire.arrays import to_array, to_tensors

ANSWERS = "answers"
"""The record of moments."""


def write_moments(moments: ByShape) -> RecordDict:
    """Pack moments; `read_moments` unpacks them."""
    arrays = {name: to_array(each) for name, each in write_vectors(moments).items()}
    return RecordDict({ANSWERS: ArrayRecord(arrays)})


def read_moments(
    content: RecordDict, shapes: Iterable[Shape], *, products: bool
) -> dict[Shape, Moments]:
    """Unpack the moments of some shapes.

    What is not there, or not of this protocol, is a `StatisticsError`.

    Args:
        content: What was sent.
        shapes: Of the edited layers.
        products: Whether gradients are whitened.
    """
    return read_vectors(read_answer_vectors(content), shapes, products=products)


def read_answer_vectors(content: RecordDict) -> dict[str, Tensor]:
    """Unpack moments as named vectors, unchecked.

    Raises:
        StatisticsError: If there are none, or they cannot be read.
    """
    try:
        return to_tensors(content.array_records[ANSWERS])
    except Exception as error:  # whatever a party's bytes make numpy raise
        raise StatisticsError(
            "Moments of keys and gradients were asked for, and the message does not "
            f"hold them ({type(error).__name__})."
        ) from None
