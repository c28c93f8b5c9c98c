"""Normalise texts, so that spellings of one text compare equal."""

import unicodedata

# As they are in the normal form, where full-width stops have become plain ones.
_QUOTES = "\"'`‘’‚‛“”„‟«»‹›「」『』"  # noqa: RUF001 - such quotation marks are meant
_STOPS = ".,;:!?。、"


def normalise(text: str) -> str:
    """Bring spellings of one text together.

    Compatible characters (NFKC) and letters' cases are made one and runs of white space
    a single space; white space and quotation marks around the text and sentence
    punctuation after it are dropped. A text of nothing but such marks keeps them.
    """
    folded = unicodedata.normalize("NFD", text)
    for _ in range(2):  # folding can undo the normal form, and the form the folding
        folded = unicodedata.normalize("NFKD", folded.casefold())
    spaced = " ".join(unicodedata.normalize("NFKC", folded).split())
    bare = spaced.lstrip(_QUOTES + " ").rstrip(_QUOTES + _STOPS + " ")
    return bare or spaced
