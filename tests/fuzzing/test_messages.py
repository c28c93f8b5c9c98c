"""Damaged messages of every kind are read or refused, at the server and at clients."""

from pathlib import Path
from random import Random

import pytest

from clients.updates import MissingUpdatesError
from editing.base.errors import InputError
from tests.fuzzing.messages import KINDS, damaged
from tests.fuzzing.test_files import place_of
from tests.strategies.transport import over_the_wire

SENSIBLE = 0.5
"""Share of damaged messages, at least, that Flower carries to their reader."""


@pytest.mark.parametrize("name", KINDS)
def test_sound_messages_are_read(name: str, tmp_path: Path) -> None:
    """Else refusing them damaged would say nothing."""
    KINDS[name].read(over_the_wire(KINDS[name].make()), tmp_path)


@pytest.mark.parametrize("name", KINDS)
def test_damaged_messages_are_read_or_refused(
    name: str, tmp_path: Path, fuzz_cases: int
) -> None:
    """A party costs itself a round at most, and a server a party's answer."""
    kind = KINDS[name]
    breaks: dict[str, str] = {}
    carried = 0
    for number in range(fuzz_cases):
        message = damaged(kind.make(), Random(f"{name} {number}"))
        if message is None:
            continue
        carried += 1
        try:
            kind.read(message, tmp_path)
        except (InputError, MissingUpdatesError) as error:
            if not str(error).strip():
                breaks.setdefault("no reason", f"case {number}")
        except Exception as error:
            breaks.setdefault(place_of(error), f"case {number}: {error!s:.160}")
    assert breaks == {}
    assert carried >= SENSIBLE * fuzz_cases
