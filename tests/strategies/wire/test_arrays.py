"""Tensors survive the wire in their own precision, and digests tell them apart."""

import hashlib
import io

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict

from strategies.wire.arrays import (
    digest_array,
    digest_arrays,
    to_array,
    to_tensor,
    to_tensors,
    write_delta,
)
from tests.strategies.transport import over_the_wire

PRECISIONS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (7,)])
def test_tensors_survive_the_wire_bit_for_bit(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    """In whatever precision, transposed ones too."""
    tensor = (
        torch.randn(shape, dtype=torch.float64).to(dtype).mT
        if len(shape) == 2
        else torch.randn(shape).to(dtype)
    )
    sent = over_the_wire(RecordDict({"a": ArrayRecord({"x": to_array(tensor)})}))
    found = to_tensor(sent.content.array_records["a"]["x"])
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_an_update_in_the_precision_of_its_weight_loses_nothing(
    dtype: torch.dtype,
) -> None:
    """The edited weight is the one that the file of the run makes, to the bit."""
    update = torch.randn(4, 6, dtype=torch.float64)
    weight = torch.randn(4, 6, dtype=torch.float64).to(dtype)
    sent = to_tensors(write_delta({"w": update}, dtype))["w"]
    assert sent.dtype == dtype
    filed = update if dtype == torch.float64 else update.float()
    assert torch.equal(weight + sent, weight + filed.to(dtype))


def test_a_digest_tells_precision_and_shape_apart() -> None:
    """Bytes alone are those of many arrays."""
    tensors = [
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(3, 2, dtype=torch.float64),
        torch.zeros(2, 6),
        torch.zeros(2, 3, dtype=torch.bfloat16),
    ]
    assert len({digest_array(to_array(each)) for each in tensors}) == 4


def test_a_digest_tells_names_and_values_apart_and_not_their_order() -> None:
    """Targets are filed under the digest of the updates that the model carried."""
    one, two = Array(np.zeros(3)), Array(np.ones(3))
    digest = digest_arrays(ArrayRecord({"a": one, "b": two}))
    assert digest == digest_arrays(ArrayRecord({"b": two, "a": one}))
    others = [{"a": two, "b": one}, {"a": one, "c": two}, {"a": one}, {}]
    assert digest not in {digest_arrays(ArrayRecord(each)) for each in others}
    assert digest_arrays(ArrayRecord()) == hashlib.sha256().hexdigest()


def test_no_memory_is_taken_for_numbers_that_are_not_there() -> None:
    """A header of a hundred bytes may name a terabyte."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**18)}
    np.lib.format.write_array_header_1_0(file, header)
    array = Array("float32", (2**20, 2**18), "numpy.ndarray", file.getvalue())
    with pytest.raises(ValueError, match="its header names"):
        to_tensor(array)
