"""A disk without room is one line, of whichever command."""

import errno

import pytest

from sims.cli.main import main
from tests.sims.cli.test_main import exit_code


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line(
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of whichever command, and however deep in it; other errors keep their trace."""

    def fill_up(*_: object) -> object:
        raise RuntimeError("while writing") from OSError(number, "No space left")

    monkeypatch.setattr("sims.runs.jobs.export_model", fill_up)
    assert exit_code("export-model", "anywhere") == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: there is no room left on a disk")
    assert said.count("\n") == 1
    monkeypatch.setattr("sims.runs.jobs.export_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["export-model", "anywhere"])
