"""Find a subject in a finished text, for forms whose prompts name it in full."""

import re

from editing.base.errors import RequestError
from editing.base.validation import shorten


def take_subject_out(text: str, subject: str, field: str) -> tuple[str, str]:
    """Put ``{}`` where a finished text names its subject for the first time.

    Whole words come before parts of words, and the exact spelling before one that
    differs in letters' cases or white space; the text's spelling is the subject's.

    Returns:
        The prompt, and the subject as the text has it: one put into the other is the
        text again.

    Raises:
        RequestError: If the text does not name the subject, or holds ``{}`` already.
    """
    exact = re.escape(subject)
    loose = r"\s+".join(map(re.escape, subject.split()))
    for pattern in (rf"(?<!\w){exact}(?!\w)", exact, f"(?i:{loose})"):
        found = re.search(pattern, text)
        if found and "{}" not in text:
            return f"{text[: found.start()]}{{}}{text[found.end() :]}", found.group()
    wrong = "holds {} already" if "{}" in text else "does not name the subject"
    raise RequestError(
        f"`{field}` {wrong}: {shorten(text)}, `subject` {shorten(subject)}. Spell the "
        "subject in both alike, or take the record out."
    )
