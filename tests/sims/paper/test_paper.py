"""A paper: everything in one folder, resumed trial by trial, trials shared."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.requests.edit_request import read_requests
from server.config import read_scenario
from server.report import plots
from sims.cli.options import SCENARIOS
from sims.paper.paper import run_sections
from sims.paper.sections import compare_sections, paper_sections
from sims.studies.rounds.order import Order as InTurn
from sims.studies.running.order import Order
from sims.studies.running.record import TABLES, UNFINISHED
from sims.studies.study import Study
from tests.sims.paper.made_up import FakeRuns


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds that figures take."""
    monkeypatch.setattr(plots, "save_figure", lambda *_: b"<svg ></svg>")


OPTIONS = ("--merges", "collabedit,ties,global", "--studies", "none")


@pytest.fixture
def order(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """Order a small paper of two seeds, in a folder of this test."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.toml"
    file.write_text(
        f'model.path = "{world}"\nrequests.source = "{world / "requests.json"}"\n'
        "parties = {count = 2, requests-per-round = 1}\nrun.rounds = 2\n"
    )
    return Order(file, (), (0, 1), options=OPTIONS)


def load_in_turn(_: Order) -> Study:
    """Make a study."""
    return InTurn()


def run_paper(order: Order, output: Path, runs: FakeRuns, **options: Path) -> Path:
    """Run a paper whose trials are made up."""
    sections = paper_sections(order, {"order": load_in_turn}, SCENARIOS)
    return run_sections("paper", sections, order, runs, output, **options)


def contents(folder: Path) -> Mapping[str, bytes]:
    """Read all that does not tell the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith("trials/"):
            text = path.read_bytes()
            for sign in (rb'"seconds": [\d.e-]+', rb"\d{4}-\d\d-\d\d( \d\d:\d\d)?"):
                text = re.sub(sign, b"", text)
            text = re.sub(rb"(made in|runs took|It took) [\w ]+ s", b"", text)
            found[name] = text
    return found


def test_everything_is_in_one_folder(order: Order, tmp_path: Path) -> None:
    """Tables in four forms, figures in two, pages, trials and what repeats them."""
    folder = run_paper(order, tmp_path / "out", FakeRuns())
    for name in ("single", "rounds"):
        for form in ("csv", "tex", "md", "html"):
            assert (folder / "tables" / f"{name}.{form}").stat().st_size
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (folder / "figures" / f"{name}.svg").read_text()
        assert (folder / "scenarios" / f"{name}.toml").is_file()
        assert (folder / "parts" / name / "report.html").is_file()
    page = (folder / "index.html").read_text()
    for link in re.findall(r'href="([^"#]+)"', page):
        assert (folder / link).is_file(), link
    assert page.count("data:image/svg+xml") >= 2
    assert "collabedit" in (folder / "tables" / "single.csv").read_text()
    trials = sorted((folder / "trials").glob("seed_*/*"))
    assert len(trials) == 2 * 2 * 3
    for trial in trials:
        made = json.loads((trial / "trial.json").read_text())
        assert set(made["versions"]) >= {"collabedit-flower", "protocol", "torch"}
        config = read_scenario(trial / "scenario.toml")
        assert len(read_requests(Path(config.requests.source))) == (
            2 * config.run.rounds
        )
        assert made["settings"]["merge"]["name"] == config.merge.name


@pytest.mark.usefixtures("undrawn")
def test_a_table_has_the_means_of_its_trials(order: Order, tmp_path: Path) -> None:
    """Of the seeds 0 and 1, whose scores are one apart."""
    folder = run_paper(order, tmp_path / "out", FakeRuns())
    record = json.loads((folder / TABLES).read_text())
    (table, *_), _ = (part["tables"] for part in record["parts"])
    rows = {row["labels"][0]: row["score"] for row in table["rows"]}
    assert rows["ties"] == {
        "mean": 20.5,
        "deviation": pytest.approx(0.5**0.5),
        "seeds": 2,
    }
    assert table["definitions"]["score"] == "counterfact.score.harmonic-mean.v1"
    assert r"\textbf{90.5 $\pm$ 0.7}" in (folder / "tables" / "single.tex").read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_same_command_gives_the_same_bytes_and_runs_nothing_again(
    order: Order, tmp_path: Path
) -> None:
    """But for times: trials that an earlier folder has are taken from it."""
    first, second = FakeRuns(), FakeRuns()
    run_paper(order, tmp_path / "a", first)
    shutil.copytree(tmp_path / "a", tmp_path / "kept")
    run_paper(order, tmp_path / "b", second)
    assert (len(first.configs), len(second.configs)) == (12, 0)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "kept")
    third = FakeRuns()
    more = replace(order, seeds=(1, 2), overrides=("prior.weight=7",))
    run_paper(replace(order, seeds=(1, 2)), tmp_path / "c", third)
    assert {config.run.seed for config in third.configs} == {2}
    run_paper(more, tmp_path / "d", fourth := FakeRuns())
    assert len(fourth.configs) == 12


@pytest.mark.usefixtures("undrawn")
def test_trials_are_computed_again_where_nothing_earlier_is(
    order: Order, tmp_path: Path
) -> None:
    """And come to the same bytes."""
    run_paper(order, tmp_path / "here" / "out", FakeRuns())
    run_paper(order, tmp_path / "there" / "out", second := FakeRuns())
    assert len(second.configs) == 12
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


@pytest.mark.usefixtures("undrawn")
def test_a_stopped_paper_is_resumed_trial_by_trial(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To what it would have come to; progress says how long it takes still."""
    run_paper(order, tmp_path / "whole" / "out", FakeRuns())
    with pytest.raises(KeyboardInterrupt):
        run_paper(order, tmp_path / "out", FakeRuns(stop_after=5))
    said = capsys.readouterr().err
    draft = tmp_path / f"out{UNFINISHED}"
    assert f"python -m sims paper --resume {draft}" in said
    assert "5/12" in said.replace(" ", "")
    other = replace(order, seeds=(0,))
    with pytest.raises(InputError, match="`--seeds`"):
        run_paper(other, tmp_path / "out", FakeRuns(), resume=draft)
    run_paper(order, tmp_path / "out", rest := FakeRuns(), resume=draft)
    assert len(rest.configs) == 7
    assert contents(tmp_path / "out") == contents(tmp_path / "whole" / "out")


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_over_swept_settings_is_one_part(
    order: Order, tmp_path: Path
) -> None:
    """With a row for each value and merge."""
    options = ("--merges", "collabedit,ties", "--sweep", "prior.weight=10,20")
    order = replace(order, options=options)
    runs = FakeRuns()
    folder = run_sections(
        "compare", compare_sections(order), order, runs, tmp_path / "out"
    )
    assert {config.prior.weight for config in runs.configs} == {10, 20}
    text = (folder / "tables" / "compare.csv").read_text()
    head, *rows = text.splitlines()
    assert head.startswith("Prior.weight,Merge,seeds,score,score.deviation")
    assert [row.split(",")[:2] for row in rows if "unedited" not in row] == [
        [weight, merge] for weight in ("10", "20") for merge in ("collabedit", "ties")
    ]
