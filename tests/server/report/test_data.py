"""Laws of the report and of the folder it is written to."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.files.atomic import write_whole
from editing.files.disk import has_no_room
from server.report.data import (
    Refusal,
    Report,
    RoundMetrics,
    RunReport,
    create_output_folder,
    read_report,
    write_report,
)
from server.report.page import render_page
from server.report.tables import (
    best_merges,
    columns_of,
    comparison,
    render_markdown,
    write_bytes,
    write_number,
)
from tests.disks import SIZE, leave_room, read_only, small_disk
from tests.server.runs import Runs

MERGES = {"collabedit": 93.21, "global": 93.18, "ties": 4.0, "simple-average": 0.0}


def measured(score: float) -> RoundMetrics:
    """Make a round's metrics that can be told apart."""
    return RoundMetrics(
        score=score,
        rewrite_success=min(score + 1.5, 100),
        paraphrase_success=score / 2,
        neighborhood_success=99.5,
        rewrite_diff=0.123,
        groups={"paraphrase_success.across": score / 4},
    )


def make_report(rounds: int = 1, **scores: float) -> Report:
    """Make a report with a run for each merge."""
    return Report(
        runs=tuple(
            RunReport(
                merge=merge,
                schedule="layerwise",
                rounds=rounds,
                metrics=tuple(measured(score - number) for number in range(rounds)),
                relative_difference_to_global=None if merge == "ties" else 2.5e-15,
                seconds=12.3,
                bytes_per_party=41_234,
                settings={"parties": {"count": 3}, "note": "</pre><b>&"},
            )
            for merge, score in (scores or MERGES).items()
        ),
        unedited=measured(0.5),
    )


def refused(reason: str) -> Report:
    """Make a report with one party left out."""
    run = make_report().runs[0]
    refusal = Refusal(node=17, reason=reason)
    metrics = run.metrics[0].model_copy(update={"refusals": (refusal,)})
    return Report(runs=(run.model_copy(update={"metrics": (metrics,)}),))


def rows_of(markdown: str) -> dict[str, list[str]]:
    """Read the first table of a Markdown text, a row by its first cell."""
    table = markdown.split("\n\n")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table]
    return {row[0]: row[1:] for row in cells}


def test_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """The JSON is the report; nothing else need be kept."""
    report = make_report(rounds=2)
    write_report(report, tmp_path)
    assert read_report(tmp_path / "report.json") == report


@pytest.mark.parametrize("rounds", [1, 2])
def test_other_forms_are_made_from_the_json(tmp_path: Path, rounds: int) -> None:
    """Byte for byte, so that a report can be made again."""
    write_report(make_report(rounds), tmp_path)
    read = read_report(tmp_path / "report.json")
    assert (tmp_path / "report.md").read_text() == render_markdown(read)
    assert (tmp_path / "report.html").read_text() == render_page(read)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["report.html", "report.json", "report.md"]


def test_the_table_has_a_row_for_each_merge() -> None:
    """Score and successes in per cent, difference, seconds and bytes."""
    rows = rows_of(render_markdown(make_report()))
    assert list(rows) == ["Merge", ":--", "(unedited)", *MERGES]
    heads = dict(zip(rows["Merge"], rows["collabedit"], strict=True))
    assert heads == {
        "Score": "93.2",
        "Rewrite success": "94.7",
        "Paraphrase success": "46.6",
        "Neighbourhood success": "99.5",
        "Difference to global": "2.5e-15",
        "Seconds": "12.3",
        "Sent per party": "41.2 kB",
    }
    assert rows["ties"][4] == "–"
    assert rows["(unedited)"][4:] == ["–", "–", "–"]


def test_the_last_round_is_compared() -> None:
    """Earlier rounds stand in a table of their own."""
    text = render_markdown(make_report(rounds=3, collabedit=90.0))
    assert rows_of(text)["collabedit"][0] == "88.0"
    assert "| collabedit | 2 | 89.0 |" in text
    assert "Round" not in render_markdown(make_report(collabedit=90.0))


def test_merges_that_score_alike_are_best_together() -> None:
    """A difference that is not printed decides nothing."""
    assert best_merges(make_report()) == ["collabedit", "global"]


def test_a_part_of_the_prompts_is_named_after_its_metric() -> None:
    """Paraphrases in the other direction are reported apart."""
    text = render_markdown(make_report())
    assert "| Rewrite difference | Paraphrase success, across |" in text


def test_a_metric_that_nobody_asked_for_has_no_column() -> None:
    """Nor has it a number."""
    report = make_report()
    assert "paraphrase_acc" in comparison(report)
    details = columns_of(report, "details")
    assert details == ["rewrite_diff", "paraphrase_success.across"]


def test_the_page_needs_nothing_but_itself() -> None:
    """No address, no script, no style or picture from elsewhere."""
    page = render_page(make_report(rounds=2))
    assert "://" not in page
    assert not re.search(r"<(script|link|iframe)|@import|url\(", page)
    sources = re.findall(r'src="([^"]{0,22})', page)
    assert sources == ["data:image/svg+xml;base64"[:22]] * 2


def test_the_page_can_be_read_aloud() -> None:
    """Pictures have words, tables name their rows and columns, the language is told."""
    page = render_page(make_report(rounds=2))
    assert '<html lang="en">' in page
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", page))
    rows = re.findall(r"<tr[^>]*>.*?</tr>", page, re.DOTALL)
    assert rows
    assert all("<th scope=" in row for row in rows)
    assert page.count("<caption>") == page.count("<table")


def test_what_a_party_caused_is_shown_as_text() -> None:
    """A reason is no markup, in the page and in a Markdown table."""
    page = render_page(refused("NaN <script>alert(1)</script>"))
    assert "<script>" not in page
    assert "NaN &lt;script&gt;" in page
    assert "node 17: NaN" in render_markdown(refused("NaN"))
    assert "&lt;/pre&gt;" in page


def without_true_targets(rounds: int = 1) -> Report:
    """Make a report of requests as zsRE has them: accuracies, and no success."""
    told = {"rewrite_token_acc": 91.5, "paraphrase_token_acc": 82.5}
    metrics = RoundMetrics(groups={**told, "locality_acc": 73.5, "essence_score": 9.5})
    whole = make_report(rounds)
    runs = tuple(
        run.model_copy(update={"metrics": (metrics,) * rounds}) for run in whole.runs
    )
    return Report(runs=runs, unedited=metrics)


@pytest.mark.parametrize("rounds", [1, 2])
def test_accuracies_stand_first_where_there_is_no_success(rounds: int) -> None:
    """In place of the empty columns, by round too, and nowhere twice."""
    accuracies = ["rewrite_token_acc", "paraphrase_token_acc", "locality_acc"]
    report = without_true_targets(rounds)
    assert columns_of(report, "overview")[:3] == accuracies
    assert columns_of(report, "overview")[3] == "relative_difference_to_global"
    assert columns_of(report, "rounds")[:3] == (accuracies if rounds > 1 else [])
    assert columns_of(report, "details") == ["essence_score"]
    text = render_markdown(report)
    assert rows_of(text)["collabedit"][:3] == ["91.5", "82.5", "73.5"]
    assert "harmonic" not in text
    assert "accuracies in per cent" in render_page(report)
    scored = report.runs[0].model_copy(update={"metrics": (measured(3.0),) * rounds})
    mixed = report.model_copy(update={"runs": (*report.runs, scored)})
    assert (
        columns_of(mixed, "overview")[:4] == columns_of(make_report(), "overview")[:4]
    )
    assert set(accuracies) < set(columns_of(mixed, "details"))


def test_a_run_without_scores_is_reported() -> None:
    """Requests may have neither paraphrases nor neighbours."""
    run = make_report().runs[0].model_copy(update={"metrics": (RoundMetrics(),)})
    report = Report(runs=(run,))
    assert rows_of(render_markdown(report))["collabedit"][:4] == ["–"] * 4
    assert "highest" not in render_page(report)


@given(count=st.integers(0, 10**12))
def test_bytes_are_written_to_three_digits(count: int) -> None:
    """In a unit that leaves the number below a thousand."""
    units = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    number, unit = write_bytes(count).split()
    assert abs(float(number) * units[unit] - count) <= 0.05 * units[unit] + 1e-9 * count
    assert float(number) <= 1000


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0"), (3.14e-15, "3.1e-15"), (1.4, "1.4")]
)
def test_small_differences_keep_their_size(value: float | None, text: str) -> None:
    """They are the point of the table."""
    assert write_number("relative_difference_to_global", value) == text


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


def test_a_disk_that_fills_up_stops_a_run_with_a_plain_word(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half-written has the results' name, and earlier ones are whole."""
    monkeypatch.setattr("server.report.page.render_page", lambda _: "a page")
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
        event = runs.last_event()
        assert event["kind"] == "run"
        assert "no room left on a disk of the server" in event["error"]
        assert not runs.output.exists()
        assert not list(disk.rglob("*partial*"))
        assert earlier.read_text() == "{}"
    assert runs.kept("safetensors") == []


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
    (told, tell), (heard, hear) = os.pipe(), os.pipe()
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
    os.read(told, 1)
    with (
        pytest.raises(InputError, match="Another process is writing"),
        create_output_folder(place),
    ):
        pass
    os.write(hear, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (place / "a.txt").read_text() == "first"
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """And nothing lies beside it afterwards."""
    path = tmp_path / "a.txt"
    for text in ("long before", "after"):
        write_whole(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]
