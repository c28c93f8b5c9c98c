"""A tilde is written out, or refused where nobody's home is meant."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.files.home import expand_home


def test_a_home_is_written_out_and_an_unknown_one_refused() -> None:
    """By the name of what holds it; other paths stay."""
    assert expand_home(Path("~/x"), "a.b") == Path.home() / "x"
    assert expand_home(Path("x/~y"), "a.b") == Path("x/~y")
    with pytest.raises(InputError, match=r"`a\.b`: .*~nobody-of-this-name/x"):
        expand_home(Path("~nobody-of-this-name/x"), "a.b")
