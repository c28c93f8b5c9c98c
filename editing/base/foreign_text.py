"""Untrusted text, written so that it is harmless in a log and on a terminal."""

import json
import re

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
