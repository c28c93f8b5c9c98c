"""What somebody else made up is shown in a few characters of one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.foreign_text import SHOWN, show_foreign


@given(st.text(max_size=4 * SHOWN))
def test_any_text_is_one_short_line_without_control_characters(text: str) -> None:
    """A log has one event a line, and a terminal obeys escape sequences."""
    shown = show_foreign(text)
    assert len(shown) <= SHOWN + 3
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("morse", "'morse'"),
        ("a\nb", r"'a\nb'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        ("\u202eevil", r"'\u202eevil'"),
        ("x" * SHOWN, f"'{'x' * SHOWN}'"),
        ("x" * 3000, f"'{'x' * (SHOWN - 1)}..."),
    ],
)
def test_what_is_short_and_plain_is_shown_as_it_is(text: str, shown: str) -> None:
    """The rest is escaped, and cut."""
    assert show_foreign(text) == shown
