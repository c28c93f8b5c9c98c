"""The page on large models has the figures of the estimate, and names what is there."""

import re
from itertools import product

import pytest

from tests.sims.dry_run.large import EDITS, MODELS, row_of
from tests.trees import ROOT

PAGE = (ROOT / "docs" / "seven_billion.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "edits"), list(product(MODELS, EDITS)))
def test_the_page_has_the_estimate(name: str, edits: int) -> None:
    """Of each model and number of edits."""
    assert row_of(name, edits) + "\n" in PAGE


def test_the_page_names_every_scenario() -> None:
    """And no other."""
    folder = ROOT / "sims" / "scenarios" / "large"
    named = set(re.findall(r"`([\w.-]+\.toml)`", PAGE))
    assert named == {file.name for file in folder.iterdir()}
