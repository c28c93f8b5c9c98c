"""A file is written whole or not at all, with its mode from the first byte on."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editing.files.atomic import (
    PRIVATE_FILE,
    create_private,
    flush_all,
    make_private,
    partial_file,
    write_private,
    write_whole,
)
from editing.files.lock import locked
from tests.conftest import ROOT
from tests.disks import fill, small_disk


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_private_files_and_their_folders_admit_the_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        write_private(tmp_path / "a" / "whole.json", b"{}")
        create_private(tmp_path / "b" / "new.json", "{}")
        with locked(tmp_path / "a" / ".lock"):
            modes = {mode(each) for each in (tmp_path / "a").iterdir()}
        make_private(tmp_path)
    finally:
        os.umask(before)
    assert modes == {mode(tmp_path / "b" / "new.json")} == {0o600}
    folders = (tmp_path, tmp_path / "a", tmp_path / "b")
    assert [mode(each) for each in folders] == [0o700] * 3


def test_other_files_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    """Also those that a library writes, and those that replace a private one."""
    (tmp_path / "plain").touch(0o600)
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "plain", "x")
        with partial_file(tmp_path / "library") as partial:
            save_file({"a": torch.zeros(3)}, partial)
        with partial_file(tmp_path / "private", PRIVATE_FILE) as partial:
            save_file({"a": torch.zeros(3)}, partial)
    finally:
        os.umask(before)
    found = {path.name: mode(path) for path in tmp_path.iterdir()}
    assert found == {"plain": 0o640, "library": 0o640, "private": 0o600}


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """No partial file is left."""
    whole = tmp_path / "whole"
    for text in ("long before", "é"):
        write_private(whole, text.encode())
        assert whole.read_text("utf-8") == text
        write_whole(whole, text + "\n")
        assert whole.read_bytes() == (text + "\n").encode()
    assert list(tmp_path.iterdir()) == [whole]


def test_a_block_that_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    """Also if it is interrupted after it wrote something."""
    file = tmp_path / "file"
    file.write_text("before")

    def interrupt() -> None:
        with partial_file(file) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_exists_is_not_created_again(tmp_path: Path) -> None:
    """It keeps its bytes, and no partial file is left."""
    file = tmp_path / "file"
    assert create_private(file, "first")
    assert not create_private(file, "second")
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_harms_nothing_that_was_there(tmp_path: Path) -> None:
    """Above all no file that would be replaced."""
    with small_disk(tmp_path / "disk") as disk:
        whole = disk / "whole"
        write_private(whole, b"before")
        fill(disk)
        with pytest.raises(OSError, match="No space"):
            write_private(whole, b"x" * 9000)
        assert whole.read_bytes() == b"before"
        assert sorted(disk.iterdir()) == [disk / "filler", whole]


LIMITED = """
import resource, sys
from pathlib import Path
from editing.files.atomic import write_private
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
try:
    write_private(Path(sys.argv[1]) / "file", b"x" * 9000)
except OSError as error:
    print(error.errno)
"""


def test_a_limit_on_the_size_of_files_harms_nothing_either(tmp_path: Path) -> None:
    """It needs no right to mount anything; the system's number is its own."""
    file = tmp_path / "file"
    file.write_text("before\n")
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert said.stdout.split() == [b"27"]
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "before\n"


def test_a_file_keeps_its_earlier_bytes_if_the_new_ones_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are flushed before the file has its name."""
    file = tmp_path / "file"
    file.write_text("before")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="broken"):
            write_whole(file, "after")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
    write_whole(file, "after")
    assert file.read_text() == "after"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_flush_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Some network file systems have none."""

    def refuse(_: int) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "file", "after")
    assert (tmp_path / "file").read_text() == "after"


def test_a_folder_is_flushed_with_everything_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with its own name, which its parent holds."""
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
