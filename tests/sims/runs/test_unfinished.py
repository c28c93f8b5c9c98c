"""Whenever a run is stopped, it can go on or its results are whole."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.files.lock import locked
from server.config import RunConfig
from sims.errors import RunLostError
from sims.runs.unfinished import (
    CONNECTED,
    LOCK,
    RESUMABLE,
    clear_drafts,
    find_unfinished,
    read_kept,
    unfinished_folder,
)

CONFIG = RunConfig()


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """A run that was killed after its results were moved up, and before its end."""
    folder = tmp_path / "cut.unfinished"
    for name in ("checkpoint", "parties", "collabedit", "run", ".run.partial-1"):
        (folder / name).mkdir(parents=True)
        (folder / name / "one.safetensors").write_text(name)
    kept = ("group.key", LOCK, CONNECTED)
    for name in ("report.json", ".report.md.partial", *kept):
        (folder / name).write_text(name)
    (folder / "settings.json").write_text(CONFIG.model_dump_json())
    return folder


def names_in(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


def go_on(folder: Path, then: Callable[[], None]) -> None:
    """Go on with a run that writes a report, whatever happens then."""
    with unfinished_folder(folder, CONFIG, resume=True) as lent:
        (lent / "report.json").write_text("whole")
        then()


def test_leftovers_are_removed_and_what_a_run_resumes_from_stays(draft: Path) -> None:
    """A run that goes on finds no folder where it puts its own."""
    clear_drafts(draft)
    assert names_in(draft) == RESUMABLE
    assert (draft / "checkpoint" / "one.safetensors").read_text() == "checkpoint"
    assert (draft / "group.key").read_text() == "group.key"


def test_a_run_that_ends_well_leaves_its_results_alone(draft: Path) -> None:
    """Neither checkpoints nor the parties' files, nor key, settings and lock."""
    folder = draft.with_suffix("")
    with unfinished_folder(folder, CONFIG, resume=True) as lent:
        assert lent == draft
        (lent / "collabedit").mkdir()
    assert names_in(folder) == {"collabedit"}
    assert not draft.exists()


def test_results_have_their_name_before_anything_is_removed(
    draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between leaves them whole, with all that they were made from."""
    folder = draft.with_suffix("")

    def killed(_: Iterable[Path]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_on(
            folder, lambda: monkeypatch.setattr("sims.runs.unfinished.remove", killed)
        )
    assert names_in(folder) == {"report.json", *RESUMABLE}
    assert not draft.exists()


def test_a_failure_leaves_what_can_go_on_or_nothing(draft: Path) -> None:
    """Without a checkpoint there is nothing to go on from."""
    folder = draft.with_suffix("")

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        go_on(folder, fail)
    assert names_in(draft) == RESUMABLE - {LOCK}
    (draft / "checkpoint" / "one.safetensors").unlink()
    with pytest.raises(RuntimeError):
        go_on(folder, fail)
    assert not draft.exists()
    assert not folder.exists()


def test_a_run_that_nobody_can_tell_of_keeps_its_folder(draft: Path) -> None:
    """Its server may still write there."""
    (draft / "checkpoint" / "one.safetensors").unlink()

    def lose() -> None:
        (draft / "run").mkdir()
        raise RunLostError

    with pytest.raises(RunLostError):
        go_on(draft.with_suffix(""), lose)
    assert names_in(draft) > {"run", *RESUMABLE} - {LOCK}


def test_two_processes_never_work_in_one_folder(draft: Path) -> None:
    """The second receives the place of the first, and touches nothing of it."""
    before = names_in(draft) - {LOCK}
    with (
        locked(draft / LOCK),
        pytest.raises(InputError, match=r"cut\.unfinished: another process"),
        unfinished_folder(draft.with_suffix(""), CONFIG, resume=True),
    ):
        pass
    assert names_in(draft) == before
    with locked(draft / LOCK, "busy"):
        pass


def test_a_run_that_finished_meanwhile_is_not_written_over(draft: Path) -> None:
    """Who waits for the lock may come too late."""
    folder = draft.with_suffix("")
    folder.mkdir()
    with (
        pytest.raises(InputError, match="never overwritten"),
        unfinished_folder(folder, CONFIG, resume=True),
    ):
        pass
    assert names_in(folder) == set()


def test_a_stopped_run_is_found_by_either_name_with_its_settings(draft: Path) -> None:
    """And what is no run, or has lost its settings, is named."""
    assert find_unfinished(draft) == find_unfinished(draft.with_suffix("")) == draft
    assert read_kept(draft) == CONFIG
    (draft / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings\.json: cannot be read"):
        read_kept(draft)
    (draft / "settings.json").unlink()
    with pytest.raises(InputError, match="no unfinished run is in"):
        find_unfinished(draft)


def test_a_finished_run_is_no_missing_run(
    tmp_path: Path,
) -> None:
    """There is nothing left to go on with, which is no mistake of the name."""
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match="is finished"):
        find_unfinished(tmp_path)
    with pytest.raises(InputError, match="no unfinished run is in"):
        find_unfinished(tmp_path / "elsewhere")
