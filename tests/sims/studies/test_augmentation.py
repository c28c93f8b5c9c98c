"""Reading whether further phrasings beat a conflicting edit, and at what price."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest, to_counterfact
from server.report.data import RoundMetrics
from sims.cli import study as commands
from sims.runs.jobs import execute
from sims.studies.augmentation import AROUND, BEFORE, CONTEST, ONE, ZERO, Augmentation
from sims.studies.running import runner
from sims.studies.running.order import Order
from sims.studies.running.runner import run_study
from sims.studies.study import Study, Trial, TrialResult
from tests.sims.studies.made_up import configure, make_pool, result_of

STUDY = Augmentation({"*": ("{} a", "{} b", "{} c", "{} d", "{} e")})
SMALL = ("parties.count=3", "parties.requests-per-round=2")
OBJECTS = ("Lima Works", "Acme Group", "North Inc", "Works Group Inc")
WORDINGS = ("{} works for", "the employer of {} is", "every day {} works for")


def make_trials(study: Augmentation = STUDY) -> list[Trial]:
    """Give the trials of a small study."""
    return study.trials(make_pool(40), configure(STUDY, *SMALL), 0)


def make_result(trial: Trial, gain: float, seed: int = 0) -> TrialResult:
    """Make a run up: conflicts reign before, and each phrasing adds so many points."""
    before = trial.labels["line"] == BEFORE
    score = -90.0 if before else 10 + gain * float(trial.labels["phrasings"])
    evaluated: Mapping[str, Mapping[str, float]] = {
        CONTEST: {
            "rewrite_diff": score / 100,
            "rewrite_success": 50 + score / 2,
            "rewrite_acc": 7.0,
            "paraphrase_diff": -score / 100,
            "paraphrase_success": 50 - score / 2,
            "paraphrase_acc": 3.0,
        },
        AROUND: {
            "neighborhood_success": 80 - float(trial.labels["phrasings"]),
            "neighborhood_acc": 60.0 - seed,
        },
    }
    result = result_of(trial, [RoundMetrics()], Path("nowhere"), seed)
    return dataclasses.replace(result, evaluated=evaluated)


def make_frame(gain: float = 5.0, seeds: Sequence[int] = (0, 1)) -> pd.DataFrame:
    """Tabulate made-up runs of all trials."""
    results = [make_result(trial, gain, s) for s in seeds for trial in make_trials()]
    return STUDY.tabulate(results)


def test_all_parties_ask_for_what_conflicts_and_one_each_for_what_is_right() -> None:
    """The same facts; what conflicts has no paraphrase that could be edited."""
    before, *after = make_trials()
    assert len(before.rounds) == 1
    for trial in after:
        first, second = trial.rounds
        assert (first,) == before.rounds
        assert len(first) == len(second) == 3
        assert first[0] == first[1] == first[2]
        assert [len(own) for own in second] == [2, 2, 2]
        winners = [request for own in second for request in own]
        for loser, winner in zip(first[0], winners, strict=True):
            assert loser.rewrite_prompt == winner.rewrite_prompt
            assert loser.target_new != winner.target_new
            assert loser.paraphrase_prompts == ()
            assert len(winner.paraphrase_prompts) == 5


def test_each_number_of_phrasings_is_run_and_the_ends_without_memory() -> None:
    """Up to four of them, or as many as every fact has."""
    found = [(t.labels["line"], t.labels["phrasings"]) for t in make_trials()]
    after = [(ONE, count) for count in range(5)]
    assert found == [(BEFORE, 0), *after, (ZERO, 0), (ZERO, 4)]
    for trial in make_trials()[1:]:
        weight = 1.0 if trial.labels["line"] == ONE else 0.0
        count = trial.labels["phrasings"]
        assert f"prior.memory-weight={weight}" in trial.settings
        assert f"requests.phrasings={count}" in trial.settings
    fewer = make_trials(Augmentation({"*": ("{} a", "{} b")}))
    assert max(trial.labels["phrasings"] for trial in fewer) == 2


def test_all_models_are_evaluated_by_the_same_requests() -> None:
    """Before the winner's round as after it."""
    first, *others = make_trials()
    assert len(first.evaluated[CONTEST]) == len(first.evaluated[AROUND]) == 6
    assert all(trial.evaluated == first.evaluated for trial in others)


@pytest.mark.parametrize(
    "override", ["requests.phrasings=1", "requests.templates=some.json"]
)
def test_a_scenario_that_phrases_the_conflicting_requests_too_is_refused(
    override: str,
) -> None:
    """With the option that does what was meant."""
    config = configure(STUDY, *SMALL, override)
    with pytest.raises(InputError, match=r"requests\.phrasings.*--templates"):
        STUDY.trials(make_pool(40), config, 0)


def test_the_model_before_is_repeated_for_each_number_of_phrasings() -> None:
    """For each seed; every other model once, with its scores in per cent."""
    frame = make_frame(gain=5)
    before = frame[frame["line"] == BEFORE]
    for seed in (0, 1):
        own = before[before["seed"] == seed]
        assert list(own["phrasings"]) == [0, 1, 2, 3, 4]
        assert set(own["prompt_gap"]) == {-90.0}
    after = frame[(frame["line"] == ONE) & (frame["seed"] == 1)]
    assert list(after["prompt_gap"]) == pytest.approx([10, 15, 20, 25, 30])
    assert list(after["held_out_gap"]) == pytest.approx([-10, -15, -20, -25, -30])
    assert list(after["prompt_higher"]) == pytest.approx([55, 57.5, 60, 62.5, 65])
    assert list(after["held_out_higher"]) == pytest.approx([45, 42.5, 40, 37.5, 35])
    assert set(after["prompt_acc"]) == {7.0}
    assert set(after["held_out_acc"]) == {3.0}
    assert list(after["neighborhood_success"]) == [80, 79, 78, 77, 76]
    assert set(after["neighborhood_acc"]) == {59.0}
    assert len(frame) == 2 * (5 + 5 + 2)


def test_the_finding_states_the_numbers_of_the_run() -> None:
    """What was there before, what the round alone did, and what phrasings added."""
    stated = STUDY.state(make_frame(gain=5))
    assert "6 facts are contested, and each of 3 parties makes" in stated
    assert "is -90.0 (5.0) on the edited prompt and +90.0 (95.0) on the" in stated
    assert "brings it to +10.0 (55.0) on the edited prompt" in stated
    assert (
        "γ = 1, phrasing further, 4 times against none, changes the edited prompt"
        in stated
    )
    assert (
        "prompt by +20.0 (+20.0, +20.0 for seeds 0, 1) in the score and +10.0" in stated
    )
    assert (
        "the neighbourhood's success (NS) by -4.0 (-4.0, -4.0 for seeds 0, 1)" in stated
    )
    assert "were left out" not in stated


def test_an_expected_gain_is_stated_where_it_is_and_where_it_is_not() -> None:
    """The made-up held-out wording goes the other way."""
    gained = STUDY.state(make_frame(gain=5))
    assert (
        "this held for the edited prompt (score) and the edited prompt (how often) and "
        "did not hold for the held-out wording (score) and the held-out wording"
    ) in gained
    none = STUDY.state(make_frame(gain=0.01))
    assert "this did not hold for the edited prompt (score), " in none
    assert "every time already" not in none
    frame = make_frame(gain=0)
    frame.loc[frame["line"] == ONE, "prompt_higher"] = 100.0
    assert STUDY.state(frame).endswith("every time already on the edited prompt.")


def test_pairs_that_agree_are_stated() -> None:
    """With the number of all pairs."""
    stated = STUDY.state(make_frame().assign(agreeing=7, pairs=100))
    assert "; 7 of the pool's 100 pairs ask for one and the same object" in stated


def test_a_pool_without_neighbourhood_or_held_out_wording_is_stated_and_drawn() -> None:
    """By what there is."""
    frame = make_frame()
    names = map(str, frame)
    absent = [name for name in names if name.startswith(("neigh", "held"))]
    frame[absent] = None
    stated = STUDY.state(frame)
    assert "the pool has no neighbourhood prompts to tell the price by" in stated
    assert "held-out" not in stated
    assert "nan" not in stated
    first, second = STUDY.draw(frame)
    assert list(first.numbers) == [
        "seed",
        "line",
        "phrasings",
        "prompt_gap",
        "prompt_higher",
    ]
    assert list(second.numbers)[3:] == ["prompt_acc"]


def test_figures_show_the_model_before_once_in_their_tables() -> None:
    """And all that was drawn in their numbers."""
    frame = make_frame(gain=5)
    for figure in STUDY.draw(frame):
        assert figure.picture.startswith("data:image/")
        assert len(figure.numbers) == len(frame)
        lines = [line for line, _ in figure.table.index]
        assert lines.count(BEFORE) == 1
        assert (lines.count(ONE), lines.count(ZERO)) == (5, 2)


def test_templates_of_the_command_line_are_what_the_winner_is_phrased_by(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And without any, it is the pool's own wordings."""
    given: list[Study] = []
    monkeypatch.setattr(runner, "run_study", lambda study, *_: given.append(study))
    file = tmp_path / "templates.json"
    file.write_text('{"*": ["{} a", "{} b"]}')
    for words in (["--templates", str(file)], []):
        found = CliRunner().invoke(commands.app, ["augmentation", *words])
        assert found.exit_code == 0
    for study, wordings in zip(given, ({"a", "b"}, {"has"}), strict=True):
        config = configure(STUDY, *SMALL)
        winners = study.trials(make_pool(40), config, 0)[-1].rounds[1]
        texts = {t for own in winners for r in own for t in r.paraphrase_prompts}
        words_used = {text.split()[2] for text in texts}
        assert words_used >= wordings
        assert ("a" in words_used) == (wordings == {"a", "b"})


def make_source(folder: Path) -> Path:
    """Write a pool that the tiny model can read."""
    people = [f"{first} Lovelace" for first in ("Ada", "Ben", "Cleo", "Dora", "Eli")]
    pool = [
        EditRequest(
            case_id=number,
            prompt=WORDINGS[0],
            subject=person,
            relation_id="employer",
            target_new=OBJECTS[1 + number % 3],
            target_true=OBJECTS[0],
            paraphrase_prompts=tuple(w.replace("{}", person) for w in WORDINGS[1:]),
            neighborhood_prompts=("Hal lives in",),
        )
        for number, person in enumerate(people)
    ]
    path = folder / "pool.json"
    path.write_text(json.dumps([to_counterfact(request) for request in pool]))
    return path


def test_trials_share_their_first_round_and_phrasings_change_the_second(
    world: Path, tmp_path: Path
) -> None:
    """So that before and after describe one model."""
    settings = (
        f"model.path={world}",
        "model.dtype=float64",
        f"requests.source={make_source(tmp_path)}",
        "parties.count=2",
        "parties.requests-per-round=1",
        "editing.schedule=frozen-uniform",
    )
    folder = run_study(
        Augmentation(), Order(None, settings), tmp_path / "study", execute
    )
    record = json.loads((folder / "study.json").read_text())
    first = {
        (metrics["rewrite_diff"], metrics["residual_norm"])
        for trial in record["trials"]
        for metrics in json.loads(
            (folder / trial["folder"] / "report.json").read_text()
        )["runs"][0]["metrics"][:1]
    }
    assert len(first) == 1
    rows = pd.DataFrame(record["rows"])
    gaps = rows[rows["line"] == ONE].set_index("phrasings")["held_out_gap"]
    assert list(gaps.index) == [0, 1]
    assert gaps[0] != gaps[1]
    before = rows.loc[rows["line"] == BEFORE, "prompt_gap"].iloc[0]
    assert rows.loc[rows["line"] == ZERO, "prompt_gap"].min() > before
