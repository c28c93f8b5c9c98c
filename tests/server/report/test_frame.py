"""Laws of the frame: what a page does in a browser, and what it may do."""

import base64
import hashlib
from pathlib import Path

import pytest

from editing.base.origin import PROJECT, Origin
from server.report.data import Report
from server.report.frame import SORTING, fill_frame
from server.report.page import render_page
from tests.chromium import PROGRAM, browsing
from tests.pages import read_page
from tests.server.report.test_data import make_report, refused
from tests.server.report.test_rounds import make_rounds
from tests.server.runs import Runs

COMMAND = "python -m sims run 'my file.toml' --set 'a.b=\"<c>\"'"
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not here")
EVIL = "</script></title><script>document.title = 'taken'</script><img src=x onerror=a>"


def sha256(text: str) -> str:
    """The digest as the standard on Content-Security-Policy defines it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def policy_of(html: str) -> dict[str, list[str]]:
    """Read the page's policy, its sources by directive."""
    metas = [each.attributes for each in read_page(html).all("meta")]
    (text,) = [
        each["content"]
        for each in metas
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    parts = [part.split() for part in text.split(";")]
    return {part[0]: part[1:] for part in parts}


def test_the_policy_admits_the_pages_own_script_and_style_alone() -> None:
    """By their digests; nothing is loaded from anywhere."""
    html = render_page(make_report(2))
    page, policy = read_page(html), policy_of(html)
    (script,), (style,) = page.all("script"), page.all("style")
    assert script.text == SORTING
    assert policy["default-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    assert policy["script-src"] == [f"'sha256-{sha256(script.text)}'"]
    assert policy["style-src"] == [f"'sha256-{sha256(style.text)}'"]
    assert policy["form-action"] == policy["base-uri"] == ["'none'"]
    assert "\0" not in html  # a browser would read another character
    named = [name for each in page.all("table") for name in each.attributes]
    assert "style" not in named


def test_the_page_is_whole_without_its_script() -> None:
    """Every table stands in the text itself, and nothing is hidden for a script."""
    page = read_page(render_page(make_rounds(3)))
    assert all(table.all("td") for table in page.all("table"))
    assert not page.all("button")
    assert not page.all("noscript")


@needs_chromium
def test_text_of_others_does_nothing_in_a_browser(tmp_path: Path) -> None:
    """Nor would it if it were markup: the policy holds."""
    page = tmp_path / "page.html"
    with browsing() as browser:
        page.write_text(render_page(refused(EVIL)), encoding="utf-8")
        browser.show(page, 1400)
        assert browser.run("document.title") == "Collaborative editing: report"
        assert browser.console == []
        escaped = "&lt;/script&gt;"
        forged = page.read_text().replace(
            escaped, "<script>document.title = 1</script>"
        )
        page.write_text(forged, encoding="utf-8")
        browser.show(page, 1400)
        assert browser.run("document.title") == "Collaborative editing: report"
        assert any("Content Security Policy" in each for each in browser.console)


@needs_chromium
@pytest.mark.parametrize(
    "report", [make_report(), make_rounds(3)], ids=["one", "three"]
)
def test_no_page_is_wider_than_its_window(report: Report, tmp_path: Path) -> None:
    """On a phone and a desk, light and dark: tables scroll within their own boxes."""
    page = tmp_path / "page.html"
    page.write_text(render_page(report), encoding="utf-8")
    with browsing() as browser:
        for width in (1400, 390):
            for dark in (False, True):
                browser.show(page, width, dark=dark)
                wide = browser.run("document.documentElement.scrollWidth")
                assert wide <= width
                colour = browser.run("getComputedStyle(document.body).color")
                assert (colour == "rgb(228, 233, 238)") == dark
        assert browser.console == []


FIRST = "document.querySelector('table')"
READ = f"[...{FIRST}.tBodies[0].rows].map((row) => row.cells[%d].textContent)"
HEAD = f"{FIRST}.tHead.rows[0].cells[%d]"


@needs_chromium
def test_a_table_is_sorted_by_a_click_and_by_a_key(tmp_path: Path) -> None:
    """Up, down, and back; numbers by their size, whatever their unit; dashes last."""
    sizes = {"a": 999, "b": 41_234, "c": 2_000_000, "party 10": 5, "party 2": 50}
    scores = dict.fromkeys(sizes, 50.0)
    whole = make_report(1, **scores)
    runs = [
        run.model_copy(update={"bytes_per_party": size})
        for run, size in zip(whole.runs, sizes.values(), strict=True)
    ]
    report = whole.model_copy(update={"runs": tuple(runs)})
    page = tmp_path / "page.html"
    page.write_text(render_page(report), encoding="utf-8")
    names = ["(unedited)", *sizes]
    by_size = ["party 10", "party 2", "a", "b", "c", "(unedited)"]
    with browsing() as browser:
        browser.show(page, 1400)
        place = browser.run(f"{FIRST}.tHead.rows[0].cells.length") - 1
        assert browser.run(READ % 0) == names
        states = []
        for wanted in (by_size, [*by_size[4::-1], "(unedited)"], names):
            browser.run(f"({HEAD % place}).querySelector('button').click()")
            assert browser.run(READ % 0) == wanted
            states.append(browser.run(f"({HEAD % place}).getAttribute('aria-sort')"))
        assert states == ["ascending", "descending", None]
        browser.run(f"({HEAD % 0}).querySelector('button').focus()")
        browser.press("Enter", 13, "\r")
        assert browser.run(READ % 0) == [*names[:4], "party 2", "party 10"]
        browser.press("Tab", 9)
        assert browser.run(f"({HEAD % 1}).contains(document.activeElement)")
        assert browser.console == []


def with_origin(command: str) -> Report:
    """Make a report of a known day."""
    versions = {PROJECT: "1.2", "Flower": "3.4", "torch": "5.6"}
    origin = Origin(date="2026-01-02 03:04 UTC", versions=versions, command=command)
    return make_report().model_copy(update={"origin": origin})


def test_the_head_has_date_versions_and_the_exact_command() -> None:
    """As text, whatever the command holds; a report of earlier versions has none."""
    (header,) = read_page(render_page(with_origin(COMMAND))).all("header")
    assert "Made 2026-01-02 03:04 UTC by" in header.text
    assert "collabedit-flower 1.2, Flower 3.4, torch 5.6." in header.text
    (command,) = header.all("pre")
    assert command.text == COMMAND
    assert not read_page(render_page(make_report())).all("header")[0].all("pre")
    assert not read_page(render_page(with_origin(""))).all("header")[0].all("pre")


def test_a_page_is_a_function_of_its_report() -> None:
    """Byte for byte; of another day, nothing but the date differs."""
    report = with_origin(COMMAND)
    assert render_page(report) == render_page(report)
    assert report.origin is not None
    later = report.origin.model_copy(update={"date": "2027-01-02 03:04 UTC"})
    again = render_page(report.model_copy(update={"origin": later}))
    assert again == render_page(report).replace("2026-01-02", "2027-01-02")


def test_a_template_without_an_origin_has_a_frame() -> None:
    """Its include is empty then."""
    page = fill_frame('<p>{% include "origin" %}</p>', title="t")
    assert "<p></p>" in page


def test_a_run_reports_its_command(world: Path, tmp_path: Path) -> None:
    """The setting arrives in the report, and in none of what made the run."""
    runs = Runs(world, tmp_path)
    report = runs.run(output={"command": COMMAND})
    assert report.origin is not None
    assert report.origin.command == COMMAND
    assert COMMAND not in str(report.runs[0].settings)
