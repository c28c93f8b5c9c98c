"""A full disk is recognised by the system's error number, in any exception."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editing.covariance.covariance import Covariance, CovarianceError, Provenance
from editing.covariance.files import save_covariance
from editing.files.disk import has_no_room, system_number
from tests.disks import SIZE, small_disk

NUMBERS = torch.zeros(SIZE)


def plainly(folder: Path) -> None:
    """Write too much with Python."""
    (folder / "a").write_bytes(NUMBERS.numpy().tobytes())


def by_a_library(folder: Path) -> None:
    """Write too much with a library that has errors of its own."""
    save_file({"a": NUMBERS}, folder / "a.safetensors")


def as_an_input_error(folder: Path) -> None:
    """Write too much with a function that explains what went wrong."""
    moment = NUMBERS[: 160 * 160].reshape(160, 160)
    found = Covariance({1: moment}, Provenance("w", "text", tokens=1))
    save_covariance(found, folder / "c.safetensors")


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (plainly, OSError),
        (by_a_library, Exception),
        (as_an_input_error, CovarianceError),
    ],
)
def test_a_full_disk_is_known_in_every_guise(
    tmp_path: Path, write: Callable[[Path], None], kind: type[Exception]
) -> None:
    """Also in an error that was raised from none."""
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(kind) as caught:
            write(disk)
        assert has_no_room(caught.value)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EDQUOT, "quota"), errno.EDQUOT),
        (FileNotFoundError(errno.ENOENT, "gone"), errno.ENOENT),
        (OSError("no number"), None),
        (ValueError("os error 28"), None),
    ],
)
def test_only_the_system_has_numbers(error: Exception, number: int | None) -> None:
    """A text that looks like one is none."""
    assert system_number(error) == number
    assert has_no_room(error) == (number == errno.EDQUOT)
