"""The command line of the studies."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editing.base.errors import InputError
from sims.cli import study as commands
from sims.cli.study import read_seeds
from sims.studies import running
from sims.studies.overlap import Overlap
from sims.studies.running import Execute, Order
from sims.studies.study import Study
from tests.trees import ROOT


def test_seeds_are_numbers_between_commas() -> None:
    """In the order given."""
    assert read_seeds("0") == (0,)
    assert read_seeds("2, 0,11") == (2, 0, 11)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "-1", "0.5", "1,1"])
def test_other_seeds_are_refused(text: str) -> None:
    """By the option's name."""
    with pytest.raises(InputError, match=f"--seeds {text}: "):
        read_seeds(text)


def test_help_waits_for_no_heavy_library() -> None:
    """Neither what computes nor what draws."""
    check = (
        "import sys, sims.cli.study;"
        "print({'torch', 'pandas', 'matplotlib', 'flwr'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", check],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["forgetting", "overlap"])
def test_options_become_the_order_of_the_study_that_was_named(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is lost on the way."""
    given: list[tuple[Study, Order, Path | None]] = []

    def keep(study: Study, order: Order, output: Path | None, _: Execute) -> Path:
        given.append((study, order, output))
        return tmp_path

    monkeypatch.setattr(running, "run_study", keep)
    words = [name, "--seeds", "1,2", "--set", "run.rounds=4", "--engine", "flower"]
    words += ["--scenario", "my.toml", "--output", str(tmp_path)]
    assert CliRunner().invoke(commands.app, words).exit_code == 0
    ((study, order, output),) = given
    assert study.name == name
    assert order == Order(Path("my.toml"), ("run.rounds=4",), (1, 2), "flower")
    assert output == tmp_path


def test_the_threshold_of_known_requests_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is the study's own setting, for the guarded half of its trials."""
    given: list[Study] = []

    def keep(study: Study, *_: object) -> Path:
        given.append(study)
        return tmp_path

    monkeypatch.setattr(running, "run_study", keep)
    CliRunner().invoke(commands.app, ["overlap", "--skip-known", "0.25"])
    (study,) = given
    assert isinstance(study, Overlap)
    assert study.threshold == 0.25
