"""Text that somebody else made up, written so that it can do no harm in a log."""

SHOWN = 80
"""Characters that a message shows of it."""


def show_foreign(text: str) -> str:
    """Put a text into quotation marks, control characters escaped.

    Of a long one only the beginning is shown, with three points after it.
    """
    shown = repr(text[:SHOWN])
    whole = len(text) <= SHOWN and len(shown) <= SHOWN + 2
    return shown if whole else f"{shown[:SHOWN]}..."
