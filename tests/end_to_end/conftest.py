"""Federations of real processes that the tests of this folder share.

They end with the last of these tests on a worker: idle nodes ask for messages all the
time, and take a quarter of two cores.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Hosts, hosted


@pytest.fixture(scope="package")
def two_hosts(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Lend a SuperLink and two parties; server apps end with their SuperLink."""
    assert world.is_dir()  # it keeps caches away from the user's
    with hosted(tmp_path_factory.mktemp("two") / "hosts", 2, at_most=2) as hosts:
        yield hosts


@pytest.fixture(scope="package")
def lasting_hosts(
    world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    """Lend a SuperLink and two parties; server apps outlive their SuperLink.

    Up to four more machines may join.
    """
    assert world.is_dir()
    folder = tmp_path_factory.mktemp("lasting") / "hosts"
    with hosted(folder, 2, at_most=6, apart=True) as hosts:
        yield hosts
