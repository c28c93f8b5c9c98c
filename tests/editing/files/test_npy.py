"""A header is read and checked before its numbers are."""

import io
from typing import Literal

import numpy as np
import pytest

from editing.files.npy import ArrayHeader, read_array, read_header


def written(array: np.ndarray) -> bytes:
    """Write an array as NumPy does."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i8", "|u1"])
def test_an_array_is_what_numpy_reads(dtype: str, order: Literal["C", "F"]) -> None:
    """Values, shape and precision."""
    array = np.arange(6).reshape(2, 3).astype(dtype).copy(order=order)
    data = written(array)
    found = read_array(io.BytesIO(data), len(data))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    header = read_header(io.BytesIO(data), len(data))
    assert header.shape == (2, 3)
    assert header.start == len(data) - array.nbytes


@pytest.mark.parametrize("change", [-1, 1, 8])
def test_bytes_that_are_missing_or_too_many_are_refused(change: int) -> None:
    """The header says how many there are."""
    data = written(np.eye(2))
    with pytest.raises(ValueError, match="its header names"):
        read_array(io.BytesIO(data), len(data) + change)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([True])])
def test_what_is_no_real_number_is_refused(array: np.ndarray) -> None:
    """By its kind."""
    data = written(array)
    with pytest.raises(ValueError, match="instead of numbers"):
        read_array(io.BytesIO(data), len(data))


def test_a_caller_refuses_by_the_header() -> None:
    """And no number is read."""

    def refuse(header: ArrayHeader) -> None:
        raise ValueError(f"unwanted {header.shape}")

    data = io.BytesIO(written(np.eye(2)))
    size = len(data.getvalue())
    with pytest.raises(ValueError, match=r"unwanted \(2, 2\)"):
        read_array(data, size, refuse)
    assert data.tell() == size - 32
