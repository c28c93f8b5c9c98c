"""Trials become runs like any other, and what they left becomes results."""

import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from editing.base.errors import InputError
from editing.requests.edit_request import read_requests
from server.config import RunConfig
from server.report.data import Report, RoundMetrics
from server.report.writing import write_report
from sims.runs.jobs import execute, execute_quietly
from sims.studies.rounds.forgetting import Forgetting
from sims.studies.running.order import Order
from sims.studies.running.runner import Runner, run_study
from sims.studies.running.trials import find_trials
from sims.studies.study import Trial, TrialResult
from tests.sims.studies.made_up import make_pool, report_of

POOL = make_pool(6)
ROUNDS = (((POOL[0],), (POOL[2], POOL[4])),)
STUDY = Forgetting()


class Fake:
    """Leaves a report, and remembers what was run."""

    def __init__(self) -> None:
        """Nothing was run."""
        self.configs: list[RunConfig] = []

    def __call__(
        self,
        config: RunConfig,
        folder: Path,
        engine: str = "in-process",
        *,
        verbose: bool = False,
    ) -> None:
        """Write a folder as a run does."""
        del verbose
        assert engine == "flower"
        self.configs.append(config)
        folder.mkdir(parents=True)
        write_report(Report(runs=(report_of([RoundMetrics()]),)), folder)


def make_runner(folder: Path, fake: Fake, *overrides: str) -> Runner:
    """Make a runner of the forgetting study's scenario."""
    return Runner(folder, STUDY, Order(None, overrides, (0,), "flower"), fake)


def run_one(runner: Runner, seed: int, trial: Trial) -> TrialResult:
    """Run a trial by itself."""
    (result,) = runner.run_all([(seed, trial)], Console(quiet=True))
    return result


def test_equal_trials_of_a_seed_are_run_once(tmp_path: Path) -> None:
    """Though they are read twice; another seed or setting is another run."""
    fake = Fake()
    runner = make_runner(tmp_path, fake)
    first = run_one(runner, 0, Trial("a", ROUNDS))
    again = run_one(runner, 0, Trial("b", ROUNDS, labels={"x": 1.0}))
    assert again.folder == first.folder
    assert again.trial.labels == {"x": 1.0}
    assert len(fake.configs) == 1
    run_one(runner, 1, Trial("a", ROUNDS))
    run_one(runner, 0, Trial("c", ROUNDS, settings=("prior.memory-weight=0",)))
    assert len(fake.configs) == 3
    assert [config.run.seed for config in fake.configs] == [0, 1, 0]


def test_trials_of_other_code_are_run_again_and_it_is_said(tmp_path: Path) -> None:
    """Those of the same are kept, by whichever runner."""
    fake, trial = Fake(), Trial("a", ROUNDS)
    for _ in range(2):
        folder = run_one(make_runner(tmp_path, fake), 0, trial).folder
    assert len(fake.configs) == 1
    described = json.loads((folder / "trial.json").read_text())
    (folder / "trial.json").write_text(json.dumps(described | {"digest": "older"}))
    console = Console(record=True, width=200, file=StringIO())
    list(make_runner(tmp_path, fake).run_all([(0, trial)], console))
    assert len(fake.configs) == 2
    assert "1 finished trials are of other code" in console.export_text()


@pytest.mark.parametrize("damage", ["", "[]", '{"runs": []}'])
def test_a_trial_whose_files_were_changed_is_run_again(
    damage: str, tmp_path: Path
) -> None:
    """A number that somebody wrote into its report is in no table."""
    fake, trial = Fake(), Trial("a", ROUNDS)
    folder = run_one(make_runner(tmp_path, fake), 0, trial).folder
    (folder / "report.json").write_text(damage)
    digest = json.loads((folder / "trial.json").read_text())["digest"]
    assert find_trials([tmp_path], {digest}) == {}
    run_one(make_runner(tmp_path, fake), 0, trial)
    assert len(fake.configs) == 2
    assert find_trials([tmp_path], {digest}) == {digest: folder}
    assert find_trials([tmp_path], {"another"}) == {}


def test_trials_at_once_come_to_what_they_come_to_one_after_the_other(
    world: Path, tmp_path: Path
) -> None:
    """In processes of their own, and read in order whichever is done first."""
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(f'[model]\npath = "{world}"\n')
    requests = read_requests(world / "requests.json", 4)
    trials = [
        (seed, Trial(f"t{seed}", (((request,),),)))
        for seed, request in enumerate(requests)
    ]
    found = []
    for jobs in (1, 2):
        order = Order(
            scenario, ("editing.v_num_grad_steps=3",), (0,), "in-process", jobs
        )
        runner = Runner(tmp_path / f"with {jobs}", STUDY, order, execute_quietly)
        found.append(list(runner.run_all(trials, Console(quiet=True))))
    for ours, theirs in zip(*found, strict=True):
        assert (ours.seed, ours.trial) == (theirs.seed, theirs.trial)
        assert ours.report.metrics == theirs.report.metrics
    first, *others = (each.report.metrics for each in found[0])
    assert any(other != first for other in others)


def test_a_run_reads_the_trials_requests_from_a_file(tmp_path: Path) -> None:
    """In the order in which parties take them, numbered anew."""
    fake = Fake()
    trial = Trial("a", ROUNDS, ("requests.skip=[1]",))
    run_one(make_runner(tmp_path / 'a "folder" ü', fake), 0, trial)
    (config,) = fake.configs
    assert config.requests.skip == ()
    assert read_requests(Path(config.requests.source)) == list(trial.requests)
    assert config.parties.sizes_of(1) == (1, 2)


def test_a_trials_settings_stand_over_the_users_and_those_over_the_scenarios(
    tmp_path: Path,
) -> None:
    """Or the trial would not be what it is called."""
    fake = Fake()
    runner = make_runner(
        tmp_path, fake, "prior.memory-weight=0.5", "prior.weight=7", "parties.count=9"
    )
    run_one(runner, 0, Trial("a", ROUNDS, settings=("prior.memory-weight=2",)))
    (config,) = fake.configs
    assert (config.prior.memory_weight, config.prior.weight) == (2, 7)
    assert config.parties.count == 2


def study_world(world: Path, output: Path, *overrides: str) -> Mapping[str, object]:
    """Run the forgetting study on the tiny world, and read its record."""
    settings = (
        f"model.path={world}",
        "model.dtype=float64",
        f"requests.source={world / 'requests.json'}",
        "parties.requests-per-round=1",
        "run.rounds=2",
        "editing.schedule=frozen-uniform",
        *overrides,
    )
    folder = run_study(STUDY, Order(None, settings), output, execute)
    record: Mapping[str, object] = json.loads((folder / "study.json").read_text())
    return record


def test_a_study_runs_on_any_model_and_pool(world: Path, tmp_path: Path) -> None:
    """Each trial leaves a whole run, and the page is next to them."""
    record = study_world(world, tmp_path / "out")
    trials = record["trials"]
    assert isinstance(trials, list)
    assert [trial["name"] for trial in trials] == [
        "other_gamma_0",
        "other_gamma_1",
        "other_gamma_lambda",
    ]
    for trial in trials:
        assert (tmp_path / "out" / trial["folder"] / "delta.safetensors").is_file()
    rows = record["rows"]
    assert isinstance(rows, list)
    assert len(rows) == (3 + 1) * 2
    assert "2 later requests about other subjects" in str(record["finding"])
    assert (tmp_path / "out" / "report.html").is_file()


def test_nothing_is_run_where_something_is_wrong(world: Path, tmp_path: Path) -> None:
    """And nothing is left."""
    with pytest.raises(InputError, match="Name a larger pool"):
        study_world(world, tmp_path / "out", "run.rounds=40")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="never overwritten"):
        study_world(world, tmp_path / "out")
