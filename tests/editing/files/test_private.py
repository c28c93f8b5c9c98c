"""Private files are whole or not there, and nobody else's."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editing.files.private import alone_in, make_private, write_private
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
        with alone_in(tmp_path / "a"):
            make_private(tmp_path)
    finally:
        os.umask(before)
    files = [tmp_path / "a" / name for name in ("whole.json", ".lock")]
    assert [mode(file) for file in files] == [0o600, 0o600]
    assert [mode(each) for each in (tmp_path, tmp_path / "a")] == [0o700, 0o700]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """Nothing else lies there afterwards."""
    whole = tmp_path / "whole"
    for text in ("long before", "é"):
        write_private(whole, text.encode())
    assert whole.read_text() == "é"
    assert list(tmp_path.iterdir()) == [whole]


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
from editing.files.private import write_private
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


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks on files")
def test_one_process_at_a_time_has_a_folder_to_itself(tmp_path: Path) -> None:
    """Whoever comes second waits; one that was killed keeps nobody out."""
    ready, go_on = os.pipe()
    with alone_in(tmp_path):
        child = os.fork()
        if child == 0:
            with alone_in(tmp_path):
                os.write(go_on, b"in")
                os.kill(os.getpid(), signal.SIGKILL)
        os.set_blocking(ready, False)
        time.sleep(0.2)
        with pytest.raises(BlockingIOError):
            os.read(ready, 2)
    os.set_blocking(ready, True)
    assert os.read(ready, 2) == b"in"
    os.waitpid(child, 0)
    with alone_in(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
