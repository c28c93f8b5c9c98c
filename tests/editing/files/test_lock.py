"""A lock keeps other processes out as long as its holder lives."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.files.lock import locked


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks on files")
def test_one_process_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    """The second one waits; a process that was killed holds no lock."""
    ready, report = os.pipe()
    with locked(tmp_path / ".lock"):
        child = os.fork()
        if child == 0:
            with locked(tmp_path / ".lock"):
                os.write(report, b"in")
                os.kill(os.getpid(), signal.SIGKILL)
        os.set_blocking(ready, False)
        time.sleep(0.2)
        with pytest.raises(BlockingIOError):
            os.read(ready, 2)
    os.set_blocking(ready, True)
    assert os.read(ready, 2) == b"in"
    os.waitpid(child, 0)
    with locked(tmp_path / ".lock"):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_held_lock_is_refused_with_the_caller_s_words(tmp_path: Path) -> None:
    """Within one process too, and whether the block before ended well or not."""
    file = tmp_path / "lock"

    def fail() -> None:
        with locked(file, "busy"):
            assert file.exists()
            with locked(file, "in use"):
                pass

    for _ in range(2):
        with pytest.raises(InputError, match=r"^in use$"):
            fail()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Some network file systems have none."""

    def refuse(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path / "lock", "busy"):
        (tmp_path / "file").write_text("x")
    assert (tmp_path / "file").exists()
