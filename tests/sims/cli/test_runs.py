"""The command line of comparisons over trials, and of papers."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editing.base.errors import InputError
from sims.cli import runs as commands
from sims.cli.options import DEFAULT_SCENARIO
from sims.paper import paper
from sims.paper.document import BEGIN, END, INCLUDED
from sims.paper.sections import Section
from sims.studies.running.folder import write_record
from sims.studies.running.order import Order
from sims.studies.running.record import UNFINISHED, StudyRecord

Given = tuple[str, Sequence[Section], Order]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Given]:
    """Keep what would be run, and leave a folder with tables."""
    found: list[Given] = []
    (tmp_path / INCLUDED).write_text("| table |\n")

    def keep(name: str, sections: Sequence[Section], order: Order, *_: object) -> Path:
        found.append((name, sections, order))
        return tmp_path

    monkeypatch.setattr(paper, "run_sections", keep)
    return found


def call(*words: str) -> None:
    """Call a command, which must succeed."""
    result = CliRunner().invoke(commands.app, list(words))
    assert result.exit_code == 0, result.output + str(result.exception)


def test_seeds_and_sweeps_make_a_comparison_of_trials(given: list[Given]) -> None:
    """Nothing is lost on the way; the command that is kept makes it again."""
    call("compare", "--seeds", "1,2", "--merges", "ties,global", "--jobs", "1")
    sweeps = ("--sweep", "prior.weight=1,2", "--sweep", "run.rounds=1,2")
    call("compare", *sweeps, "--schedule", "alone", "--engine", "flower")
    (first, (section,), order), (_, _, swept) = given
    assert first == section.name == "compare"
    assert order == Order(
        DEFAULT_SCENARIO, (), (1, 2), options=("--merges", "ties,global"), jobs=1
    )
    assert swept.repeated("--sweep") == ("prior.weight=1,2", "run.rounds=1,2")
    assert (swept.seeds, swept.engine) == ((0, 1, 2), "flower")
    assert swept.overrides == ('editing.schedule="alone"',)
    assert swept.command("compare").endswith(
        "--sweep prior.weight=1,2 --sweep run.rounds=1,2"
    )


def test_a_papers_options_become_its_order(given: list[Given], tmp_path: Path) -> None:
    """And its tables go into a document that has a place for them."""
    document = tmp_path / "mine.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    call(
        *("paper", "--editors", "memit,emmet", "--studies", "scale"),
        *("--markdown", str(document), "--set", "run.rounds=1"),
    )
    ((name, sections, order),) = given
    assert name == "paper"
    assert [each.name for each in sections] == ["single", "scale"]
    assert order.seeds == (0, 1, 2)
    assert order.options == ("--editors", "memit,emmet", "--studies", "scale")
    assert "| table |" in document.read_text()


@pytest.mark.parametrize("name", ["compare", "paper"])
def test_a_resumed_one_has_the_options_it_was_begun_with(
    name: str, given: list[Given], tmp_path: Path
) -> None:
    """The folder tells a comparison of trials from another."""
    folder = tmp_path / f"out{UNFINISHED}"
    folder.mkdir()
    record = StudyRecord(
        study=name,
        scenario=DEFAULT_SCENARIO,
        seeds=(4, 5),
        engine="in-process",
        options=("--merges", "ties"),
        settings={},
        trials={},
    )
    write_record(folder, record)
    call(name, "--resume", str(tmp_path / "out"), "--jobs", "3")
    ((kind, _, order),) = given
    assert kind == name
    assert order == record.order(3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "--seeds", "1", "--connection", "mine"), "--connection: "),
        (("compare", "--seeds", "1,1"), "names a seed twice"),
        (("compare", "--sweep", "weight=1"), "--sweep weight=1: wanted"),
        (("compare", "--seeds", "1", "--set", "prior.wieght=1"), "wieght"),
        (("paper", "--scenario", "missing.toml"), "missing.toml"),
        (("paper", "--sweep", "run.seed=1"), "--seeds is for"),
        (("paper", "--resume", "missing"), "no unfinished study is in"),
        (("paper", "--studies", "scael"), "there is no study"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(
    words: tuple[str, ...],
    message: str,
    given: list[Given],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """By the option's name."""
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(commands.app, list(words))
    assert isinstance(found.exception, InputError)
    assert message in str(found.exception)
    assert given == []
