"""Which tests are quick, and which worker runs which test.

A test is left out of ``make quick`` if it has one of four marks:

- ``end_to_end``: every test below `tests/end_to_end`.
- ``training``: every test that uses the fixture `world`, which is there for whole runs
  on a model; other tests that train or edit for seconds carry the mark themselves.
- ``model``: every test of a module that makes or holds a language model.
- ``process``: every test from whose code `subprocess` or `os.fork` is reached by the
  names that functions use. What is not found so carries the mark itself: a test that
  starts a process and has no mark fails.

Under pytest-xdist a module stays on one worker, so that what its tests share is made
once; modules that share a federation of real processes stay together. The long ones
start first.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from inspect import isfunction, unwrap
from types import CodeType, ModuleType

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

from tests.trees import FOLDERS

MOST_WORKERS = 8
"""A worker needs about a gigabyte of memory."""

SHARED = ("lasting_hosts", "two_hosts")
"""Fixtures with real processes; all tests that use one run on one worker."""

PROCESS_EVENTS = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "subprocess.Popen",
}
"""Python's audit events of a new process."""

_started: list[str] = []


class ByModule(LoadGroupScheduling):
    """Keep a module on one worker, and modules of one ``xdist_group`` together."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if scope == nodeid else scope


def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Producer
) -> ByModule | None:
    """Choose the scheduler for ``--dist loadgroup``."""
    config.option.loadscopereorder = False  # the order of the collection is better
    return ByModule(config, log) if config.option.dist == "loadgroup" else None


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Count the workers for ``-n auto`` and ``-n logical``.

    The tests with real processes mostly wait for them, so ``auto`` is one more than
    there are cores.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    waiting = 1 if config.option.numprocesses == "auto" else 0
    return min(cores or 1, MOST_WORKERS) + waiting


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the marks that follow from place and fixtures; put long modules first."""
    for item in items:
        for mark in marks_of(item):
            item.add_marker(mark)
    ranks: dict[object, int] = {}
    for item in items:
        ranks[item.path] = min(rank_of(item), ranks.get(item.path, len(LONG_FIRST)))
    items.sort(key=lambda item: ranks[item.path])


def marks_of(item: pytest.Item) -> Iterator[pytest.MarkDecorator]:
    """Give the marks that follow from a test's place, fixtures and module."""
    if "end_to_end" in item.path.parts:
        yield pytest.mark.end_to_end
    if isinstance(item, pytest.Function):
        if reaches_process(item):
            yield pytest.mark.process
        if holds_model(item.module):
            yield pytest.mark.model
    fixtures = getattr(item, "fixturenames", ())
    if "world" in fixtures:
        yield pytest.mark.training
    yield from (pytest.mark.xdist_group(name) for name in SHARED if name in fixtures)


LONG_FIRST = ("end_to_end", "process", "training")


def rank_of(item: pytest.Item) -> int:
    """Rank a test by how long its kind takes; 0 is the longest."""
    marks = {mark.name for mark in item.iter_markers()}
    found = (rank for rank, name in enumerate(LONG_FIRST) if name in marks)
    return next(found, len(LONG_FIRST))


MODELS = {
    "tests.tiny",
    "tests.families",
    "tests.golden",
    "tests.sims.homes",
    "editing.models.loading",
}
"""Modules that make models."""


@cache
def holds_model(module: ModuleType) -> bool:
    """Whether a module of tests has a name of what makes a model, or a model."""
    values = list(vars(module).values())
    classes = {type(each).__module__ for each in values}
    makers = {each.__module__ for each in values if isfunction(each)}
    return bool(MODELS & (classes | makers))


def reaches_process(item: pytest.Function) -> bool:
    """Whether a test, its fixtures or what these call use `subprocess` or fork."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    waiting: list[object] = [
        definition.func for each in fixtures for definition in each
    ]
    waiting.append(item.function)
    seen: dict[int, object] = {}
    while waiting:
        used = waiting.pop()
        if used is subprocess or used is os.fork:
            return True
        if id(used) not in seen and id(used) not in _harmless:
            seen[id(used)] = used
            waiting += _names_used(used)
    _harmless.update(seen)
    return False


_harmless: dict[int, object] = {}
"""Functions and classes from which neither can be reached."""


def _names_used(used: object) -> Iterator[object]:
    """Look up the global names in a function, or in the methods of a class."""
    if str(getattr(used, "__module__", "")).partition(".")[0] not in FOLDERS:
        return
    if isinstance(used, type):
        yield from (each for each in vars(used).values() if isfunction(each))
    elif isfunction(used):
        whole = unwrap(used)
        codes = [whole.__code__]
        for code in codes:  # grows while it is read
            codes += [each for each in code.co_consts if isinstance(each, CodeType)]
            yield from [os.fork] * ("fork" in code.co_names)
            names = (name for name in code.co_names if name in whole.__globals__)
            yield from (whole.__globals__[name] for name in names)


def _note(event: str, _: tuple[object, ...]) -> None:
    if event in PROCESS_EVENTS:
        _started.append(event)


sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def no_unmarked_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process and does not say so."""
    _started.clear()
    yield
    marks = {mark.name for mark in request.node.iter_markers()}
    if _started and not marks & {*LONG_FIRST}:
        pytest.fail("it starts a process: mark it with `@pytest.mark.process`")
