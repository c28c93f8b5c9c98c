"""What a server keeps of the parties' statistics is what its update was solved from."""

import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import server.app
from editing.algebra.deltas import load_delta
from editing.algebra.solving import solve_delta
from editing.algebra.statistics import LayerStatistics, Sums, pool
from editing.base.errors import InputError
from server.config import read_run_config
from server.kept_statistics import KeptStatistics, read_rounds
from server.preparation import prepare
from strategies.scenario import FlatValue
from strategies.wire.messages import Phase
from tests.laws import assert_same, draw_statistics
from tests.server.runs import Runs, fail_with
from tests.tiny import LAYERS

WIDTHS = dict.fromkeys(LAYERS, (16, 24))
KEPT: dict[str, FlatValue] = {"statistics": True}


@pytest.mark.parametrize("encoding", ["factors", "dense"])
@pytest.mark.parametrize("merge", ["collabedit", "simple-average"])
def test_the_update_can_be_solved_from_what_is_kept(
    runs: Runs, encoding: str, merge: str
) -> None:
    """Every party's statistics of every layer, whether or not the merge adds them."""
    runs.run(output=KEPT, run={"encoding": encoding}, merge={"name": merge})
    (only,) = read_rounds(runs.output / "statistics", WIDTHS)
    assert only.parties == {0, 1, 2}
    assert only.remembered == {}
    prepared = prepare(read_run_config(runs.flat()))
    delta = load_delta(runs.output / "delta.safetensors")[0]
    for layer, edited in prepared.layers(1.0).items():
        parts = list(only.solved[layer].values())
        assert [part.count for part in parts] == [2, 2, 2]
        prior = edited.memory.prior()
        if merge == "collabedit":
            wanted = solve_delta(pool(parts), prior)
        else:
            wanted = torch.stack([solve_delta(each, prior) for each in parts]).mean(0)
        assert_same(delta[edited.weight].double(), wanted, 1e-6)


def test_what_is_kept_is_for_the_owner_alone(runs: Runs) -> None:
    """Statistics tell whether a guessed subject was edited; by default none stay."""
    runs.run(output=KEPT)
    kept = runs.output / "statistics"
    for path in (kept, *kept.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert len(list(kept.rglob("*.safetensors"))) == 3 * len(LAYERS)
    plain = runs.output.with_name("plain")
    runs.run(output={"directory": str(plain)})
    assert not list(plain.rglob("*statistics*"))


def test_keys_that_are_read_again_are_kept_too(runs: Runs) -> None:
    """They are what later rounds remember."""
    runs.run(output=KEPT, run={"rounds": 2}, prior={"memory_keys": "edited"})
    first, second = read_rounds(runs.output / "statistics", WIDTHS)
    assert first.remembered.keys() == set(LAYERS)
    assert second.remembered == {}
    for layer in LAYERS:
        assert first.remembered[layer].keys() == {0, 1, 2}


def test_a_resumed_run_keeps_every_round_once(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before it was stopped are next to its checkpoint."""
    output: dict[str, FlatValue] = {**KEPT, "checkpoint": str(tmp_path / "kept")}
    with monkeypatch.context() as patch:
        patch.setattr(server.app, "write_report", fail_with(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            runs.run(output=output, run={"rounds": 2})
    assert not runs.output.exists()
    runs.run(output=output, run={"rounds": 2})
    assert len(read_rounds(runs.output / "statistics", WIDTHS)) == 2
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_round_that_starts_again_keeps_nothing_of_its_first_attempt(
    tmp_path: Path,
) -> None:
    """A party that was lost meanwhile is in no layer."""
    kept = KeptStatistics.of(tmp_path, "a/merge")
    part = draw_statistics(2)
    for parties in ((0, 1), (0,)):
        kept.begin(1)
        for party in parties:
            kept.keep(Phase.STATISTICS, 3, party, part)
    kept.end(1)
    (found,) = read_rounds(tmp_path / "a.merge", {3: (3, 5)})
    assert found.parties == {0}
    assert torch.equal(found.solved[3][0].keys, part.keys)


def test_rows_and_sums_come_back_bit_for_bit(tmp_path: Path) -> None:
    """Of one party, or of several that were added up."""
    rows = draw_statistics(3)
    both = LayerStatistics(rows.keys, rows.residuals, 7, _sums())
    kept = KeptStatistics(tmp_path)
    kept.begin(1)
    kept.keep(Phase.STATISTICS, 0, 4, both)
    kept.end(1)
    found = read_rounds(tmp_path, {0: (3, 5)})[0].solved[0][4]
    assert found.count == 7
    assert torch.equal(found.gram, both.gram)
    assert torch.equal(found.cross, both.cross)


def _sums() -> Sums | None:
    gram = draw_statistics(9, seed=1)
    return LayerStatistics.of_sums(gram.gram, gram.cross, 9).sums


def test_files_that_are_no_statistics_are_refused_by_name(tmp_path: Path) -> None:
    """Damaged, of another model, of another layer, or with a round missing."""
    kept = KeptStatistics(tmp_path)
    for number in (1, 2):
        kept.begin(number)
        kept.keep(Phase.STATISTICS, 0, 4, draw_statistics(2))
        kept.end(number)
    with pytest.raises(InputError, match="3 × 6 were wanted"):
        read_rounds(tmp_path, {0: (3, 6)})
    with pytest.raises(InputError, match="does not edit layer 0"):
        read_rounds(tmp_path, {1: (3, 5)})
    file = tmp_path / "round_002" / "solved.layer_0.party_4.safetensors"
    for broken in (b"", b"x" * 100):
        file.write_bytes(broken)
        with pytest.raises(InputError, match="holds no statistics"):
            read_rounds(tmp_path, {0: (3, 5)})
    save_file({"keys": torch.ones(1)}, file)
    with pytest.raises(InputError, match="holds no statistics"):
        read_rounds(tmp_path, {0: (3, 5)})
    (tmp_path / "round_001").rename(tmp_path / "round_003")
    with pytest.raises(InputError, match=r"found those of \[2, 3\]"):
        read_rounds(tmp_path, {0: (3, 5)})
    with pytest.raises(InputError, match="found those of none"):
        read_rounds(tmp_path / "elsewhere", {0: (3, 5)})
