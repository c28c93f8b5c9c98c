"""A failure travels as its class, and what is not a class is not passed on."""

from typing import get_args

import pytest
from flwr.app import ConfigRecord, RecordDict

from strategies.wire.failures import (
    INPUT_FAILURES,
    MISSING_UPDATES,
    Failure,
    read_failure,
    write_failure,
)
from tests.strategies.transport import over_the_wire


@pytest.mark.parametrize("failure", get_args(Failure))
def test_a_failure_travels_as_its_class(failure: Failure) -> None:
    """And an answer that is none is no failure."""
    assert read_failure(over_the_wire(write_failure(failure)).content) == failure
    assert read_failure(RecordDict()) is None


def test_other_words_than_the_known_ones_are_not_passed_on() -> None:
    """A changed client could write anything into the server's log and report."""
    for record in (ConfigRecord({"kind": "see /home/ada"}), ConfigRecord()):
        said = read_failure(RecordDict({"failure": record}))
        assert said is not None
        assert "ada" not in said


def test_a_failure_of_input_is_one_that_lasts_until_it_is_corrected() -> None:
    """All of them are classes, and what passes by itself is none of them."""
    assert set(get_args(Failure)) > INPUT_FAILURES
    passing = {
        MISSING_UPDATES,
        "requests that changed during the round",
        "not enough memory",
        "no room on its disk",
    }
    assert not passing & INPUT_FAILURES
