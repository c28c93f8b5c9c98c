"""A disk without room is known by the system's number, whoever tells of it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editing.covariance.covariance import Covariance, CovarianceError, Provenance
from editing.covariance.files import save_covariance
from editing.files.disk import flush_all, has_no_room, put_in_place, system_number
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
    """Also behind an error that was raised from none."""
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


def test_what_is_put_in_place_is_whole_or_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails when it is told to flush keeps the earlier file."""
    draft, file = tmp_path / "draft", tmp_path / "file"
    file.write_text("before")
    draft.write_text("after")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="broken"):
            put_in_place(draft, file)
    assert file.read_text() == "before"
    put_in_place(draft, file)
    assert file.read_text() == "after"
    assert not draft.exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_flushes_nothing_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Such as some that lie in a network."""

    def refuse(_: int) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    (tmp_path / "draft").write_text("after")
    put_in_place(tmp_path / "draft", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "after"


def test_a_folder_is_flushed_with_all_that_lies_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with its own name, which is its parent's."""
    file = tmp_path / "results" / "deep" / "file"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    flushed: list[int] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino)
    )
    flush_all(tmp_path / "results")
    places = [file, file.parent, file.parent.parent, tmp_path]
    assert sorted(flushed) == sorted(place.stat().st_ino for place in places)
