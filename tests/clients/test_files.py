"""Private files are whole or not there, and nobody else's."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clients.files import add_private, make_private, write_private
from tests.conftest import ROOT
from tests.disks import fill, small_disk


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_their_folders_are_their_owner_s(tmp_path: Path) -> None:
    """Whatever the umask says."""
    before = os.umask(0)
    try:
        write_private(tmp_path / "a" / "whole.json", b"{}")
        add_private(tmp_path / "a" / "lines.jsonl", "{}")
        make_private(tmp_path)
    finally:
        os.umask(before)
    files = [tmp_path / "a" / name for name in ("whole.json", "lines.jsonl")]
    assert [mode(file) for file in files] == [0o600, 0o600]
    assert [mode(each) for each in (tmp_path, tmp_path / "a")] == [0o700, 0o700]


def test_a_file_is_replaced_and_lines_are_added(tmp_path: Path) -> None:
    """Nothing else lies there afterwards."""
    whole, lines = tmp_path / "whole", tmp_path / "lines"
    for text in ("long before", "é"):
        write_private(whole, text.encode())
        add_private(lines, text)
    assert whole.read_text() == "é"
    assert lines.read_text() == "long before\né\n"
    assert sorted(tmp_path.iterdir()) == [lines, whole]


def test_a_full_disk_harms_nothing_that_was_there(tmp_path: Path) -> None:
    """Neither a file that would be replaced nor the lines before."""
    with small_disk(tmp_path / "disk") as disk:
        whole, lines = disk / "whole", disk / "lines"
        write_private(whole, b"before")
        add_private(lines, "before")
        fill(disk)
        with pytest.raises(OSError, match="No space"):
            write_private(whole, b"x" * 9000)
        with pytest.raises(OSError, match="No space"):
            add_private(lines, "x" * 9000)
        assert whole.read_bytes() == b"before"
        assert lines.read_text() == "before\n"
        assert sorted(disk.iterdir()) == [disk / "filler", lines, whole]


LIMITED = """
import resource, sys
from pathlib import Path
from clients.files import add_private, write_private
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
for write, data in ((write_private, b"x" * 9000), (add_private, "x" * 9000)):
    try:
        write(Path(sys.argv[1]) / write.__name__, data)
    except OSError as error:
        print(error.errno)
"""


def test_a_limit_on_the_size_of_files_harms_nothing_either(tmp_path: Path) -> None:
    """It needs no right to mount anything; the system's number is its own."""
    for name in ("write_private", "add_private"):
        (tmp_path / name).write_text("before\n")
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert said.stdout.split() == [b"27", b"27"]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "add_private",
        "write_private",
    ]
    assert {each.read_text() for each in tmp_path.iterdir()} == {"before\n"}
