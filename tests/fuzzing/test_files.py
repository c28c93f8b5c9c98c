"""Damaged files of every kind are read or refused in one plain line; nothing else."""

import time
import traceback
from pathlib import Path
from random import Random

import pytest

from editing.base.errors import InputError
from tests.fuzzing.kinds import KINDS
from tests.fuzzing.mutations import damage
from tests.trees import ROOT

PATIENCE = 20.0
"""Seconds within which any damaged file of a few kilobytes is read or refused."""

FEWER = 10
"""Slow kinds have this much fewer cases."""


def place_of(error: Exception) -> str:
    """Name an error's kind, and the last function of ours that it went through."""
    ours = [
        f"{Path(frame.filename).relative_to(ROOT)}:{frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(ROOT)
    ]
    return f"{type(error).__name__} in {ours[-1]}"


@pytest.mark.parametrize("name", KINDS)
def test_sound_files_are_read(name: str, tmp_path: Path) -> None:
    """Else refusing them damaged would say nothing."""
    kind = KINDS[name]
    kind.read(kind.make(tmp_path))


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused(
    name: str, tmp_path: Path, fuzz_cases: int
) -> None:
    """A reader returns, or says in an `InputError` what is wrong with the file."""
    kind = KINDS[name]
    file = kind.make(tmp_path)
    sound = file.read_bytes()
    breaks: dict[str, str] = {}
    for number in range(max(1, fuzz_cases // FEWER) if kind.slow else fuzz_cases):
        random = Random(f"{name} {number}")
        file.write_bytes(damage(sound, kind.form, random))
        started = time.monotonic()
        try:
            kind.read(file)
        except InputError as error:
            if not str(error).strip():
                breaks.setdefault("no reason", f"case {number}")
        except Exception as error:
            breaks.setdefault(f"{place_of(error)}", f"case {number}: {error!s:.160}")
        if time.monotonic() - started > PATIENCE:
            breaks.setdefault("takes too long", f"case {number}")
    assert breaks == {}
