"""What is mapped is what NumPy reads, and takes no memory of its own."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import pytest
import torch

from editing.covariance.mapping import PublishedMeans, PublishedSum, read_member

WIDTH = 300

Save = Callable[..., None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_array_is_what_numpy_reads(
    dtype: type[np.floating], order: Literal["C", "F"], save: Save, tmp_path: Path
) -> None:
    """Its values, its shape and its precision, wherever in the archive it lies."""
    drawn = np.random.default_rng(0).normal(size=(WIDTH, WIDTH))
    path = tmp_path / "a.npz"
    wanted = np.array(drawn, dtype, order=order)
    save(path, first=np.arange(7), wanted=wanted, last=3)
    found = read_member(path, "wanted")
    assert found.dtype == dtype
    assert np.array_equal(found, wanted)
    assert isinstance(found, np.memmap) == (save is np.savez)


def test_a_mapped_array_can_be_written_to_and_its_file_stays(tmp_path: Path) -> None:
    """Nobody changes a file that others read."""
    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones((3, 3), np.float32))
    before = path.read_bytes()
    found = torch.from_numpy(read_member(path, "a"))
    found.add_(1)
    assert found.sum() == 18
    assert path.read_bytes() == before


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    """One bit is enough, as where NumPy reads it."""
    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones((WIDTH, WIDTH), np.float32))
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)
    with pytest.raises(BadZipFile, match="not those written"):
        read_member(path, "a")
    with pytest.raises((BadZipFile, zlib.error)), np.load(path) as file:
        file["a"]


def test_objects_are_refused(tmp_path: Path) -> None:
    """Reading them would run what their author wrote."""
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{}]))
    with pytest.raises(ValueError, match="objects instead of numbers"):
        read_member(path, "a")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mean_is_the_sum_over_the_tokens_in_float64(dtype: torch.dtype) -> None:
    """And the sum is as it was, however often the mean is computed."""
    drawn = torch.Generator().manual_seed(0)
    total = torch.randn(5, 5, generator=drawn).to(dtype)
    kept = total.clone()
    means = PublishedMeans({3: PublishedSum(total, 7)})
    for _ in range(2):
        assert torch.equal(means[3], kept.double() / 7)
    assert torch.equal(total, kept)
    assert (list(means), len(means)) == ([3], 1)
