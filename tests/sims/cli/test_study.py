"""The command line of the studies."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editing.base.errors import InputError
from sims.cli import study as commands
from sims.cli.study import read_seeds
from sims.studies.overlap import Overlap
from sims.studies.running import runner
from sims.studies.running.folder import write_record
from sims.studies.running.order import Order
from sims.studies.running.record import UNFINISHED, StudyRecord
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

    def keep(study: Study, order: Order, output: Path | None, *_: object) -> Path:
        given.append((study, order, output))
        return tmp_path

    monkeypatch.setattr(runner, "run_study", keep)
    words = [name, "--seeds", "1,2", "--set", "run.rounds=4", "--engine", "flower"]
    scenario, folder = tmp_path / "my.toml", tmp_path / "out"
    scenario.write_text("parties.count = 3\n")
    words += ["--scenario", str(scenario), "--output", str(folder)]
    assert CliRunner().invoke(commands.app, words).exit_code == 0
    ((study, order, output),) = given
    assert study.name == name
    assert order == Order(scenario, ("run.rounds=4",), (1, 2), "flower")
    assert output == folder


def test_the_threshold_of_known_requests_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is the study's own setting, for the guarded half of its trials."""
    given: list[Study] = []

    def keep(study: Study, *_: object) -> Path:
        given.append(study)
        return tmp_path

    monkeypatch.setattr(runner, "run_study", keep)
    CliRunner().invoke(commands.app, ["overlap", "--skip-known", "0.25"])
    (study,) = given
    assert isinstance(study, Overlap)
    assert study.threshold == 0.25


def keep_record(folder: Path, study: str = "overlap") -> StudyRecord:
    """Leave the record of a stopped study in a folder."""
    record = StudyRecord(
        study=study,
        overrides=("run.rounds=3",),
        seeds=(4, 5),
        engine="in-process",
        options=("--skip-known", "0.3") if study == "overlap" else (),
        settings={},
        trials={},
    )
    folder.mkdir()
    write_record(folder, record)
    return record


def test_a_resumed_study_has_the_options_it_was_begun_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that are given again replace them, so that a difference is seen."""
    given: list[tuple[Study, Order, Path | None]] = []

    def keep(
        study: Study, order: Order, _: object, __: object, resume: Path | None
    ) -> Path:
        given.append((study, order, resume))
        return tmp_path

    monkeypatch.setattr(runner, "run_study", keep)
    folder = tmp_path / f"out{UNFINISHED}"
    record = keep_record(folder)
    words = ["overlap", "--resume", str(tmp_path / "out"), "--jobs", "2"]
    found = CliRunner().invoke(commands.app, words)
    assert found.exit_code == 0, found.output
    CliRunner().invoke(commands.app, [*words, "--seeds", "4", "--skip-known", "0.2"])
    (study, order, resume), (other, differing, _) = given
    assert isinstance(study, Overlap)
    assert isinstance(other, Overlap)
    assert (study.threshold, other.threshold) == (0.3, 0.2)
    assert order == record.order(2)
    assert differing.seeds == (4,)
    assert differing.options == ("--skip-known", "0.2")
    assert resume == tmp_path / "out"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("forgetting", "--resume", "out"), "holds the study `overlap`"),
        (("overlap", "--resume", "nothing"), "no unfinished study is in"),
        (("overlap", "--resume", "out", "--output", "other"), "that is resumed ends"),
        (("overlap", "--set", "parties.cuont=3"), "cuont"),
        (("overlap", "--set", "parties.count=0"), "parties.count"),
        (("overlap", "--scenario", "missing.toml"), "missing.toml"),
        (("overlap", "--output", "out.unfinished"), "is never overwritten"),
        (("overlap", "--seeds", "1,1"), "names a seed twice"),
        (("conflict", "--pairs", "missing.json"), "there is no such file"),
        (("augmentation", "--templates", "missing.json"), "there is no such file"),
    ],
)
def test_options_are_validated_before_the_libraries_are_loaded(
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A mistake is found at once."""
    keep_record(tmp_path / f"out{UNFINISHED}")
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(commands.app, list(words))
    assert isinstance(found.exception, InputError)
    assert message in str(found.exception)
    assert "loading" not in found.output


def test_validation_waits_for_no_heavy_library() -> None:
    """Neither what computes nor what draws."""
    check = (
        "import sys\n"
        "from sims.cli.study import Given, place_order, validate\n"
        "given = Given('0,1', None, ['run.rounds=2'], None, 1, None, None)\n"
        "validate('overlap', place_order('overlap', given, {}), None)\n"
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


@pytest.mark.parametrize(("args", "code"), [((), 130), ((15,), 143)])
def test_a_study_that_a_signal_stops_exits_as_programs_do(
    args: tuple[int, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """128 and the number of the signal."""

    def stop(*_: object) -> Path:
        raise KeyboardInterrupt(*args)

    monkeypatch.setattr(runner, "run_study", stop)
    words = ["overlap", "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(commands.app, words).exit_code == code
