"""Whether a model's folder may run code of its own: only where this machine says so."""

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

TRUSTED_CODE = "COLLABEDIT_TRUSTED_CODE"
"""Names folders and hub names whose code may be run, separated as in ``PATH``.

A variable of the machine, and no setting of a run: a scenario or a server that could
set it would choose what code a party runs.
"""


def runs_own_code(path: str) -> bool:
    """Return whether the code of a model may be run, and log it if so.

    Args:
        path: A folder or a hub name; it must be named itself, not a folder above it.
    """
    named = [
        each for each in os.environ.get(TRUSTED_CODE, "").split(os.pathsep) if each
    ]
    trusted = path in named or _same_folder(path, named)
    if trusted:
        logger.warning("The model %s may run code of its own (%s).", path, TRUSTED_CODE)
    return trusted


def explain_own_code(error: Exception) -> str:
    """Say in our words that code was not run; empty for another error.

    The library advises to allow it, of whatever model.
    """
    if "trust_remote_code" not in str(error):
        return ""
    return (
        "its configuration asks for code of its own, which is not run; read that code "
        f"and name the folder in the environment's {TRUSTED_CODE}, or take a model of "
        "a type that transformers has"
    )


def _same_folder(path: str, named: list[str]) -> bool:
    folder = Path(path)
    if not folder.is_dir():
        return False
    return folder.resolve() in {Path(each).resolve() for each in named}
