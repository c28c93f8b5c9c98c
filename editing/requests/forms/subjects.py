"""Find a subject in a finished text, for forms whose prompts name it in full.

Some editors read at the answer and need no subject, so that a request may have none:
its prompt is then a finished text, without ``{}``.
"""

import re

from editing.base.errors import RequestError
from editing.base.validation import shorten


def check_subject(prompt: str, subject: str, given: bool) -> None:
    """Refuse a subject without a place in its prompt, and a place without a subject.

    Args:
        prompt: With one ``{}``, or without one if there is no subject.
        subject: What the edit is about; empty if there is none.
        given: Whether the record has the field.

    Raises:
        ValueError: Saying which of the two is missing.
    """
    places = prompt.count("{}")
    if not given and places:
        raise ValueError("`subject`: is missing or null; wanted a text")
    if not subject.strip() and (places or subject):
        raise ValueError("`subject` is empty")
    if places != (1 if subject else 0):
        raise ValueError(
            "`prompt` must hold exactly one {} for the subject, got "
            f"{places} in {prompt!r}"
        )


def place_subject(text: str, subject: str | None, field: str) -> dict[str, object]:
    """Return prompt and subject of a finished text; without a subject, the text alone.

    See `take_subject_out` for what is refused.
    """
    if subject is None:
        return {"prompt": text}
    prompt, spelled = take_subject_out(text, subject, field)
    return {"prompt": prompt, "subject": spelled}


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
