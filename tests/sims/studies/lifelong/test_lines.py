"""The editors of the study have the settings of their own scenarios."""

import pytest

from server.config import read_scenario
from sims.studies.lifelong.lines import (
    ANSWERS,
    FAMILIES,
    LINES,
    NAMES,
    REFERENCE,
    SCENARIOS,
    Line,
    of_family,
)


@pytest.mark.parametrize("line", LINES, ids=NAMES)
def test_a_line_runs_with_the_settings_of_its_preset(line: Line) -> None:
    """In the study's own scenario, all of them valid together."""
    config = read_scenario(SCENARIOS / "lifelong.toml", line.settings)
    if line.preset:
        own = read_scenario(SCENARIOS / f"{line.preset}.toml")
        assert config.editor == own.editor
        assert config.editing == own.editing
        assert config.prior == own.prior
    assert config.parties.count * 2 * config.run.rounds == 160


def test_the_lines_differ_and_each_is_drawn() -> None:
    """Next to the reference, which every figure has."""
    assert len({line.settings for line in LINES}) == len(LINES)
    drawn = [name for family in FAMILIES for name in of_family(family)]
    assert set(drawn) == set(NAMES)
    assert of_family(ANSWERS)[0] == REFERENCE
    assert drawn.count(REFERENCE) == len(FAMILIES)
