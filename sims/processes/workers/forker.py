"""A process without threads that forks the processes of simulated clients.

A run's process has threads soon, and whoever forks then copies locks that nobody ever
opens. So it forks this one first, which waits at the other end of a pair of sockets.
It loads the client app once, and forks a process for each socket that it is handed.
Messages pass over these pairs alone; nothing listens at any address, and none of the
processes outlives the one that began them.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import NoReturn

from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.clientapp.utils import get_load_client_app_fn

from sims.processes.workers.work import work

REQUEST_BYTES = 1 << 16
SET_DEATH_SIGNAL, SET_NAME = 1, 15
"""``PR_SET_PDEATHSIG`` and ``PR_SET_NAME`` of Linux's ``prctl``."""

FLUSH_SECONDS = 2.0
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Place:
    """Where a run's client app is.

    Attributes:
        reference: ``module:attribute``.
        folder: The folder that the module is in.
    """

    reference: str
    folder: str

    def load(self) -> ClientApp:
        """Import the app; what is wrong with it is a `LoadClientAppError`."""
        load = get_load_client_app_fn(self.reference, self.folder, multi_app=False)
        return load("", "", "")


class Forker:
    """The way to the process that forks clients, and to what they print."""

    def __init__(self, control: socket.socket, output: int) -> None:
        """Take our end of its pair of sockets, and that of the pipe they print to."""
        self._control = control
        self._reader = Thread(target=_pass_on, args=(output,), daemon=True)

    def load(self, place: Place) -> None:
        """Name the app; it is loaded while this process does other things."""
        self._reader.start()
        self._control.send(json.dumps(asdict(place)).encode())

    def fork(self, gpus: str | None = None) -> Connection:
        """Fork a client's process, which ends with the connection that is given.

        It is an `OSError` if there is nobody left who forks.

        Args:
            gpus: The GPUs that it sees, as in ``CUDA_VISIBLE_DEVICES``; None for all
                that this process sees.
        """
        ours, its = socket.socketpair()
        with its:
            asked = json.dumps(gpus).encode()
            socket.send_fds(self._control, [asked], [its.fileno()])
        return Connection(ours.detach())

    def close(self) -> None:
        """Let it end, and read what its last clients print."""
        self._control.close()
        if self._reader.is_alive():
            self._reader.join(FLUSH_SECONDS)


def start_forker() -> Forker:
    """Fork the process from this one, which must not have a second thread."""
    refuse_threads()
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        ours.close()
        os.close(reading)
        for standard in (1, 2):
            os.dup2(writing, standard)
        os.close(writing)
        _run("forker", parent, partial(serve, its))
    its.close()
    os.close(writing)
    return Forker(ours, reading)


def serve(control: socket.socket) -> None:
    """Load the app that is named, then fork a process for each socket that comes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for clients
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    named = control.recv(REQUEST_BYTES)
    if not named:
        return
    place = Place(**json.loads(named))
    with suppress(LoadClientAppError):  # each client says so, in answer to its message
        place.load()
    refuse_threads()
    gc.freeze()  # a collection would write to every object, and so copy its page
    parent = os.getpid()
    while True:
        asked, sockets, _, _ = socket.recv_fds(control, REQUEST_BYTES, 1)
        if not asked:
            return
        with socket.socket(fileno=sockets[0]) as its:
            if os.fork() == 0:
                control.close()
                _run("client", parent, partial(_work, its, json.loads(asked), place))


def refuse_threads() -> None:
    """Refuse to fork a process with threads, those of libraries included.

    Raises:
        RuntimeError: If this one has more than one.
    """
    if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
        raise RuntimeError(f"a process with {threads} threads cannot be forked safely")


def _work(its: socket.socket, gpus: str | None, place: Place) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if gpus is not None:
        os.environ[VISIBLE_GPUS] = gpus
    work(Connection(its.detach()), place.load)


def _run(name: str, parent: int, do: Callable[[], None]) -> NoReturn:
    """Do a forked process's work and end it, or be ended with its parent."""
    status = 1
    try:
        control = ctypes.CDLL(None).prctl
        control(SET_NAME, name.encode(), 0, 0, 0)
        control(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:  # it may have ended before we asked
            do()
            status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _pass_on(output: int) -> None:
    """Print what clients print, where Flower collects a run's log."""
    with os.fdopen(output, errors="replace") as lines:
        for line in lines:
            sys.stdout.write(line)
