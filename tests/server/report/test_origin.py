"""Laws of a page's head: date, versions and command, and no secret."""

import re
import shlex
import sys
from pathlib import Path

import flwr
import pytest
import torch

from server.report.data import Report
from server.report.frame import fill_frame
from server.report.origin import (
    PROJECT,
    UNKNOWN,
    Origin,
    find_origin,
    find_version,
    hide_secrets,
    own_command,
)
from server.report.page import render_page
from tests.pages import read_page
from tests.server.report.test_data import make_report
from tests.server.runs import Runs

COMMAND = "python -m sims run 'my file.toml' --set 'a.b=\"<c>\"' --engine in-process"
ROOT = Path(__file__).parents[3]


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


def test_versions_are_those_that_run() -> None:
    """The project's own comes from its file; what is not installed is said so."""
    origin = find_origin()
    (stated,) = re.findall(
        r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert origin.versions == {
        PROJECT: stated,
        "Flower": flwr.__version__,
        "torch": torch.__version__,
    }
    assert find_version("no-such-package-anywhere") == UNKNOWN
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", origin.date)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (COMMAND, COMMAND),
        ("a --token abc --set x=1", "a --token … --set x=1"),
        ("a --api-key=abc b", "a --api-key=… b"),
        ("a --set hub.password=abc", "a --set hub.password=…"),
        ("a https://me:abc@host/path", "a https://…@host/path"),
        ("a 'not closed abc", "'a '\"'\"'not closed abc'"),
    ],
)
def test_no_secret_is_shown(given: str, shown: str) -> None:
    """Neither an option's nor an address's; everything else stays."""
    assert shlex.split(hide_secrets(given)) == shlex.split(shown)
    assert hide_secrets(hide_secrets(given)) == hide_secrets(given)


def test_the_command_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``python -m sims`` alone: of another program nothing is claimed."""
    words = ["run", "a file.toml", "--set", "run.seed=1"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/sims/__main__.py", *words])
    assert own_command() == "python -m sims run 'a file.toml' --set run.seed=1"
    monkeypatch.setattr(sys, "argv", ["/somewhere/pytest/__main__.py", *words])
    assert own_command() == ""


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
