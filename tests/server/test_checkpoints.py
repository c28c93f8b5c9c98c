"""What is kept of a round is found again whole, and by its own run alone."""

import os
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editing.base.errors import InputError
from server.checkpoints import (
    Checkpoints,
    Measured,
    MergeProgress,
    differences,
    read_file,
)
from server.report.data import LeftOutParty, RoundMetrics
from strategies.conflicts.policies import Entry
from strategies.rounds.state import RoundState

SETTINGS: dict[str, object] = {
    "run": {"rounds": 3, "seed": 0},
    "model": {"path": "m"},
    "layers": (1, 2),
}


def progress(number: int = 2) -> MergeProgress:
    """Make two rounds' worth of everything."""
    generator = torch.Generator().manual_seed(number)
    delta = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    key = torch.randn(1, 5, generator=generator, dtype=torch.float64)
    gram = key.mT @ key
    first = RoundMetrics(score=1 / 3, groups={"a.b": 0.1}, requests=6)
    second = RoundMetrics(
        score=2 / 3,
        retained=first,
        by_round=(first, RoundMetrics()),
        refusals=(LeftOutParty(node=7, reason="it is late"),),
        residual_norm=0.7,
    )
    history = (Entry(1, 0, 3, "f", "t"), Entry(2, 1, 0, "g", "u"))
    state = RoundState(
        number,
        {"h.w": delta.mT},
        {1: gram, 12: 2 * gram},
        history,
        kept={12: {"basis": delta.mT, "queue": delta[0, :1]}},
    )
    before = RoundMetrics(held_out_acc=99.5)
    return MergeProgress(
        state,
        Measured(
            rounds=(first, second), before=before, seconds=1.25, sent={0: 10, 3: 11}
        ),
    )


def assert_same_progress(ours: MergeProgress, theirs: MergeProgress) -> None:
    """Hold two to each other in every field, tensors to the last bit."""
    assert ours.measured == theirs.measured
    mine, other = ours.state, theirs.state
    assert (mine.number, mine.history) == (other.number, other.history)
    assert [astuple(each) for each in mine.history]
    (layer,), (same,) = mine.kept, other.kept
    assert layer == same
    for kept, given in (
        (mine.delta, other.delta),
        (mine.grams, other.grams),
        (mine.kept[layer], other.kept[same]),
    ):
        assert kept.keys() == given.keys()
        for name in kept:
            assert kept[name].dtype == torch.float64  # type: ignore[index]
            assert torch.equal(kept[name], given[name])  # type: ignore[index]


def test_what_is_kept_is_found_whole(tmp_path: Path) -> None:
    """Every field, and the last round alone."""
    kept = Checkpoints(tmp_path / "new", SETTINGS)
    kept.keep("ties", progress(1))
    kept.keep("ties", progress(2))
    assert_same_progress(kept.find("ties"), progress(2))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ties.safetensors"]


def test_a_merge_that_has_not_begun_begins_before_the_first_round(
    tmp_path: Path,
) -> None:
    """Merges do not see each other's rounds; without a folder nothing is kept."""
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.keep("ties", progress())
    for found in (kept.find("global"), Checkpoints(None, SETTINGS).find("ties")):
        assert found == MergeProgress()
        assert found.state.number == 0
    nowhere = Checkpoints(None, SETTINGS)
    nowhere.keep("ties", progress())


def test_an_external_merge_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Its import path is no file name everywhere."""
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.keep("../mine/merges:Mine", progress())
    assert_same_progress(kept.find("../mine/merges:Mine"), progress())
    assert [path.parent for path in tmp_path.rglob("*.safetensors")] == [tmp_path]


def test_the_checkpoint_of_another_run_is_refused_by_what_differs(
    tmp_path: Path,
) -> None:
    """Going on with it would be neither run."""
    Checkpoints(tmp_path, SETTINGS).keep("ties", progress())
    other = {**SETTINGS, "run": {"rounds": 3, "seed": 1}, "layers": (1,)}
    with pytest.raises(InputError, match=r"another layers, run\.seed"):
        Checkpoints(tmp_path, other).find("ties")


def test_a_round_that_was_stopped_may_be_repeated_otherwise(tmp_path: Path) -> None:
    """With another gate, and without some of the parties; with nothing else."""
    parties = {"count": 3, "without": []}
    stopped = {**SETTINGS, "parties": parties, "gate": {"requests": 9}}
    Checkpoints(tmp_path, stopped).keep("ties", progress())
    again = {**stopped, "parties": {**parties, "without": [1]}, "gate": {"requests": 0}}
    assert_same_progress(Checkpoints(tmp_path, again).find("ties"), progress())
    fewer = {**again, "parties": {"count": 2, "without": [1]}}
    with pytest.raises(InputError, match=r"another parties\.count;"):
        Checkpoints(tmp_path, fewer).find("ties")


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    """With what to do."""
    file = tmp_path / "ties.safetensors"
    kept = Checkpoints(tmp_path, SETTINGS)
    file.write_bytes(b"half")
    with pytest.raises(InputError, match=r"ties\.safetensors: is no checkpoint"):
        kept.find("ties")
    save_file({"x": torch.zeros(1)}, file, {"record": "{}"})
    with pytest.raises(InputError, match="remove it"):
        kept.find("ties")
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="remove it"):
        kept.find("ties")


def test_half_of_a_gram_is_kept(tmp_path: Path) -> None:
    """It is symmetric; a file with other numbers in its place is no checkpoint."""
    kept, file = Checkpoints(tmp_path, SETTINGS), tmp_path / "ties.safetensors"
    kept.keep("ties", progress())
    record, tensors = read_file(file)
    assert tensors["gram.1"].shape == (5 * 6 // 2,)
    tensors["gram.1"] = torch.zeros(5, 5)
    save_file(tensors, file, {"record": record.model_dump_json()})
    with pytest.raises(InputError, match=r"ties\.safetensors: is no checkpoint"):
        kept.find("ties")


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves the last completed round, or the one before it."""
    done: list[tuple[str, int]] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: done.append(("flush", os.fstat(handle).st_ino))
    )
    honest = Path.replace

    def note(draft: Path, file: Path) -> Path:
        done.append(("rename", draft.stat().st_ino))
        return honest(draft, file)

    monkeypatch.setattr(Path, "replace", note)
    Checkpoints(tmp_path, SETTINGS).keep("ties", progress())
    file = (tmp_path / "ties.safetensors").stat().st_ino
    expected = [("flush", file), ("rename", file), ("flush", tmp_path.stat().st_ino)]
    assert done == expected


def test_writers_of_one_checkpoint_have_drafts_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system has no locks, the last whole one stays."""
    kept, honest = Checkpoints(tmp_path, SETTINGS), Path.replace
    drafts: list[str] = []

    def meet(draft: Path, file: Path) -> Path:
        drafts.append(draft.name)
        if len(drafts) == 1:
            kept.keep("ties", progress(1))
        return honest(draft, file)

    monkeypatch.setattr(Path, "replace", meet)
    kept.keep("ties", progress(2))
    assert len(set(drafts)) == 2
    assert_same_progress(kept.find("ties"), progress(2))


def test_a_draft_that_a_kill_left_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    """And no draft of another merge, nor what is kept."""
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.keep("ties", progress())
    left = tmp_path / ".ties.safetensors.0123abcd.partial"
    other = tmp_path / ".global.safetensors.0123abcd.partial"
    for draft in (left, other):
        draft.write_bytes(b"half")
    assert_same_progress(kept.find("ties"), progress())
    assert not left.exists()
    assert other.exists()


def test_what_is_not_needed_any_more_is_removed_and_nothing_else_is(
    tmp_path: Path,
) -> None:
    """A folder may be named by mistake."""
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.keep("ties", progress())
    kept.keep("global", progress())
    (tmp_path / "mine.safetensors").write_text("mine")
    kept.remove(["ties", "never kept"])
    assert kept.find("ties") == MergeProgress()
    assert_same_progress(kept.find("global"), progress())
    assert (tmp_path / "mine.safetensors").read_text() == "mine"
    Checkpoints(None, SETTINGS).remove(["ties"])


def test_differences_are_named_by_their_keys_on_both_sides() -> None:
    """Missing keys too; lists and tuples are alike."""
    ours = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": 0}
    theirs = {"a": {"b": 2, "c": (1, 2)}, "e": 0, "f": 1}
    assert differences(ours, theirs) == ["a.b", "f"]
