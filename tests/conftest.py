"""Settings and fixtures shared by all tests."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.scheduling import (  # noqa: F401 - pytest finds hooks and fixtures here
    no_unmarked_process,
    pytest_collection_modifyitems,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)

if TYPE_CHECKING:  # what is imported here escapes the check of shapes
    from tests.federation import Federation
    from tests.server.runs import Runs

# The first call into torch is slow and later ones are not; a deadline would be noise.
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")
# For `make quick`: every law is tried, on fewer examples.
settings.register_profile("quick", settings.get_profile("default"), max_examples=8)

ROOT = Path(__file__).resolve().parent.parent

FUZZ_CASES = 30
"""Damaged files of a kind, and damaged messages of a kind, unless asked for more."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag by which the fuzzers try more."""
    parser.addoption(
        "--fuzz-cases",
        type=int,
        default=FUZZ_CASES,
        metavar="N",
        help="damaged files and messages of each kind to try",
    )


@pytest.fixture
def fuzz_cases(request: pytest.FixtureRequest) -> int:
    """How many cases of a kind a fuzzer tries."""
    return int(request.config.getoption("--fuzz-cases"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Name the folder of numbers that the published programs computed."""
    from tests.golden import FOLDER

    return FOLDER


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Save a tiny model with requests and text, and keep caches away from the user's.

    The folder is laid out as the embedded model's is.
    """
    from tests.federation import make_world

    root = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "FLWR_HOME", "COLLABEDIT_HOME"):
            patch.setenv(name, str(root / name))
        for name in ("COLLABEDIT_CACHE", "COLLABEDIT_RUN"):
            patch.delenv(name, raising=False)
        yield make_world(root / "model")


@pytest.fixture
def runs(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Runs":
    """Make whole runs in folders of this test, without the seconds that plots take."""
    from tests.server.runs import Runs

    monkeypatch.setattr("server.report.writing.render_page", lambda _: "a page")
    return Runs(world, tmp_path)


@pytest.fixture
def federate(world: Path, tmp_path: Path) -> "Callable[..., Federation]":
    """Make federations of three parties with two requests each by default.

    Tables of settings are given by name: ``federate(run={"rounds": 2})``.
    """
    from tests.federation import Federation, settings_of

    numbers = count()

    def make(
        node_configs: dict[int, dict[str, str]] | None = None,
        places: tuple[int, ...] = (),
        **tables: dict[str, str | int | float | bool],
    ) -> Federation:
        private = tmp_path / f"private_{next(numbers)}"
        flat = settings_of(world, **tables)
        return Federation(flat, private, node_configs or {}, places=places)

    return make
