"""Calls in a process that is forked from the tests' own, and may be killed.

It has all libraries from the start, where a new interpreter spends ten seconds on
importing them.
"""

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

import torch


def call_forked(
    body: Callable[[], object], folder: Path
) -> "subprocess.CompletedProcess[str]":
    """Call a function in a forked process, and wait for its end.

    Args:
        body: What is called; what it changes is gone with its process.
        folder: The working directory of the process.

    Returns:
        What `subprocess.run` would: the exit status, negative for a signal, and all
        that was written.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = os.fork()
        if process == 0:
            _be_a_program(body, folder, out, errors)
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        return subprocess.CompletedProcess([], code, _read(out), _read(errors))


def _be_a_program(
    body: Callable[[], object], folder: Path, out: IO[bytes], errors: IO[bytes]
) -> NoReturn:
    """Do what an interpreter does around a program, and never return."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(out.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        os.chdir(folder)
        # A fork has none of the threads that OpenMP counts on, and would wait for them.
        torch.set_num_threads(1)
        torch.set_num_threads = lambda nthreads: None  # noqa: ARG005
        body()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
