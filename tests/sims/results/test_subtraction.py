"""A party takes back from secure sums what it added, and nobody else's edits change."""

import json
import shutil
import stat
from pathlib import Path

import pytest
import torch

from editing.algebra.deltas import load_delta
from editing.algebra.statistics import LayerStatistics, pool
from editing.algebra.statistics_files import (
    LAYER,
    load_statistics,
    read_labels,
    save_statistics,
)
from editing.base.errors import InputError
from server.config import read_run_config
from server.kept_statistics import read_rounds
from server.preparation import Preparation, prepare
from sims.results.removal import OWN_WORD, remove_party
from sims.results.replay import Replay, replay
from sims.results.subtraction import OwnFiles, subtract, take_back
from strategies.methods import read_method
from strategies.scenario import FlatValue
from tests.federation import AT_ONCE
from tests.laws import assert_same, draw_statistics
from tests.server.runs import Runs
from tests.sims.cli.test_main import exit_code
from tests.tiny import LAYERS

EXACT, FLOAT32_FILE = 1e-10, 1e-6
KEPT: dict[str, FlatValue] = {"statistics": True}
SECURE: dict[str, FlatValue] = {"secure_sum": True}
SCHEDULES: dict[str, dict[str, dict[str, FlatValue]]] = {
    "layerwise": {"editing": {"schedule": "layerwise"}, "run": {"rounds": 2}},
    "at once": {"editing": {**AT_ONCE}, "run": {"rounds": 2, "encoding": "dense"}},
}


def secure(runs: Runs, **tables: dict[str, FlatValue]) -> Preparation:
    """Run under masks, and prepare again what the server had."""
    runs.run(output=KEPT, privacy=SECURE, **tables)
    return prepare(read_run_config(runs.flat(privacy=SECURE, **tables)))


def own_of(runs: Runs, party: int) -> dict[int, dict[int, LayerStatistics]]:
    """Read what a party kept, by round and layer."""
    found: dict[int, dict[int, LayerStatistics]] = {}
    for path in runs.private.rglob(f"statistics/*/round_*/*.party_{party}.safetensors"):
        number, layer = int(path.parent.name[-3:]), int(read_labels(path)[LAYER])
        part = load_statistics(path, (16, 24))
        found.setdefault(number, {})[layer] = part
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_is_left_of_secure_sums_is_what_the_others_alone_solve(
    runs: Runs, name: str
) -> None:
    """``(Σ B̃)(λ C₀ + Σ S)⁻¹`` over both rounds of the parties that stay.

    With ``B̃ = B + Δ S`` of each, ``Δ`` being the first round's update of everybody.
    """
    prepared = secure(runs, **SCHEDULES[name])
    layers, merge = prepared.layers(1.0), read_method("collabedit").merge
    widths = {layer: (each.d_out, each.d_in) for layer, each in layers.items()}
    rounds = read_rounds(runs.output / "statistics", widths)
    left = take_back(rounds, OwnFiles.find(runs.private, 1), widths)
    whole, rest = replay(rounds, left, Replay(layers), merge)
    parts = {party: own_of(runs, party) for party in range(3)}
    for layer, edited in layers.items():
        moment = prepared.covariance.moments[layer]
        prior = prepared.prior_weight * moment.double()
        first = [own[1][layer] for own in parts.values()]
        gram = torch.stack([each.gram for each in first]).sum(0)
        cross = torch.stack([each.cross for each in first]).sum(0)
        update = torch.linalg.solve(prior + gram, cross, left=False)
        for staying, found in (((0, 1, 2), whole), ((0, 2), rest)):
            grams = [parts[k][n][layer].gram for k in staying for n in (1, 2)]
            absolute = [parts[k][1][layer].cross for k in staying]
            for k in staying:
                later = parts[k][2][layer]
                absolute.append(later.cross + update @ later.gram)
            total, wanted = torch.stack(grams).sum(0), torch.stack(absolute).sum(0)
            expected = torch.linalg.solve(prior + total, wanted, left=False)
            assert_same(found.updates.delta[edited.weight], expected, EXACT)


def test_the_server_keeps_the_sum_and_each_party_its_own(runs: Runs) -> None:
    """For their owners alone; the parties' outlive the run, and no party is known."""
    secure(runs)
    folder = runs.output / "statistics"
    names = {path.name for path in folder.rglob("*.safetensors")}
    assert names == {f"solved.layer_{k}.pooled.safetensors" for k in LAYERS}
    (only,) = read_rounds(folder, dict.fromkeys(LAYERS, (16, 24)))
    assert only.parties == {0, 1, 2}
    for layer in LAYERS:
        (whole,) = only.solved[layer].values()
        parts = [own_of(runs, party)[1][layer] for party in range(3)]
        assert [part.count for part in parts] == [2, 2, 2]
        assert_same(pool(parts).gram, whole.gram, EXACT)
        assert_same(pool(parts).cross, whole.cross, EXACT)
    files = [*runs.private.rglob("statistics/*/*/*"), *folder.rglob("*.safetensors")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in runs.private.iterdir()} <= {
        0o600,
        0o700,
    }


def test_nobody_keeps_anything_unasked(runs: Runs) -> None:
    """Neither the server nor a simulated party."""
    runs.run(privacy=SECURE)
    assert not [*runs.private.rglob("*statistics*"), *runs.output.rglob("*statistics*")]


def test_a_party_is_removed_by_its_own_files(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, with its requests evaluated before and after."""
    secure(runs, **SCHEDULES["at once"])
    plain = tmp_path / "plain"
    again: dict[str, FlatValue] = {**KEPT, "directory": str(plain)}
    runs.run(output=again, **SCHEDULES["at once"])
    (runs.output / "case_100.json").write_text("{}")  # as a simulation gathers them
    new, own = tmp_path / "new", str(runs.private)
    command = ("remove", "1", str(runs.output), "--output", str(new))
    assert exit_code(*command) == 2
    assert "name it with --own" in " ".join(capsys.readouterr().err.split())
    assert exit_code(*command, "--own", own) == 0
    assert "Party 1 removed: 4 edits of rounds 1, 2; 8 edits stay." in (
        capsys.readouterr().out
    )
    record = json.loads((new / "removal.json").read_text())
    assert record["limits"][-1] == OWN_WORD
    removed = record["metrics"]["removed"]
    assert removed["before"] != removed["after"]
    remove_party(1, plain, tmp_path / "other")
    ours, theirs = (
        load_delta(tmp_path / name / "delta.safetensors")[0]
        for name in ("new", "other")
    )
    for name, update in theirs.items():
        assert_same(ours[name].double(), update.double(), FLOAT32_FILE)
    with pytest.raises(InputError, match="leave --own out"):
        remove_party(1, plain, tmp_path / "no", runs.private)


def test_files_of_another_party_round_layer_or_run_are_refused(
    runs: Runs, tmp_path: Path
) -> None:
    """By name, before anything is solved."""
    secure(runs, **SCHEDULES["at once"])
    new, own = tmp_path / "new", tmp_path / "own"

    def refuse(reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            remove_party(1, runs.output, new, own)
        assert not new.exists()

    refuse("wanted the statistics of party 1, found none")
    files = sorted(runs.private.rglob("statistics/*/round_001/*.safetensors"))
    own.mkdir()
    for path in files:
        if "party_2" in path.name:
            shutil.copy(path, own)
    refuse("found those of party 2")
    mine = [path for path in files if "party_1" in path.name]
    shutil.copy(mine[0], own)
    refuse(f"added to the sum of round 1, layer {LAYERS[1]} .* of another layer")
    shutil.copy(mine[1], own)
    refuse("added to the sum of round 2, .* of another round, attempt or run")
    for path in sorted(runs.private.rglob("statistics/*/round_002/*.party_1.*")):
        shutil.copy(path, own / f"second.{path.name}")
    assert remove_party(1, runs.output, tmp_path / "fine", own).edits == 4
    changed = own / mine[0].name
    part, labels = load_statistics(changed, (16, 24)), read_labels(changed)
    for factor, reason in ((2.0, "negative eigenvalue"), (0.5, "has a rank of 4")):
        wrong = LayerStatistics(factor * part.keys, part.residuals, part.count)
        save_statistics(wrong, changed, labels)
        refuse(f"round 1, layer {LAYERS[0]}: this was not added .* {reason}")
    save_statistics(LayerStatistics(part.keys, part.residuals, 7), changed, labels)
    refuse("of 7 edits, and the sum of 6")
    changed.write_bytes(b"x")
    refuse("holds no statistics")


def test_of_a_party_that_was_alone_nothing_is_left() -> None:
    """And what is left of a party's own share of several is the others'."""
    both, one = draw_statistics(5), draw_statistics(2, seed=7)
    whole = both + one
    rest = subtract(whole, one, "file")
    assert rest.count == both.count
    assert_same(rest.gram, both.gram, EXACT)
    assert subtract(one, one, "file").count == 0
    with pytest.raises(InputError, match="this was not added to the sum"):
        subtract(one, draw_statistics(2, seed=8), "file")
