"""One thing that a run needs, and whether it is there."""

from collections.abc import Callable
from dataclasses import dataclass

from editing.base.errors import InputError

FAULTS = (InputError, OSError, ImportError, ValueError)
"""What a check may raise of a thing that is missing or cannot be used."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        part: What the run needs.
        ready: Whether it is there and can be used.
        detail: What it is; or what is missing, and what to do.
    """

    part: str
    ready: bool
    detail: str


def look(part: str, check: Callable[[], str]) -> Finding:
    """Look for one thing; a fault becomes a finding, so that all are listed.

    Args:
        part: What the run needs.
        check: Describes it, or raises one of `FAULTS`.
    """
    try:
        return Finding(part, True, check())
    except FAULTS as fault:
        return Finding(part, False, " ".join(str(fault).split()))
