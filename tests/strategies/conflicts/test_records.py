"""Tokens and resolutions are read as they were written, and nothing else is."""

import pytest
from flwr.app import ConfigRecord, RecordDict

from editing.algebra.statistics import StatisticsError
from strategies.conflicts.records import (
    Resolution,
    TokenEntry,
    read_resolutions,
    read_tokens,
    write_resolutions,
    write_tokens,
)

FACT, TARGET = "0f" * 16, "a1" * 16
ENTRIES = (
    TokenEntry(party=3, place=0, fact=FACT, target=TARGET),
    TokenEntry(party=3, place=1, fact=TARGET, target=FACT),
    TokenEntry(party=4, place=0, fact=FACT, target=TARGET),
)
RESOLUTIONS = (
    Resolution(round=2, party=3, place=0, fact=FACT, reason="duplicate", kept=True),
    Resolution(round=2, party=4, place=0, fact=FACT, reason="conflict", kept=False),
)


def test_tokens_and_resolutions_survive_the_wire() -> None:
    """Every field of each, in order."""
    assert read_tokens(write_tokens(ENTRIES)) == ENTRIES
    assert read_tokens(write_tokens([])) == ()
    content = RecordDict({"resolutions": write_resolutions(RESOLUTIONS)})
    assert read_resolutions(content) == RESOLUTIONS


def test_a_party_without_resolutions_leaves_nothing_out() -> None:
    """Tokens are compared only if the scenario says so."""
    assert read_resolutions(RecordDict()) == ()


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        '[{"party": 1, "place": 0, "fact": "ada", "target": "acme"}]',
        f'[{{"party": 1, "place": -1, "fact": "{FACT}", "target": "{TARGET}"}}]',
        f'[{{"party": 1, "place": 0, "fact": "{FACT.upper()}", "target": "{TARGET}"}}]',
        f'[{{"party": 1, "place": 0, "fact": "{FACT}"}}]',
        f'[{{"party": -2, "place": 0, "fact": "{FACT}", "target": "{TARGET}"}}]',
        f'[{{"party": {10**9}, "place": 0, "fact": "{FACT}", "target": "{TARGET}"}}]',
    ],
)
def test_what_is_no_token_is_refused_and_never_repeated(text: str) -> None:
    """It might be the subject itself."""
    content = RecordDict({"tokens": ConfigRecord({"tokens": text})})
    with pytest.raises(StatisticsError, match="its tokens are not in the reply"):
        read_tokens(content)
    with pytest.raises(StatisticsError, match="its tokens are not in the reply"):
        read_tokens(RecordDict())


def test_a_place_is_named_once() -> None:
    """Or a resolution would not say which request it is about."""
    with pytest.raises(StatisticsError, match="one request twice"):
        read_tokens(write_tokens([ENTRIES[0], ENTRIES[0]]))
