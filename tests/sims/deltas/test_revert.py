"""An edit that is reverted leaves the base, or reports what it leaves."""

from pathlib import Path

import pytest
import torch

from editing.algebra.fingerprints import fingerprint_model
from editing.base.errors import InputError
from sims.deltas.export import apply_delta
from sims.deltas.record import RECORD, REVERSAL
from sims.deltas.revert import revert_delta
from tests.sims.homes import Base, assert_same_bits, load, weights

PRECISIONS = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_applied_and_reverted_is_the_base_bit_for_bit(
    tmp_path: Path, family: str, dtype: str
) -> None:
    """In every precision, in shards or not; and it says so."""
    base = Base(tmp_path, family, dtype)
    edited, restored = tmp_path / "edited", tmp_path / "restored"
    apply_delta(str(base.path), base.delta_path, edited, max_shard_size="4KB")
    found = revert_delta(edited, base.delta_path, restored)
    assert found.exact
    assert "bit for bit" in found.describe()
    assert_same_bits(weights(restored), weights(base.path))
    assert found.describe() in (restored / "README.md").read_text()
    assert not (restored / "edit").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_base_that_was_edited_in_float32_is_given_back_in_its_own_precision(
    tmp_path: Path, dtype: str
) -> None:
    """A short checkpoint, run in float32 and written short again."""
    base = Base(tmp_path, "llama", dtype)
    claim = fingerprint_model(load(base.path, "float32"))
    base.write_delta(dtype="float32", base=claim)
    edited, restored = tmp_path / "edited", tmp_path / "restored"
    record = apply_delta(str(base.path), base.delta_path, edited, dtype=dtype)
    assert not record.forced
    assert revert_delta(edited, base.delta_path, restored).exact
    assert_same_bits(weights(restored), weights(base.path))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_without_the_reversal_file_the_difference_is_reported(
    tmp_path: Path, dtype: str
) -> None:
    """By number and size, as measured when the edit was made."""
    base = Base(tmp_path, "gpt2", dtype)
    edited, restored = tmp_path / "edited", tmp_path / "restored"
    record = apply_delta(str(base.path), base.delta_path, edited, reversible=False)
    assert not (edited / REVERSAL).exists()
    assert "No file to undo" in (edited / "README.md").read_text()
    found = revert_delta(edited, base.delta_path, restored)
    before, after = weights(base.path), weights(restored)
    gaps = [before[name].double() - after[name].double() for name in base.delta]
    assert not found.exact
    assert found.missed == sum(int((gap != 0).sum()) for gap in gaps) > 0
    assert found.largest_gap == max(float(gap.abs().max()) for gap in gaps)
    assert f"{found.missed} of the {record.entries}" in found.describe()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_of_an_unknown_folder_a_bound_is_reported_and_kept(
    tmp_path: Path, dtype: str
) -> None:
    """Without the record nobody knows how many entries differ."""
    base = Base(tmp_path, "gpt2", dtype)
    edited, restored = tmp_path / "edited", tmp_path / "restored"
    apply_delta(str(base.path), base.delta_path, edited)
    (edited / RECORD).unlink()
    found = revert_delta(edited, base.delta_path, restored)
    before, after = weights(base.path), weights(restored)
    gap = max(
        float((before[n].double() - after[n].double()).abs().max()) for n in before
    )
    assert (found.exact, found.missed, found.changed) == (False, None, False)
    assert 0 < gap <= found.largest_gap
    assert "not known" in found.describe()


def test_an_unknown_folder_can_still_be_found_to_be_the_base(tmp_path: Path) -> None:
    """Where subtraction happens to be exact, as with doubled weights."""
    base, edited = Base(tmp_path), tmp_path / "edited"
    before = weights(base.path)
    base.write_delta({name: before[name].mT.contiguous() for name in base.delta})
    apply_delta(str(base.path), base.delta_path, edited)
    (edited / RECORD).unlink()
    assert revert_delta(edited, base.delta_path, tmp_path / "restored").exact


def test_nothing_is_taken_out_of_the_base(tmp_path: Path) -> None:
    """A slip in `--model` would make a model that nobody asked for."""
    base = Base(tmp_path)
    with pytest.raises(InputError, match="nothing to undo"):
        revert_delta(base.path, base.delta_path, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_model_changed_since_is_not_given_what_was_kept(tmp_path: Path) -> None:
    """It would put old values among new ones; subtraction keeps the later change."""
    base = Base(tmp_path)
    edited, tuned = tmp_path / "edited", tmp_path / "tuned"
    apply_delta(str(base.path), base.delta_path, edited)
    model = load(edited)
    name = next(iter(base.delta))
    with torch.no_grad():
        model.get_parameter(name).add_(1.0)
    model.save_pretrained(tuned)  # type: ignore[operator]
    for path in tuned.iterdir():
        path.replace(edited / path.name)
    found = revert_delta(edited, base.delta_path, tmp_path / "restored")
    assert (found.exact, found.missed, found.changed) == (False, None, True)
    assert "changed after the edit" in found.describe()
    gap = weights(tmp_path / "restored")[name] - weights(base.path)[name]
    assert torch.allclose(gap, torch.ones_like(gap), atol=1e-5)


def test_another_delta_is_refused(tmp_path: Path) -> None:
    """By its values; where it lies and what else its file tells does not matter."""
    base, edited = Base(tmp_path), tmp_path / "edited"
    apply_delta(str(base.path), base.delta_path, edited)
    moved = base.write_delta(rounds=9).rename(tmp_path / "moved.safetensors")
    assert revert_delta(edited, moved, tmp_path / "restored").exact
    base.write_delta({name: 2 * each for name, each in base.delta.items()})
    with pytest.raises(InputError, match="not the delta in"):
        revert_delta(edited, base.delta_path, tmp_path / "again")


def test_broken_files_are_named(tmp_path: Path) -> None:
    """And a folder that is no model."""
    base, edited = Base(tmp_path), tmp_path / "edited"
    apply_delta(str(base.path), base.delta_path, edited)
    (edited / REVERSAL).write_bytes(b"x")
    with pytest.raises(InputError, match=r"revert\.safetensors: cannot be read"):
        revert_delta(edited, base.delta_path, tmp_path / "restored")
    (edited / RECORD).write_text("{}")
    with pytest.raises(InputError, match=r"record\.json: not the record"):
        revert_delta(edited, base.delta_path, tmp_path / "restored")
    with pytest.raises(InputError, match="no model folder"):
        revert_delta(tmp_path, base.delta_path, tmp_path / "restored")
