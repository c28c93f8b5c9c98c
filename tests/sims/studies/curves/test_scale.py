"""Ever larger parts of the same requests."""

from pathlib import Path

from server.report.data import RoundMetrics
from sims.studies.curves.scale import Scale, take
from tests.sims.studies.made_up import configure, make_pool, result_of

STUDY = Scale()


def test_a_step_takes_twice_what_the_one_before_took() -> None:
    """At least one request, and in the end all."""
    assert [take(16, step) for step in (1, 2, 3, 4, 5)] == [1, 2, 4, 8, 16]
    assert [take(5, step) for step in (1, 2, 3, 4, 5)] == [1, 1, 1, 2, 5]
    assert [take(0, step) for step in (1, 5)] == [0, 0]


def test_smaller_trials_are_parts_of_larger_ones() -> None:
    """Each merge has the same trials, `global` too, and none twice."""
    config = configure(STUDY, "parties.count=2", "parties.requests-per-round=4")
    trials = STUDY.trials(make_pool(8), config, 0)
    by_merge: dict[object, list[tuple[int, ...]]] = {}
    for trial in trials:
        (sizes,) = trial.sizes
        by_merge.setdefault(trial.labels["merge"], []).append(tuple(sizes))
    assert len({trial.name for trial in trials}) == len(trials)
    assert "global" in by_merge
    assert all(sizes == [(1, 1), (2, 2), (4, 4)] for sizes in by_merge.values())
    smaller, _, larger = (trials[place].rounds[0] for place in range(3))
    assert all(mine == all_[:1] for mine, all_ in zip(smaller, larger, strict=True))


def test_the_finding_names_the_scores_at_both_ends(tmp_path: Path) -> None:
    """By merge, the mean over seeds."""
    config = configure(STUDY, "parties.count=2", "parties.requests-per-round=4")
    results = [
        result_of(trial, [RoundMetrics(score=100.0 - edits - seed)], tmp_path, seed)
        for seed in (0, 1)
        for trial in STUDY.trials(make_pool(8), config, seed)
        if isinstance(edits := trial.labels["edits"], int)
    ]
    frame = STUDY.tabulate(results)
    said = STUDY.state(frame)
    assert said.startswith("With 2 edits and with 8 the scores are, by merge: ")
    assert "collabedit 97.5 and 91.5" in said
    (figure,) = STUDY.draw(frame)
    assert list(figure.table.loc["collabedit"]) == [97.5, 95.5, 91.5]
