"""What carries a run, and what it cannot carry."""

import os
import sys
from pathlib import Path

import pytest

from editing.base.errors import InputError
from server.config import RunConfig, ScheduleConfig
from sims.errors import RunFailedError
from sims.runs.engines import (
    CONNECTION,
    DEPLOYMENT,
    IN_PROCESS,
    advising,
    check_engine,
    choose_engine,
    has_own_nodes,
    name_run,
    search_path_of,
)
from sims.runs.in_process import run_in_process
from strategies.methods import MergeChoice

OWN = f"{CONNECTION}hospital"
POOLED = (
    RunConfig(run=ScheduleConfig(compare=True)),
    RunConfig(merge=MergeChoice(name="global")),
)


@pytest.mark.parametrize("config", POOLED, ids=["compare", "global"])
@pytest.mark.parametrize("engine", [DEPLOYMENT, OWN])
def test_real_nodes_are_not_asked_for_all_requests(
    config: RunConfig, engine: str
) -> None:
    """The reason is given before anything is started; a simulation may."""
    with pytest.raises(InputError, match=r"`global`.* all requests in one place"):
        check_engine(config, engine)
    for simulated in ("flower", IN_PROCESS):
        check_engine(config, simulated)
    check_engine(RunConfig(), engine)


def test_runs_among_the_users_nodes_have_names_that_no_other_run_has() -> None:
    """Unless one was given, as that of a run that goes on is."""
    folder = Path("/results/night")
    named = [name_run(RunConfig(), folder, OWN) for _ in range(20)]
    names = {str(each.run.name) for each in named}
    assert len(names) == 20
    assert all(name.startswith("night-") for name in names)
    assert name_run(named[0], folder, OWN) == named[0]


@pytest.mark.parametrize("engine", ["flower", IN_PROCESS, DEPLOYMENT])
def test_parties_of_our_own_share_one_folder_of_the_run(engine: str) -> None:
    """It is in the run's own folder, so no other run can meet it."""
    named = {name_run(RunConfig(), Path(each), engine).run.name for each in ("a", "b")}
    assert len(named) == 1
    assert not has_own_nodes(engine)


def test_a_run_that_failed_after_a_round_says_how_to_resume_it(
    tmp_path: Path,
) -> None:
    """With the connection, if it had one; before a completed round there is nothing."""
    with pytest.raises(RunFailedError) as plain, advising(tmp_path, OWN):
        raise RunFailedError("lost")
    assert str(plain.value) == "lost"
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "ties.safetensors").touch()
    advice = "Resume it after its last completed round with:"
    for engine, words in ((OWN, " --connection hospital"), ("flower", "")):
        with pytest.raises(RunFailedError) as failed, advising(tmp_path, engine):
            raise RunFailedError("lost")
        command = f"python -m sims run --resume {tmp_path}{words}"
        assert str(failed.value) == f"lost. {advice} {command}"


def test_a_server_elsewhere_finds_the_merges_from_outside_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules and packages, wherever they were imported from; known ones need none."""
    assert search_path_of(RunConfig()) == os.environ.get("PYTHONPATH", "")
    (tmp_path / "alone.py").write_text("")
    (tmp_path / "deep" / "package").mkdir(parents=True)
    (tmp_path / "deep" / "package" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", "/first")
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path / "deep"), *sys.path])
    merges = ("ties", "alone:Merge", "package.inner:Merge", "package.other:Merge")
    config = RunConfig(run=ScheduleConfig(compare=True, merges=merges))
    found = search_path_of(config).split(os.pathsep)
    assert found == ["/first", str(tmp_path), str(tmp_path / "deep")]


def test_an_interrupted_run_says_what_is_kept_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing, or what the command that began it can resume."""
    with pytest.raises(KeyboardInterrupt), advising(tmp_path, "flower", "compare"):
        raise KeyboardInterrupt
    kept = capsys.readouterr().err
    assert kept == "Stopped. No round was completed, so nothing is kept.\n"
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "ties.safetensors").touch()
    with pytest.raises(KeyboardInterrupt), advising(tmp_path, "flower", "compare"):
        raise KeyboardInterrupt
    kept = capsys.readouterr().err
    assert f"python -m sims compare --resume {tmp_path}\n" in kept


def test_the_engine_in_this_process_is_chosen_by_name(tmp_path: Path) -> None:
    """And those of real nodes are given the run's folder, not called yet."""
    with choose_engine(IN_PROCESS, tmp_path, verbose=False) as (run, _):
        assert run is run_in_process
    for name in (DEPLOYMENT, OWN):
        with choose_engine(name, tmp_path, verbose=False) as (run, _):
            assert callable(run)
    assert list(tmp_path.iterdir()) == []
