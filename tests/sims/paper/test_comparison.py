"""A comparison's trials are the runs that `run` makes."""

from pathlib import Path

import pytest
from rich.console import Console

from editing.algebra.deltas import load_delta, relative_difference
from editing.base.errors import InputError
from server.config import read_scenario
from server.report.data import read_report
from server.report.tables import UNEDITED
from sims.paper.comparison import GAP, Comparison, Grid, Variant, vary
from sims.paper.sweep import read_sweeps
from sims.runs.jobs import execute
from sims.studies.running.trials import PlannedTrial, Trials

SETTINGS = (
    "parties.requests-per-round=1",
    "parties.split=shuffled",
    "run.rounds=2",
    "editing.v_num_grad_steps=3",
    "editing.schedule=frozen-uniform",
)


@pytest.fixture
def scenario(world: Path, tmp_path: Path) -> Path:
    """Write a scenario of a small run on the tiny world."""
    file = tmp_path / "mine.toml"
    file.write_text(
        f'model.path = "{world}"\nrequests.source = "{world / "requests.json"}"\n'
        "parties = {count = 2, overlap = 1}\n"
    )
    return file


def test_a_trial_is_the_run_of_its_settings_and_seed(
    scenario: Path, tmp_path: Path
) -> None:
    """Its metrics to the last bit, though its requests are in a file of their own."""
    study = Comparison(Grid(merges=("ties", "global")), scenario, SETTINGS)
    config = study.configure(())
    planned = [
        PlannedTrial(3, trial, scenario, SETTINGS)
        for trial in study.trials([], config, 3)
    ]
    trials = Trials(tmp_path / "out", execute_here, engine="in-process", jobs=1)
    results = list(trials.run(planned, Console(quiet=True)))
    seeds = ("requests.seed=3", "run.seed=3", "merge.name=ties")
    execute_here(
        read_scenario(scenario, (*SETTINGS, *seeds)), tmp_path / "one", "in-process"
    )
    (run,) = read_report(tmp_path / "one" / "report.json").runs
    assert results[0].report.metrics == run.metrics
    deltas = [
        load_delta(folder / "delta.safetensors")[0]
        for folder in (results[0].folder, tmp_path / "one", results[1].folder)
    ]
    assert relative_difference(deltas[0], deltas[1]) == 0
    frame = study.tabulate(results)
    own = frame[(frame["merge"] == "ties") & (frame["round"] == 2)].iloc[0]
    assert own[GAP] == relative_difference(deltas[0], deltas[2])
    assert own["rewrite_acc"] == run.metrics[-1].all_edits["rewrite_acc"]
    assert set(frame["merge"]) == {UNEDITED, "ties", "global"}
    (figure,) = study.draw(frame)
    assert list(figure.table.index) == [UNEDITED, "ties", "global"]
    assert vary(frame) == ["merge"]


def execute_here(config: object, folder: Path, engine: str) -> None:
    """Run a trial without showing anything."""
    execute(config, folder, engine, console=Console(quiet=True))  # type: ignore[arg-type]


def test_variants_are_all_choices(scenario: Path) -> None:
    """Of editors, swept settings and merges, each with a name of its own."""
    grid = Grid(
        editors=("memit", "emmet"),
        merges=("collabedit", "global"),
        points=tuple(read_sweeps(["parties.count=2,3", "run.encoding=dense,factors"])),
    )
    study = Comparison(grid, scenario, SETTINGS)
    variants = list(study.variants())
    assert len(variants) == len({variant.name for variant in variants}) == 16
    assert variants[-1].labels == {
        "editor": "emmet",
        "parties.count": 3.0,
        "run.encoding": "factors",
        "merge": "global",
    }
    (last, *_) = study.trials([], study.configure(()), 0)[-2:]
    assert [len(parties) for parties in last.rounds] == [3, 3]


def test_too_small_a_pool_is_refused(scenario: Path) -> None:
    """Before anything is run."""
    study = Comparison(Grid(), scenario, (*SETTINGS, "parties.requests-per-round=999"))
    with pytest.raises(InputError, match="requests"):
        study.trials([], study.configure(()), 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "b/c.json"}, {"a": "b.c.json"}),
        ({"a": "[2,1]"}, {"a": "[[2,1]]"}),
        ({"a": "x_y", "b": "z"}, {"a": "x", "b": "y_z"}),
    ],
)
def test_unlike_choices_have_unlike_folders(
    one: dict[str, str | float], other: dict[str, str | float]
) -> None:
    """Though signs are left out that a folder may not have."""
    names = {
        Variant(each, tuple(f"t.{k}={v}" for k, v in each.items())).name
        for each in (one, other)
    }
    assert len(names) == 2
    assert not any("/" in name or "[" in name for name in names)
