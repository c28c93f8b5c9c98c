"""Laws of the choice of a run: one merge, or the names of several."""

import shutil
from pathlib import Path

import pytest

from sims.results.choice import DELTA, choose_run
from tests.server.runs import Runs
from tests.sims.cli.test_main import exit_code


def compare(runs: Runs, folder: Path) -> Path:
    """Make the folder of a run look as a comparison's with one merge in it."""
    runs.run()
    merge = folder / "comparison" / "collabedit"
    merge.mkdir(parents=True)
    shutil.copy(runs.output / "report.json", merge.parent)
    shutil.copy(runs.output / DELTA, merge)
    return merge


def test_a_merge_is_chosen_by_its_folder_or_its_run_s(
    runs: Runs, tmp_path: Path
) -> None:
    """The report lies in that folder, or above it."""
    merge = compare(runs, tmp_path)
    for folder, above in ((runs.output, runs.output), (merge, merge.parent)):
        found, report = choose_run(folder)
        assert found == above
        assert report.rounds == 1


@pytest.mark.parametrize("command", ["audit", "remove"])
def test_a_comparison_is_refused_before_anything_is_loaded(
    command: str,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the names of its merges."""

    def load() -> None:
        pytest.fail("loads")

    merge = compare(runs, tmp_path)
    monkeypatch.setattr("sims.console.announce_loading", load)
    place = str(merge.parent)
    words = {
        "audit": ["audit", place, "--guesses", "none.json"],
        "remove": ["remove", "0", place, "--output", str(tmp_path / "new")],
    }
    assert exit_code(*words[command]) == 2
    assert "name the folder of one merge in it: " in capsys.readouterr().err
