"""Settings and fixtures shared by all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

# The first call into torch is slow and later ones are not; a deadline would be noise.
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Find the folder of numbers that the published programs computed."""
    folder = ROOT.parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"the golden values are not at {folder}")
    return folder
