"""A run with a hostile party, through the whole server in this process."""

from pathlib import Path

import pytest
from rich.console import Console

from editing.algebra.deltas import load_delta
from editing.base.errors import InputError
from server.config import RunConfig, read_scenario
from server.report.data import read_report
from sims.errors import RunFailedError
from sims.runs.jobs import execute
from sims.studies.trust import hostile
from sims.studies.trust.hostile import HostileRun, find_named, read_stop
from sims.studies.trust.study import CHECKS, GATED, Trust
from strategies.gate.gate import repeat_without, unknown_culprit

SMALL = (
    "parties.count=3",
    "parties.requests-per-round=2",
    "editing.v-num-grad-steps=5",
    "prior.tokens=3000",
)


def configure(*settings: str) -> RunConfig:
    """Read the study's scenario, with three parties."""
    return read_scenario(Trust.scenario, [*SMALL, *settings])


def test_without_an_attack_it_is_the_run_of_any_scenario(tmp_path: Path) -> None:
    """To the last bit."""
    config, quiet = configure(), Console(quiet=True)
    execute(config, tmp_path / "plain", console=quiet)
    HostileRun("none")(config, tmp_path / "hostile", "in-process")
    one, other = (
        load_delta(tmp_path / name / "delta.safetensors")[0]
        for name in ("plain", "hostile")
    )
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    assert read_stop(tmp_path / "hostile") == ()


def test_a_party_beyond_the_bounds_is_refused(tmp_path: Path) -> None:
    """It is the last one, and the others are edited."""
    HostileRun("keys of plain text")(configure(), tmp_path / "run", "in-process")
    metrics = read_report(tmp_path / "run" / "report.json").runs[0].metrics[-1]
    assert [each.label for each in metrics.refusals] == ["party 2"]
    assert metrics.requests == 4


def test_a_stopped_run_is_repeated_without_whom_the_gate_names(tmp_path: Path) -> None:
    """Within the bounds it takes back what party 0 asks for, who reports it."""
    config = configure(*CHECKS[GATED], "gate.requests=20")
    HostileRun("party 0's keys, −R")(config, tmp_path / "run", "in-process")
    assert read_stop(tmp_path / "run") == (2,)
    metrics = read_report(tmp_path / "run" / "report.json").runs[0].metrics[-1]
    assert metrics.requests == 4


def test_the_gate_names_one_party_two_or_none() -> None:
    """In the words of its messages."""
    assert find_named(f"Without party 2 no harm. {repeat_without(2, 'party 2')}") == [2]
    said = "by round 3; party 9 and party 0 contradict each other, and the server"
    assert find_named(said) == [0, 9]
    assert find_named(unknown_culprit()) == []


def test_a_run_that_fails_for_another_reason_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left out whom no message names."""

    def fail(*_: object, **__: object) -> None:
        raise RunFailedError("the server lost its way")

    monkeypatch.setattr(hostile, "execute", fail)
    with pytest.raises(RunFailedError, match="lost its way"):
        HostileRun("none")(configure(), tmp_path / "run", "in-process")


def test_other_engines_have_no_place_for_it(tmp_path: Path) -> None:
    """The message names what to choose."""
    with pytest.raises(InputError, match="in this process alone"):
        HostileRun("none")(configure(), tmp_path / "run", "flower")
