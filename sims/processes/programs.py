"""A long-running program that ends with us, can be started again, and be killed."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sims.errors import RunFailedError
from sims.processes import guard
from sims.processes.guard import PROCESS, children

LOOK_SECONDS = 0.02
POLL_SECONDS = 0.1
CHUNK = 1 << 16
BEGIN_SECONDS = 10.0


@dataclass
class Program:
    """A program with all that it starts; none of it outlives us, if we are killed too.

    Attributes:
        name: Its name in messages.
        command: It and its arguments.
        folder: Its working folder.
        environment: Its environment.
        log: The file that it prints to, over all its starts.
        scratch: A folder that is removed when the program has ended; a new one for
            each start if None.
    """

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    log: Path
    scratch: Path | None = None
    _stack: ExitStack = field(default_factory=ExitStack, init=False, repr=False)
    _guard: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _scratch: Path = field(default=Path(), init=False, repr=False)

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: If it runs already.
        """
        if self.is_running:
            raise RuntimeError(f"{self.name} runs already")
        self._stack.close()
        self._scratch = self.scratch or Path(tempfile.mkdtemp(prefix="ce-"))
        log = self._stack.enter_context(self.log.open("ab"))
        command = [sys.executable, "-I", str(Path(guard.__file__).resolve())]
        self._guard = self._stack.enter_context(
            # A session of its own: signals to our process group must not reach it.
            subprocess.Popen(
                [*command, str(self._scratch), *self.command],
                env=dict(self.environment),
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )

    @contextmanager
    def running(self) -> Iterator["Program"]:
        """Run it within a block."""
        self.start()
        try:
            yield self
        finally:
            self.terminate()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def guard(self) -> subprocess.Popen[bytes]:
        """The process that guards it.

        Raises:
            RuntimeError: If it was never started.
        """
        if self._guard is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._guard

    def terminate(self) -> None:
        """Ask it to end, and wait until it and all that it started are gone."""
        self._stack.close()

    def kill(self) -> None:
        """Kill it and all that it started, as a power cut does, and wait for that."""
        self.signal(signal.SIGKILL, self._own_process())
        with suppress(subprocess.TimeoutExpired):
            self.guard.wait(BEGIN_SECONDS)
        self._stack.close()

    def restart(self) -> None:
        """Start it again, after it was killed or has ended; or end it first."""
        self.terminate()
        self.start()

    def processes(self, word: str = "") -> list[int]:
        """List its processes, itself first; systems without ``/proc`` list none.

        Args:
            word: Give those alone whose command line has it, such as ``clientapp``.
        """
        found = self._own_process()
        for process in found:  # grows while it is read
            found += children(process)
        return [each for each in found if word in command_line(each)]

    def signal(self, number: signal.Signals, processes: Sequence[int]) -> None:
        """Send a signal to some of its processes, as far as they are running."""
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def read_log(self) -> str:
        """Return all that it has printed."""
        return self.log.read_text(errors="replace") if self.log.is_file() else ""

    def wait_for(self, text: str, seconds: float = 60.0, *, times: int = 1) -> None:
        """Wait until its log has a text.

        Args:
            text: What to wait for.
            seconds: How long at most.
            times: How often it must be there.

        Raises:
            RunFailedError: If it ends before, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while self.read_log().count(text) < times:
            if not self.is_running or time.monotonic() > deadline:
                state = "is silent" if self.is_running else "ended"
                raise RunFailedError(
                    f"{self.name} {state} where {text!r} was expected: "
                    f"{self.read_log()[-500:]}"
                )
            time.sleep(LOOK_SECONDS)

    def _own_process(self) -> list[int]:
        """The program itself, if it runs; its guard needs a moment to start it."""
        deadline = time.monotonic() + BEGIN_SECONDS
        while self.is_running and time.monotonic() < deadline:
            with suppress(OSError):  # not there yet, or gone again
                text = (self._scratch / PROCESS).read_text()
                if text.endswith("\n"):
                    return [int(text)]
            time.sleep(LOOK_SECONDS)
        return []


def read_while(
    descriptor: int, is_over: Callable[[], bool], seconds: float = POLL_SECONDS
) -> Iterator[bytes]:
    """Yield what can be read, as it comes, until its end or that of something else."""
    while not is_over():
        if select.select([descriptor], [], [], seconds)[0]:
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                return
            yield chunk


def command_line(process: int) -> str:
    """A process's program and arguments; empty if it is gone."""
    try:
        data = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return ""
    return data.replace(b"\0", b" ").decode(errors="replace")
