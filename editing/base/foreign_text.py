"""Untrusted text, written so that it is harmless in a log and on a terminal."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

SHOWN = 80
"""Characters that a message shows of it."""

_HARMFUL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f"  # controls of terminals, tab and line break aside
    "\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"  # order of writing, and what is not seen
    "\ud800-\udfff]"  # halves of pairs, which no stream takes
)


def show_foreign(text: str) -> str:
    """Put a text into quotation marks, control characters escaped.

    Only the beginning of a long one is shown, followed by three points.
    """
    shown = repr(text[:SHOWN])
    whole = len(text) <= SHOWN and len(shown) <= SHOWN + 2
    return shown if whole else f"{shown[:SHOWN]}..."


def make_harmless(text: str) -> str:
    r"""Write what could steer a terminal or hide text as escapes, such as ``\u001b``.

    The escapes are JSON's, so that JSON stays the same JSON. All other characters,
    tabs and line breaks among them, stay as they are.
    """
    return _HARMFUL.sub(lambda found: json.dumps(found[0])[1:-1], text)


class HarmlessRecord(logging.LogRecord):
    """An entry of a log; what it quotes may come from other parties or their files."""

    def getMessage(self) -> str:
        """Return the text without controls."""
        return make_harmless(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback, once a formatter has written it; its last line may quote."""
        return cast(str | None, self.__dict__.get("exc_text"))

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self.__dict__["exc_text"] = text and make_harmless(text)


@dataclass(frozen=True, slots=True)
class HarmlessFactory:
    """Makes entries of logs as another factory does, and harmless.

    Attributes:
        before: The other one; Ray has its own.
    """

    before: Callable[..., logging.LogRecord]

    def __call__(self, *arguments: object, **named: object) -> logging.LogRecord:
        """Make one."""
        record = self.before(*arguments, **named)
        if type(record) is logging.LogRecord:
            record.__class__ = HarmlessRecord
        return record


def keep_logs_harmless() -> None:
    """Escape the controls in all that this process logs from now on."""
    before = logging.getLogRecordFactory()
    if not isinstance(before, HarmlessFactory):
        logging.setLogRecordFactory(HarmlessFactory(before))
