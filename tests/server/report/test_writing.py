"""The files of a report are made from the report itself."""

from pathlib import Path

import pytest

from editing.files.disk import has_no_room
from server.report.data import read_report
from server.report.markdown import render_markdown
from server.report.page import render_page
from server.report.writing import write_report
from tests.disks import leave_room, small_disk
from tests.server.report.test_data import make_report
from tests.server.runs import Runs


def test_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """The JSON is the report; nothing else need be kept."""
    report = make_report(rounds=2)
    write_report(report, tmp_path)
    assert read_report(tmp_path / "report.json") == report


@pytest.mark.parametrize("rounds", [1, 2])
def test_all_forms_say_the_same_as_the_report(tmp_path: Path, rounds: int) -> None:
    """Byte for byte, also when it is read from its JSON and made again."""
    write_report(make_report(rounds), tmp_path)
    read = read_report(tmp_path / "report.json")
    assert (tmp_path / "report.md").read_text() == render_markdown(read)
    assert (tmp_path / "report.html").read_text() == render_page(read)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["report.html", "report.json", "report.md"]


def test_a_disk_that_fills_up_stops_a_run_with_a_plain_word(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half-written has the results' name, and earlier ones are whole."""
    monkeypatch.setattr("server.report.writing.render_page", lambda _: "a page")
    with small_disk(tmp_path / "disk") as disk:
        runs = Runs(world, tmp_path)
        runs.output = disk / "results" / "two"
        earlier = disk / "results" / "one" / "report.json"
        earlier.parent.mkdir(parents=True)
        earlier.write_text("{}")
        leave_room(disk, 12 * 1024)
        with pytest.raises(Exception, match="No space left") as caught:
            runs.run()
        assert has_no_room(caught.value)
        end = runs.end()
        assert end.cause == "run"
        assert "no room left on a disk of the server" in str(end.error)
        assert not runs.output.exists()
        assert not list(disk.rglob("*partial*"))
        assert earlier.read_text() == "{}"
    assert runs.kept("safetensors") == []
