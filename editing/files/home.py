"""Paths that begin at a user's home folder."""

from pathlib import Path

from editing.base.errors import InputError
from editing.base.foreign_text import show_foreign


def expand_home(path: Path, named: str) -> Path:
    """Write out a leading ``~`` or ``~user``.

    Args:
        path: As it was given.
        named: What names it, for the message.

    Raises:
        InputError: If no home folder of that user is known.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise InputError(
            f"`{named}`: {show_foreign(str(path))} begins at a home folder that is not "
            "known here; write the whole path, or `./~…` for a name with a tilde"
        ) from None
