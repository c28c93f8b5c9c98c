"""A fault is a finding, and no fault of the program."""

import pytest

from editing.base.errors import InputError
from sims.dry_run.findings import Finding, look


def test_what_is_there_is_described() -> None:
    """In the check's own words."""
    assert look("disk", lambda: "2 GB") == Finding("disk", True, "2 GB")


@pytest.mark.parametrize("fault", [InputError, OSError, ImportError, ValueError])
def test_what_is_missing_says_why(fault: type[Exception]) -> None:
    """In one line."""

    def check() -> str:
        raise fault("no\n  such file")

    assert look("text", check) == Finding("text", False, "no such file")


def test_other_errors_are_not_hidden() -> None:
    """They are faults of the program."""

    def check() -> str:
        raise AssertionError

    with pytest.raises(AssertionError):
        look("text", check)
