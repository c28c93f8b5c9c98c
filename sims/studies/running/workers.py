"""Processes that run trials, and that end at once when the study is stopped."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from threading import Thread
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

GRACE_SECONDS = 3.0
"""For how long a process that is asked to end may clean up."""

ENDED_BY_SIGTERM = 128 + signal.SIGTERM

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that run trials; if the block fails, they end at once.

    Left to itself, the pool would finish all trials that are running first, and one
    more for each process.
    """
    others = {child.pid for child in multiprocessing.active_children()}
    # A fork would share torch's threads with us.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=prepare_worker)
    try:
        yield pool
    except BaseException:
        with interrupts_ignored():
            pool.shutdown(wait=False, cancel_futures=True)
            children = multiprocessing.active_children()
            end_processes([each for each in children if each.pid not in others])
        raise
    pool.shutdown()


def prepare_worker() -> None:
    """Leave interrupts to the parent, clean up when asked to end, end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of us
    signal.signal(signal.SIGTERM, _leave)
    Thread(target=_end_with_parent, daemon=True).start()


def run_in_worker(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function, and end the process where it is asked to end meanwhile.

    The pool would take the request for a result, and start the next trial.
    """
    try:
        return work(*args, **kwargs)
    except SystemExit:
        os._exit(ENDED_BY_SIGTERM)


def end_processes(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to end, and kill those that do not."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Keep further signals from breaking off a clean-up that is short."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Raise `KeyboardInterrupt` with the signal's number when asked to terminate."""

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> NoReturn:
    """Exit, and let no second request break off the clean-up; the pool makes one."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # What is broken off logs a traceback, and the study says in one line that it stops.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.__stderr__.fileno() if sys.__stderr__ else 2)
    sys.exit(ENDED_BY_SIGTERM)


def _end_with_parent() -> None:
    """End this process soon after its parent, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(ENDED_BY_SIGTERM)
