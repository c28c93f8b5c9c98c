"""A resumed study must be the one that was begun."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from sims.studies.running.folder import write_record
from sims.studies.running.record import (
    FINISHED,
    NAMED_DIFFERENCES,
    RECORD,
    UNFINISHED,
    StudyRecord,
    find_differences,
    find_unfinished_study,
    read_record,
    refuse_differences,
    refuse_other_study,
)

BEGUN = StudyRecord(
    study="overlap",
    seeds=(0, 1),
    engine="in-process",
    options=("--skip-known", "0.2"),
    settings={"prior": {"memory_weight": 1.0}, "run": {"rounds": 2}},
    trials={"seed 0, a": "1", "seed 0, b": "2"},
    seconds=5.0,
)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeds": (0, 2)}, ["`--seeds` 0,1 (now 0,2)"]),
        ({"options": ()}, ["options --skip-known 0.2 (now none)"]),
        (
            {"settings": {"prior": {"memory_weight": 2.0}, "run": {"rounds": 2}}},
            ["`prior.memory-weight` 1.0 (now 2.0)"],
        ),
        (
            {"trials": {"seed 0, a": "1", "seed 0, b": "3"}},
            ["the requests of the trial seed 0, b"],
        ),
        ({"engine": "flower", "seconds": 7.0}, []),
    ],
)
def test_differences_are_named(changes: dict[str, object], named: list[str]) -> None:
    """An engine makes none, for the results are the same on each."""
    now = BEGUN.model_copy(update=changes)
    assert list(find_differences(BEGUN, now)) == named


def test_trials_are_named_only_if_nothing_else_differs() -> None:
    """Other settings make other trials."""
    now = BEGUN.model_copy(update={"seeds": (0,), "trials": {}})
    assert len(list(find_differences(BEGUN, now))) == 1


def test_a_message_names_some_differences_and_counts_the_others() -> None:
    """A pool that has changed may change every trial."""
    trials = {f"seed {number}, a": "x" for number in range(20)}
    now = BEGUN.model_copy(update={"trials": trials})
    with pytest.raises(InputError) as refused:
        refuse_differences(Path("out"), BEGUN, now)
    listed = str(refused.value).count("the requests of the trial")
    assert listed == NAMED_DIFFERENCES
    assert f"and {21 - NAMED_DIFFERENCES} more" in str(refused.value)
    refuse_differences(Path("out"), BEGUN, BEGUN)


def test_another_study_is_refused_by_its_name() -> None:
    """It would find none of its trials."""
    refuse_other_study(Path("out"), BEGUN, "overlap")
    with pytest.raises(InputError, match="study overlap"):
        refuse_other_study(Path("out"), BEGUN, "conflict")


def test_a_stopped_study_is_found_by_either_name(tmp_path: Path) -> None:
    """And a finished one is said to be finished."""
    draft = tmp_path / f"out{UNFINISHED}"
    with pytest.raises(InputError, match="no unfinished study"):
        find_unfinished_study(tmp_path / "out")
    draft.mkdir()
    write_record(draft, BEGUN)
    assert find_unfinished_study(tmp_path / "out") == draft
    assert find_unfinished_study(draft) == draft
    assert read_record(draft) == BEGUN
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / FINISHED).write_text("{}")
    with pytest.raises(InputError, match="is finished"):
        find_unfinished_study(tmp_path / "done")


def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """By its name."""
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(InputError, match=RECORD):
        read_record(tmp_path)
