"""A scenario of somebody else brings no code to a connection without leave."""

import sys
from pathlib import Path

import pytest

from tests.sims.cli.test_main import exit_code

CODE = """
from pathlib import Path
from strategies.merges.pooled import CollabEditMerge

Path("ran").touch()


class Theirs(CollabEditMerge):
    name: str = "theirs"
"""


@pytest.mark.parametrize(
    "setting",
    ["merge.name=theirs_module:Theirs", 'run.merges=["theirs_module:Theirs"]'],
)
def test_a_merge_from_outside_is_not_even_imported_for_a_connection(
    setting: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A scenario may be somebody else's; whoever read the code says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    (tmp_path / "theirs_module.py").write_text(CODE)
    words = ("compare", "--connection", "mine", "--set", setting)
    assert exit_code(*words) == 2
    said = capsys.readouterr().err
    assert "--allow-external-merge" in said
    assert "theirs_module:Theirs" in said
    assert not (tmp_path / "ran").exists()
    assert exit_code(*words, "--allow-external-merge") == 2
    assert "--connection mine" in capsys.readouterr().err  # which it asks for next
    assert (tmp_path / "ran").exists()
    sys.modules.pop("theirs_module", None)


def test_merges_of_the_tree_need_no_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`global` is one of them."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    words = ("compare", "--connection", "mine", "--merges", "ties,global")
    assert exit_code(*words) == 2
    assert "allow-external-merge" not in capsys.readouterr().err
