"""What somebody else made up is shown in a few characters of one line."""

import io
import json
import logging
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.foreign_text import (
    SHOWN,
    keep_logs_harmless,
    make_harmless,
    show_foreign,
)


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


@given(st.text() | st.text("\x1b[2J\x9b\u202e\u2066\ud83d\n\tab\u200b\U000e0041"))
def test_a_harmless_text_steers_no_terminal_and_is_the_same_json(text: str) -> None:
    """No control but tab and line break, nothing unseen, and nothing else changed."""
    shown = make_harmless(text)
    shown.encode()
    kinds = {unicodedata.category(sign) for sign in shown if sign not in "\n\t"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert all(unicodedata.bidirectional(sign) not in BIDIRECTIONAL for sign in shown)
    quoted = json.dumps(text, ensure_ascii=False)
    assert json.loads(make_harmless(quoted)) == text
    assert make_harmless(shown) == shown


BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    "text", ["plain", "a\n\tb", "Ünïcödé ‖Δ‖/‖W‖ 日本語 שלום 👩\u200d🔬"]
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    """Other scripts and joined signs among them."""
    assert make_harmless(text) == text


def test_a_log_shows_what_others_wrote_as_it_is() -> None:
    """In lines and traces; what another library adds to each entry stays."""
    shown = io.StringIO()
    logger, handler = logging.Logger("apart"), logging.StreamHandler(shown)
    logger.addHandler(handler)
    before = logging.getLogRecordFactory()

    def of_a_library(*arguments: Any, **named: Any) -> logging.LogRecord:  # noqa: ANN401
        record = before(*arguments, **named)
        record.__dict__["since"] = 7.0
        return record

    handler.setFormatter(logging.Formatter("%(since)s %(message)s"))
    logging.setLogRecordFactory(of_a_library)
    try:
        keep_logs_harmless()
        keep_logs_harmless()
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            logger.exception("it said %s", "\u202eevil")
    finally:
        logging.setLogRecordFactory(before)
    said = shown.getvalue()
    assert said.startswith("7.0 it said \\u202eevil\nTraceback")
    assert said.endswith("ValueError: \\u001b[2J\n")
