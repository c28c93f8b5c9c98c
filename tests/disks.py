"""A disk that is nearly full, for tests of what happens then."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SIZE = 64 * 1024
"""Bytes on the small disk; more than a page, and less than any model."""


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Lend a file system of a few pages; the test is skipped where none may be made."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system, which root has")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave no page of a disk free."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 1024):
            pass


def leave_room(disk: Path, size: int) -> None:
    """Fill a disk but for some bytes; those of a page at least."""
    fill(disk)
    filler = disk / "filler"
    os.truncate(filler, filler.stat().st_size - size)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Refuse all writes to a small disk meanwhile, even those of root."""
    remount = ["mount", "-o"]
    subprocess.run([*remount, "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run([*remount, "remount,rw", str(disk)], check=True)
