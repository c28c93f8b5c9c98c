"""A folder of results appears whole or not at all, and is never overwritten."""

import os
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.editors.choice import EditorChoice
from editing.files.atomic import write_whole
from server.config import RunConfig
from server.output import choose_folder, create_output_folder
from tests.disks import SIZE, leave_room, read_only, small_disk


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Until then nothing stands at its place."""
    place = tmp_path / "results" / "run_000"
    with create_output_folder(place) as draft:
        (draft / "a.txt").write_text("a")
        assert not place.exists()
    assert [path.name for path in place.iterdir()] == ["a.txt"]
    assert list(place.parent.iterdir()) == [place]


def interrupt(place: Path) -> None:
    """Begin to write results and be stopped."""
    with create_output_folder(place) as draft:
        (draft / "half.json").write_text("{")
        raise KeyboardInterrupt


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    """No folder, no draft of one."""
    with pytest.raises(KeyboardInterrupt):
        interrupt(tmp_path / "run_000")
    assert list(tmp_path.iterdir()) == []


def be_overtaken(place: Path) -> None:
    """Begin to write results where another run then puts its own."""
    with create_output_folder(place) as draft:
        (draft / "ours.txt").write_text("ours")
        place.mkdir()


def test_earlier_results_are_never_overwritten(tmp_path: Path) -> None:
    """Nor are those of another run that ended first."""
    with (
        pytest.raises(InputError, match=r"exists .*--output"),
        create_output_folder(tmp_path),
    ):
        pass
    place = tmp_path / "run_000"
    with pytest.raises(InputError, match="exists"):
        be_overtaken(place)
    assert list(tmp_path.iterdir()) == [place]
    assert list(place.iterdir()) == []


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Not every path can be a folder."""
    file = tmp_path / "file"
    file.write_text("")
    with (
        pytest.raises(InputError, match=r"Cannot make the output folder .*file/run"),
        create_output_folder(file / "run"),
    ):
        pass


def overflow(place: Path) -> None:
    """Write results that are larger than the small disk."""
    with create_output_folder(place) as draft:
        (draft / "small.json").write_text("{}")
        (draft / "delta.safetensors").write_bytes(bytes(SIZE))


def test_a_full_disk_leaves_no_half_of_a_folder(tmp_path: Path) -> None:
    """And harms nothing of an earlier run."""
    with small_disk(tmp_path / "disk") as disk:
        write_whole(disk / "earlier.json", "{}")
        leave_room(disk, 16384)
        with pytest.raises(OSError, match="No space"):
            overflow(disk / "run_001")
        assert sorted(path.name for path in disk.iterdir()) == [
            "earlier.json",
            "filler",
        ]
        assert (disk / "earlier.json").read_text() == "{}"


def test_a_place_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """Before any work, by root as well."""
    with small_disk(tmp_path / "disk") as disk, read_only(disk):
        wanted = r"Cannot make the output folder .*run_001 \(Read-only file system\)"
        with (
            pytest.raises(InputError, match=wanted),
            create_output_folder(disk / "run_001"),
        ):
            pass


def test_of_two_processes_with_one_folder_the_second_is_refused_at_once(
    tmp_path: Path,
) -> None:
    """The first one's results are as if the other had never been."""
    place = tmp_path / "run_000"
    (ready, tell), (heard, hear) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with create_output_folder(place) as draft:
                os.write(tell, b"!")
                os.read(heard, 1)
                (draft / "a.txt").write_text("first")
            os._exit(0)
        finally:
            os._exit(1)
    os.read(ready, 1)
    with (
        pytest.raises(InputError, match="Another process is writing"),
        create_output_folder(place),
    ):
        pass
    os.write(hear, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (place / "a.txt").read_text() == "first"
    assert list(tmp_path.iterdir()) == [place]


def test_results_of_other_editors_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that `summarize` does not average two editors."""
    monkeypatch.chdir(tmp_path)
    plain = choose_folder(RunConfig())
    other = choose_folder(RunConfig(editor=EditorChoice(name="emmet")))
    assert plain == tmp_path / "results" / "collabedit" / "run_000"
    assert other == tmp_path / "results" / "collabedit-emmet" / "run_000"
