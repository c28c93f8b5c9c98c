"""Names of parties, which travel and are shown in logs and reports."""

from typing import Annotated

from pydantic import AfterValidator, Field

LONGEST_NAME = 64
"""Characters of the longest name of a party."""


def validate_name(name: str) -> str:
    """Refuse a name that could forge or break a log line.

    Raises:
        ValueError: If the name holds control, format or line-breaking characters, or
            begins or ends with a space.
    """
    if not name.isprintable() or name != name.strip():
        unprintable = [f"U+{ord(sign):04X}" for sign in name if not sign.isprintable()]
        found = ", ".join(unprintable) or "a space at its beginning or end"
        raise ValueError(
            f"wanted a party's name of at most {LONGEST_NAME} printable characters, "
            f"such as `hospital-a`; this one holds {found}"
        )
    return name


PartyName = Annotated[
    str, Field(max_length=LONGEST_NAME), AfterValidator(validate_name)
]
"""What a party is called in logs and reports; empty if it has no name."""
