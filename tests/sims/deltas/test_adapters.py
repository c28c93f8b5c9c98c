"""An adapter at full rank is the merged model; below it, it says what it keeps."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from editing.algebra.deltas import applied
from editing.base.errors import InputError
from editing.sources.embedded import EMBEDDED
from sims.deltas.adapters import Rank, lora_config, read_rank, write_adapter
from sims.deltas.record import WeightChange, read_record
from tests.editing.algebra.test_deltas import TwoLayers
from tests.laws import assert_same, relative_difference
from tests.sims.homes import SECRET, Base, ask, ask_elsewhere, texts_of

MERGED = 1e-5
"""Relative difference that float32 leaves between ``W + Δ`` and ``W + B A``."""

TRUNCATED = 1e-5
"""Relative: what float32 leaves of the truncation's error."""


def product(folder: Path, name: str) -> torch.Tensor:
    """Multiply the two parts of an update."""
    parts = load_file(folder / "adapter_model.safetensors")
    place = f"base_model.model.{name.removesuffix('.weight')}"
    up, down = (parts[f"{place}.lora_{side}.weight"].double() for side in "BA")
    return up @ down


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_at_full_rank_the_adapter_is_the_merged_model(
    tmp_path: Path, family: str
) -> None:
    """Weight by weight, and no other weight is touched."""
    base = Base(tmp_path, family)
    record = write_adapter(str(base.path), base.delta_path, tmp_path / "out", Rank())
    assert [change.rank for change in record.changes] == [base.rank] * 2
    adapted = PeftModel.from_pretrained(base.load(), tmp_path / "out")
    merged = dict(adapted.merge_and_unload().named_parameters())
    with applied(base.delta, base.load()) as edited:
        for name, weight in edited.named_parameters():
            if name in base.delta:
                assert_same(merged[name], weight, MERGED)
                assert not torch.equal(weight, base.load().get_parameter(name))
            else:
                assert torch.equal(merged[name], weight)


def test_plain_peft_loads_it_in_a_process_without_our_code(tmp_path: Path) -> None:
    """For both ways round of a weight, and with ranks that differ."""
    jobs, bases = {}, {}
    for family in ("gpt2", "llama"):
        base = bases[family] = Base(tmp_path / family, family)
        first, second = base.delta
        base.delta = {first: torch.full_like(base.delta[first], 0.05)} | {
            second: base.delta[second]
        }
        base.write_delta()
        adapter = tmp_path / family / "adapter"
        record = write_adapter(str(base.path), base.delta_path, adapter, Rank())
        assert [change.rank for change in record.changes] == [1, 3]
        jobs[family] = {"model": str(base.path), "adapter": str(adapter)}
    said = ask_elsewhere(tmp_path, jobs)
    for family, base in bases.items():
        assert_same(said[family], base.logits(), MERGED)
        assert relative_difference(said[family], ask(base.load())) > 1000 * MERGED


@pytest.mark.parametrize("rank", [1, 2, 3, 8])
def test_a_truncated_adapter_misses_what_its_energy_says(
    tmp_path: Path, rank: int
) -> None:
    """``‖Δ − B A‖² / ‖Δ‖² = 1 − energy``, by the definition's singular values."""
    base = Base(tmp_path)
    output = tmp_path / "out"
    record = write_adapter(str(base.path), base.delta_path, output, Rank(rank))
    assert read_record(output) == record
    for change in record.changes:
        update = base.delta[change.name].double()
        values = torch.linalg.svdvals(update).square()
        energy = float(values[:rank].sum() / values.sum())
        assert change.energy == pytest.approx(energy, abs=TRUNCATED)
        missed = (product(output, change.name) - update).norm() / update.norm()
        assert float(missed) == pytest.approx((1 - energy) ** 0.5, abs=TRUNCATED)
        assert (change.rank, change.full_rank) == (min(rank, base.rank), base.rank)


def test_an_energy_chooses_the_smallest_rank_that_holds_it(tmp_path: Path) -> None:
    """Layer by layer, and never more than is allowed."""
    base = Base(tmp_path)
    record = write_adapter(
        str(base.path), base.delta_path, tmp_path / "out", Rank(energy=0.7)
    )
    for change in record.changes:
        values = torch.linalg.svdvals(base.delta[change.name].double()).square()
        shares = (values.cumsum(0) / values.sum()).tolist()
        assert change.rank == 1 + next(
            i for i, each in enumerate(shares) if each >= 0.7
        )
    capped = write_adapter(
        str(base.path), base.delta_path, tmp_path / "one", Rank(1, 0.9999)
    )
    assert {change.rank for change in capped.changes} == {1}


def test_the_configuration_names_the_edited_weights_alone(tmp_path: Path) -> None:
    """Layers 1 and 2 of four, in full; added as they are."""
    base, output = Base(tmp_path), tmp_path / "out"
    write_adapter(str(base.path), base.delta_path, output, Rank(2))
    config = json.loads((output / "adapter_config.json").read_text())
    names = [name.removesuffix(".weight") for name in sorted(base.delta)]
    assert config["target_modules"] == names
    assert config["lora_alpha"] == config["r"] == 2
    assert config["fan_in_fan_out"] is True
    assert config["peft_type"] == "LORA"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("base", "base"),
        (".", "base"),
        (EMBEDDED, EMBEDDED),
        ("owner/model", "owner/model"),
    ],
)
def test_the_configuration_names_a_base_without_its_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, named: str
) -> None:
    """A folder by its last name, as the card and the record do; a hub name in full."""
    base = Base(tmp_path)
    monkeypatch.chdir(base.path if path == "." else tmp_path)
    name = next(iter(base.delta))
    change = WeightChange(name=name, shape=(16, 24), norm=1, relative=1, rank=1)
    assert lora_config(base.load(), (change,), path).base_model_name_or_path == named


def test_a_delta_of_zeros_is_an_adapter_that_does_nothing(tmp_path: Path) -> None:
    """PEFT knows no rank 0."""
    base, output = Base(tmp_path), tmp_path / "out"
    base.write_delta({name: 0 * each for name, each in base.delta.items()})
    write_adapter(str(base.path), base.delta_path, output, Rank())
    adapted = PeftModel.from_pretrained(base.load(), output)
    assert torch.equal(ask(adapted), ask(base.load()))


def test_the_card_tells_ranks_and_energies_and_no_request(tmp_path: Path) -> None:
    """As a table."""
    base, output = Base(tmp_path), tmp_path / "out"
    base.write_delta(note=SECRET, merge=SECRET)
    write_adapter(str(base.path), base.delta_path, output, Rank(1), dtype="bfloat16")
    card = (output / "README.md").read_text()
    assert "| 1 | 3 |" in card
    assert "rank n at most" in card
    texts = texts_of(output)
    assert SECRET not in texts
    assert str(tmp_path) not in texts
    parts = load_file(output / "adapter_model.safetensors")
    assert {each.dtype for each in parts.values()} == {torch.bfloat16}


def test_modules_of_both_ways_round_at_once_are_refused() -> None:
    """One adapter has one `fan_in_fan_out`; a wrong one would transpose the update."""
    names = ("linear.weight", "conv.weight")
    changes = tuple(
        WeightChange(name=name, shape=(3, 5), norm=1, relative=1, rank=1)
        for name in names
    )
    with pytest.raises(InputError, match="--as model"):
        lora_config(TwoLayers(5, 3), changes, "base")
    assert lora_config(TwoLayers(5, 3), changes[1:], "base").fan_in_fan_out
    assert not lora_config(TwoLayers(5, 3), changes[:1], "base").fan_in_fan_out


def test_another_base_is_refused(tmp_path: Path) -> None:
    """As for a model."""
    base = Base(tmp_path)
    base.write_delta(base="0" * 64)
    with pytest.raises(InputError, match="--force-base"):
        write_adapter(str(base.path), base.delta_path, tmp_path / "out", Rank())
    record = write_adapter(
        str(base.path), base.delta_path, tmp_path / "out", Rank(), force_base=True
    )
    assert record.forced


def test_an_older_deltas_base_is_loaded_in_the_precision_that_is_asked_for(
    tmp_path: Path,
) -> None:
    """Its file does not name the run's; one that does is not overruled."""
    base = Base(tmp_path, "gpt2", "bfloat16")
    first = write_adapter(
        str(base.path), base.delta_path, tmp_path / "first", Rank(), dtype="float16"
    )
    assert (first.run_dtype, first.dtype) == ("bfloat16", "float16")
    base.write_delta(dtype=None)
    with pytest.raises(InputError, match="loaded as float32"):
        write_adapter(str(base.path), base.delta_path, tmp_path / "out", Rank())
    record = write_adapter(
        str(base.path), base.delta_path, tmp_path / "out", Rank(), dtype="bfloat16"
    )
    assert (record.run_dtype, record.dtype) == ("bfloat16", "bfloat16")
    assert record.base == base.fingerprint
    assert not record.forced


@pytest.mark.parametrize(
    ("rank", "energy", "chosen"),
    [
        ("8", None, Rank(8)),
        ("full", None, Rank()),
        (None, 0.9, Rank(None, 0.9)),
        ("8", 0.9, Rank(8, 0.9)),
        ("full", 1.0, Rank(None, 1.0)),
    ],
)
def test_ranks_are_read(rank: str | None, energy: float | None, chosen: Rank) -> None:
    """A number, all, or a share."""
    assert read_rank(rank, energy) == chosen


@pytest.mark.parametrize(
    ("rank", "energy", "words"),
    [
        (None, None, "wants --rank"),
        ("0", None, "from 1 on"),
        ("-1", None, "from 1 on"),
        ("all", None, "or `full`"),
        (None, 0.0, "above 0"),
        (None, 99.0, "at most 1"),
    ],
)
def test_ranks_that_make_no_sense_are_refused(
    rank: str | None, energy: float | None, words: str
) -> None:
    """With what is wanted."""
    with pytest.raises(InputError, match=words):
        read_rank(rank, energy)


def test_a_factor_beyond_the_range_of_its_precision_is_refused(tmp_path: Path) -> None:
    """Rounded, it would be infinite, and the file useless."""
    base = Base(tmp_path)
    base.write_delta({name: 1e15 * each for name, each in base.delta.items()})
    words = (str(base.path), base.delta_path, tmp_path / "out", Rank(1))
    with pytest.raises(InputError, match="more than float16 can hold"):
        write_adapter(*words, dtype="float16")
    assert not (tmp_path / "out").exists()
    write_adapter(*words)
