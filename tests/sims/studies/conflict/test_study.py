"""The study as a whole: every part once, and what it does not let a scenario set."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from editing.base.errors import InputError
from sims.cli import study as commands
from sims.studies.conflict.detection import KINDS
from sims.studies.conflict.study import READERS, Conflict
from sims.studies.study import Study, Trial, TrialResult
from tests.sims.studies.contests import made_up_result
from tests.sims.studies.made_up import configure, make_pool

SMALL = ("parties.requests-per-round=4",)
MEANS = {
    "score": 50.0,
    "rewrite_success": 60.0,
    "rewrite_acc": 40.0,
    "paraphrase_success": 50.0,
    "neighborhood_success": 90.0,
}


def make_trials() -> list[Trial]:
    """Give the trials of a small study."""
    study = Conflict()
    return study.trials(make_pool(40), configure(study, *SMALL), 0)


def make_result(trial: Trial, folder: Path) -> TrialResult:
    """Make a run up, of which every request was edited."""
    return made_up_result(trial, dict.fromkeys(trial.evaluated, MEANS), folder)


def test_trials_have_names_and_parts_of_their_own() -> None:
    """A part that no reader knows would be lost."""
    trials = make_trials()
    names = {trial.name for trial in trials}
    assert len(names) == len(trials)
    assert {trial.labels["part"] for trial in trials} == set(READERS)


def test_every_part_is_tabulated_drawn_and_stated(tmp_path: Path) -> None:
    """A figure each, with numbers of the part alone."""
    study = Conflict()
    frame = study.tabulate([make_result(trial, tmp_path) for trial in make_trials()])
    sizes = frame["part"].value_counts().to_dict()
    assert sizes == {"types": 10, "policies": 12, "detection": 3 * len(KINDS)}
    figures = study.draw(frame)
    assert [len(figure.numbers) for figure in figures] == [sizes[p] for p in READERS]
    said = study.state(frame)
    assert "40.0 (60.0) for A alone" in said
    assert "40.0 A's object (`first`)" in said
    assert "Recall and precision for conflicts are 0.0 and – (all)" in said


def test_pairs_of_a_file_are_what_is_edited(tmp_path: Path) -> None:
    """In the place of the pool's."""
    file = tmp_path / "pairs.json"
    record = (
        '{"edit": {"relation": {"prompt": "{} works for"}, "subject": "Writer %d", '
        '"new_object": "Works", "object": "Inc", "conflict_object": "Group"}}'
    )
    file.write_text(f"[{', '.join(record % number for number in range(9))}]")
    study = Conflict(file)
    first, *_ = study.trials(make_pool(40), configure(study, *SMALL), 0)
    assert {request.target_new for request in first.requests} == {"Works"}


def test_the_file_of_pairs_is_named_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it the pairs are drawn from the pool."""
    given: list[Study] = []

    def keep(study: Study, *_: object) -> Path:
        given.append(study)
        return tmp_path

    monkeypatch.setattr("sims.studies.running.runner.run_study", keep)
    broken = tmp_path / "broken.json"
    broken.write_text("[", encoding="utf-8")
    for words in ([], ["--pairs", str(broken)]):
        assert CliRunner().invoke(commands.app, ["conflict", *words]).exit_code == 0
    drawn, read = given
    config = configure(drawn, *SMALL)
    assert drawn.trials(make_pool(40), config, 0)
    with pytest.raises(InputError, match=r"broken\.json"):
        read.trials(make_pool(40), config, 0)


@pytest.mark.parametrize(
    "setting",
    [
        "parties.conflicts=first",
        "parties.deduplicate=true",
        "parties.skip-known=0.1",
    ],
)
def test_a_scenario_that_sets_what_the_study_varies_is_refused(setting: str) -> None:
    """By name."""
    study = Conflict()
    config = configure(study, *SMALL, setting)
    with pytest.raises(InputError, match="leave them out of the scenario"):
        study.trials(make_pool(40), config, 0)
