"""Untrusted text, written so that it is harmless in a log."""

SHOWN = 80
"""Characters that a message shows of it."""


def show_foreign(text: str) -> str:
    """Put a text into quotation marks, control characters escaped.

    Only the beginning of a long one is shown, followed by three points.
    """
    shown = repr(text[:SHOWN])
    whole = len(text) <= SHOWN and len(shown) <= SHOWN + 2
    return shown if whole else f"{shown[:SHOWN]}..."
