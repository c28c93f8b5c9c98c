"""Calls in processes that are forked from one with the libraries loaded.

A call is a line in a named pipe, which a fork server reads, as in
`sims.processes.warm_clients`. It forks a process for it; what that prints, and
how it ends, is in files.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

from sims.processes.programs import Program

FORKS = sys.platform == "linux"
"""Whether a process may be forked once it has loaded libraries; macOS forbids some."""

LOOK_SECONDS = 0.02
FAILED = 1
OUTPUT, ERRORS, STATUS = "stdout", "stderr", "status"


@dataclass(frozen=True)
class ForkedCall:
    """One call.

    Attributes:
        call: ``module:function`` without arguments; it reads `sys.argv`.
        arguments: What `sys.argv` has after the function's name.
        folder: An empty folder for what it prints, and for its exit status.
    """

    call: str
    arguments: tuple[str, ...]
    folder: str

    def run(self) -> None:
        """Make the call in a process of its own, and leave its exit status.

        That of a killed process is negative, as `subprocess` has it.
        """
        process = os.fork()
        if process == 0:
            os._exit(self._call())
        _, ended = os.waitpid(process, 0)
        place = Path(self.folder)
        (place / f".{STATUS}").write_text(str(os.waitstatus_to_exitcode(ended)))
        (place / f".{STATUS}").rename(place / STATUS)

    def _call(self) -> int:
        place = Path(self.folder)
        for number, name in ((1, OUTPUT), (2, ERRORS)):
            os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), number)
        module, _, name = self.call.partition(":")

        def call() -> None:
            getattr(import_module(module), name)()

        sys.argv = [name, *self.arguments]
        return status_of(call)


def status_of(work: Callable[[], None]) -> int:
    """Run a process's work to its end, whatever that is, and give its exit status."""
    try:
        work()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED * bool(end.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return FAILED
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return 0


@dataclass(frozen=True)
class ForkServer:
    """The way to a program that forks a process for each call.

    Attributes:
        pipe: The named pipe that it reads.
        keeper: Its program.
    """

    pipe: Path
    keeper: Program

    def call(
        self, function: str, arguments: Sequence[str]
    ) -> subprocess.CompletedProcess[str] | None:
        """Call a function and wait for its end; None if it cannot be.

        Args:
            function: ``module:function``, see `ForkedCall`.
            arguments: What the function finds in `sys.argv`.
        """
        if not FORKS:
            return None
        place = Path(mkdtemp(prefix="asked-", dir=self.pipe.parent))
        asked = ForkedCall(function, tuple(arguments), str(place))
        # Open for both, so that this does not wait for the keeper to open it.
        with open(os.open(self.pipe, os.O_RDWR), "wb", buffering=0) as pipe:  # noqa: PTH123
            pipe.write(json.dumps(asdict(asked)).encode() + b"\n")
            while self.keeper.is_running:
                with suppress(FileNotFoundError):
                    status = int((place / STATUS).read_text())
                    printed = [
                        (place / name).read_text(errors="replace")
                        for name in (OUTPUT, ERRORS)
                    ]
                    return subprocess.CompletedProcess(function, status, *printed)
                time.sleep(LOOK_SECONDS)
        return None
