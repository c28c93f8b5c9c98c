"""Damaged messages of every kind are read or refused, at the server and at clients."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from flwr.app import Array, RecordDict
from flwr.serverapp.exception import AggregationError

from clients.updates import MissingUpdatesError
from editing.base.errors import InputError
from tests.fuzzing.masked_messages import MASKED_KINDS
from tests.fuzzing.messages import PLAIN_KINDS, damaged
from tests.fuzzing.test_files import place_of
from tests.strategies.transport import over_the_wire

KINDS = {**PLAIN_KINDS, **MASKED_KINDS}

Change = Callable[[RecordDict], object]

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
        except (InputError, AggregationError, MissingUpdatesError) as error:
            if not str(error).strip():
                breaks.setdefault("no reason", f"case {number}")
        except Exception as error:
            breaks.setdefault(place_of(error), f"case {number}: {error!s:.160}")
    assert breaks == {}
    assert carried >= SENSIBLE * fuzz_cases


def without(record: str) -> Change:
    """Leave a record out."""
    return lambda content: content.pop(record)


def state(record: str, key: str, value: str) -> Change:
    """Say something else."""

    def change(content: RecordDict) -> None:
        content.config_records[record][key] = value

    return change


def put(record: str, name: str, array: Array) -> Change:
    """Send another array."""

    def change(content: RecordDict) -> None:
        content.array_records[record][name] = array

    return change


EMPTY = Array("float64", (3,), "numpy.ndarray", b"")

FOUND: tuple[tuple[str, Change], ...] = (
    ("updates", without("carried")),
    ("updates", without("delta")),
    ("updates", state("carried", "h.weight", "../../x")),
    ("updates", state("carried", "h.weight", "\0")),
    ("updates as they are", put("delta", "h.weight", EMPTY)),
    ("updates as they are", put("delta", "h.weight", Array(np.ones(3, dtype=bool)))),
    ("updates as they are", put("delta", "x/left", Array(np.ones((3, 1))))),
    ("resolutions", state("resolutions", "resolutions", "null")),
    ("masked request", without("carried")),
    ("prior", put("prior", "gram.1", EMPTY)),
    ("prior", put("prior", "gram.x", Array(np.ones(10)))),
    ("prior", put("prior", "covariance.7", Array(np.ones(10)))),
)


@pytest.mark.parametrize(("name", "change"), FOUND)
def test_what_was_found_is_refused(name: str, change: Change, tmp_path: Path) -> None:
    """In one plain line, where there was a traceback once."""
    content = KINDS[name].make()
    change(content)
    with pytest.raises(InputError, match="The server's message"):
        KINDS[name].read(over_the_wire(content), tmp_path)
