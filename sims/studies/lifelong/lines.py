"""The editors of the study, each with the settings of the scenario of its name."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from server.tables import read_tables
from sims.studies.rounds.forgetting import LAMBDA, ONE, WEIGHTS, ZERO

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
COPIED = ("editor", "editing", "prior")
"""The tables of a preset that make an editor."""

MEMORIES = {weight: f"MEMIT, {weight}" for weight in (ZERO, ONE, LAMBDA)}
REFERENCE = MEMORIES[ONE]
"""Drawn in every figure."""

UNBOUNDED = "run.max-residual-ratio=1e9"
"""What collapses is to be seen, and not refused for its long residuals."""

MEMIT, NULL_SPACE, OTHERS, ANSWERS = (
    "MEMIT, and what is added to it",
    "AlphaEdit and BetaEdit",
    "LyapLock and EMMET",
    "Editors without targets",
)
FAMILIES = (MEMIT, NULL_SPACE, OTHERS, ANSWERS)


@dataclass(frozen=True, slots=True)
class Line:
    """One way to edit.

    Attributes:
        name: Its name in figures.
        family: The figure that it is drawn in.
        preset: The scenario that has its settings; empty if it has none of its own.
        more: Further settings.
    """

    name: str
    family: str
    preset: str = ""
    more: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """What differs from the study's scenario."""
        return (*(read_preset(self.preset) if self.preset else ()), *self.more)


def read_preset(name: str) -> Iterator[str]:
    """Read the tables that make an editor, each setting as ``table.key=value``."""
    tables = read_tables(SCENARIOS / f"{name}.toml")
    for table in COPIED:
        own = tables.get(table, {})
        assert isinstance(own, dict)
        for key, value in own.items():
            word = key if table == "editor" else key.replace("_", "-")
            yield f"{table}.{word}={json.dumps(value)}"


LINES = (
    *(
        Line(name, MEMIT, more=(f"prior.memory-weight={WEIGHTS[weight]}", UNBOUNDED))
        for weight, name in MEMORIES.items()
    ),
    Line("NAS", MEMIT, "nas", (UNBOUNDED,)),
    Line("BLUE", MEMIT, "blue", (UNBOUNDED,)),
    Line("AlphaEdit, aligned", NULL_SPACE, "alphaedit", (UNBOUNDED,)),
    Line(
        "AlphaEdit, naive",
        NULL_SPACE,
        "alphaedit",
        ("merge.name=collabedit-deltas", UNBOUNDED),
    ),
    Line("BetaEdit", NULL_SPACE, "betaedit", (UNBOUNDED,)),
    Line("LyapLock", OTHERS, "lyaplock", (UNBOUNDED,)),
    Line("EMMET", OTHERS, "emmet", (UNBOUNDED,)),
    Line("UltraEdit", ANSWERS, "ultraedit"),
    Line("StableEdit", ANSWERS, "stableedit"),
    Line("MALMEN", ANSWERS, "malmen", (UNBOUNDED,)),
)
NAMES = tuple(line.name for line in LINES)


def of_family(family: str) -> list[str]:
    """Name the lines of a figure, the reference first."""
    own = [line.name for line in LINES if line.family == family]
    return list(dict.fromkeys([REFERENCE, *own]))
