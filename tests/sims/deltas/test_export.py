"""An exported folder is the model that was evaluated, and complete."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from editing.algebra.deltas import applied
from editing.algebra.fingerprints import fingerprint_model
from editing.base.errors import InputError
from sims.deltas.export import apply_delta
from sims.deltas.record import read_record
from tests.sims.homes import (
    SECRET,
    Base,
    ask_elsewhere,
    assert_same_bits,
    load,
    texts_of,
    weights,
)

PRECISION = 1e-5
"""Relative: what a record's norms are held to."""

MakeBase = Callable[..., Base]


@pytest.fixture
def make_base(tmp_path: Path) -> MakeBase:
    """Make bases, each in a folder of its own."""

    def make(family: str = "gpt2", dtype: str = "float32", **options: object) -> Base:
        folder = tmp_path / f"{family}-{dtype}"
        return Base(folder, family, dtype, **options)  # type: ignore[arg-type]

    return make


def test_the_folder_is_the_lent_model_to_plain_transformers(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """Bit for bit, in a process without our code, for both ways round of a weight."""
    bases = {
        "conv": make_base("gpt2", "float32", shard="3KB"),
        "linear": make_base("llama", "float32"),
        "brain": make_base("llama", "bfloat16", shard="3KB"),
        "half": make_base("gpt2", "float16"),
    }
    for name, base in bases.items():
        output = tmp_path / name
        apply_delta(str(base.path), base.delta_path, output, max_shard_size="4KB")
        assert len(list(output.glob("model-*-of-*.safetensors"))) > 1
    jobs = {name: {"model": str(tmp_path / name)} for name in bases}
    said = ask_elsewhere(tmp_path, jobs)
    for name, base in bases.items():
        assert said[name].dtype == getattr(torch, base.dtype)
        assert torch.equal(said[name], base.logits()), name


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_those_of_the_lent_model(
    make_base: MakeBase, tmp_path: Path, family: str, dtype: str
) -> None:
    """All of them, tied ones too."""
    base = make_base(family, dtype)
    apply_delta(str(base.path), base.delta_path, tmp_path / "out")
    with applied(base.delta, base.load()) as edited:
        assert_same_bits(weights(tmp_path / "out"), dict(edited.named_parameters()))


def test_another_precision_is_rounded_once_after_the_sum(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """A run in float32 on a bfloat16 checkpoint is exported in bfloat16."""
    base = make_base()
    apply_delta(str(base.path), base.delta_path, tmp_path / "out", dtype="bfloat16")
    with applied(base.delta, base.load()) as edited:
        rounded = nn.Module.to(edited, torch.bfloat16)
        assert_same_bits(weights(tmp_path / "out"), dict(rounded.named_parameters()))


def test_the_card_and_the_record_tell_what_was_edited_and_no_request(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """Not even one that somebody put into the delta's file."""
    base, output = make_base(), tmp_path / "out"
    base.write_delta(merge=SECRET, note=SECRET, model=[SECRET], rounds=7)
    record = apply_delta(str(base.path), base.delta_path, output)
    assert read_record(output) == record
    assert record.base == base.fingerprint
    assert record.edited == fingerprint_model(load(output)) != record.base
    for change in record.changes:
        update = base.delta[change.name].double()
        weight = base.load().get_parameter(change.name).double()
        assert change.norm == pytest.approx(float(update.norm()), rel=PRECISION)
        ratio = float(update.norm() / weight.norm())
        assert change.relative == pytest.approx(ratio, rel=PRECISION)
    texts = texts_of(output)
    assert SECRET not in texts
    assert str(tmp_path) not in texts
    assert not (output / "requests.json").exists()
    card = (output / "README.md").read_text()
    for words in (base.fingerprint, "requests edited | 3", "rounds | 7", "1, 2"):
        assert words in card
    assert all(name in card for name in base.delta)


def test_configuration_and_tokenizer_are_the_bases(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """And the generation settings; the weights may be read by all who read the card."""
    base, output = make_base(), tmp_path / "out"
    apply_delta(str(base.path), base.delta_path, output)
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        ours, theirs = (
            json.loads((at / name).read_text()) for at in (output, base.path)
        )
        assert ours == theirs
    modes = {path.stat().st_mode for path in output.rglob("*") if path.is_file()}
    assert modes == {(output / "README.md").stat().st_mode}


def test_a_forced_base_is_edited_and_the_card_says_so(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """One of another origin, or one that the delta's file does not name."""
    base = make_base()
    for name, claim in (("other", "0" * 64), ("untold", None)):
        base.write_delta(base=claim)
        output = tmp_path / name
        with pytest.raises(InputError, match="--force-base"):
            apply_delta(str(base.path), base.delta_path, output)
        assert not output.exists()
        record = apply_delta(str(base.path), base.delta_path, output, force_base=True)
        assert record.forced
        assert "made for another base model" in (output / "README.md").read_text()


def test_an_older_delta_is_added_in_the_precision_that_is_asked_for(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """Its file does not tell the run's; float32 was the default."""
    base = make_base("gpt2", "bfloat16")
    base.write_delta(dtype=None)
    with pytest.raises(InputError, match="loaded as float32"):
        apply_delta(str(base.path), base.delta_path, tmp_path / "out")
    record = apply_delta(
        str(base.path), base.delta_path, tmp_path / "out", dtype="bfloat16"
    )
    assert (record.run_dtype, record.dtype) == ("bfloat16", "bfloat16")


def misfit(base: Base) -> None:
    """Write a delta of one weight too wide."""
    base.write_delta({name: each[:, 1:] for name, each in base.delta.items()})


def unknown(base: Base) -> None:
    """Write a delta of a weight that is not there."""
    base.write_delta({"lm.gone.weight": torch.ones(2, 2)})


def a_norm(base: Base) -> None:
    """Write a delta of what is no matrix."""
    base.write_delta({"transformer.ln_f.weight": torch.ones(16)})


def empty(base: Base) -> None:
    """Write a delta of nothing."""
    base.write_delta({})


def infinite(base: Base) -> None:
    """Write a delta that no number holds."""
    base.write_delta({name: each / 0 for name, each in base.delta.items()})


def gone(base: Base) -> None:
    """Take the delta away."""
    base.delta_path.unlink()


def no_model(base: Base) -> None:
    """Break the base."""
    (base.path / "config.json").write_text("{}")


def no_tokenizer(base: Base) -> None:
    """Break the tokenizer."""
    (base.path / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (misfit, r"\(16, 23\), and the weight wants \(16, 24\)"),
        (unknown, "`lm.gone.weight`, which this model does not have"),
        (a_norm, "wanted a matrix"),
        (empty, "holds no updates"),
        (infinite, "NaN or infinite"),
        (gone, "no delta file can be read"),
        (no_model, "no causal language model"),
        (no_tokenizer, "tokenizer cannot be loaded"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    make_base: MakeBase, tmp_path: Path, spoil: Callable[[Base], None], words: str
) -> None:
    """With the reason; no half folder is found."""
    base, home = make_base(), tmp_path / "home"
    home.mkdir()
    spoil(base)
    with pytest.raises(InputError, match=words):
        apply_delta(str(base.path), base.delta_path, home / "out")
    assert list(home.iterdir()) == []


def test_a_number_too_large_for_half_precision_is_refused(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """It would be infinite."""
    base = make_base()
    base.write_delta({name: 1e6 * each for name, each in base.delta.items()})
    with pytest.raises(InputError, match="float16 can hold"):
        apply_delta(str(base.path), base.delta_path, tmp_path / "out", dtype="float16")


def test_what_is_there_is_never_overwritten(
    make_base: MakeBase, tmp_path: Path
) -> None:
    """And sizes of files are read before any work."""
    base = make_base()
    with pytest.raises(InputError, match="never overwritten"):
        apply_delta(str(base.path), base.delta_path, tmp_path)
    with pytest.raises(InputError, match="such as 5GB"):
        apply_delta(
            str(base.path), base.delta_path, tmp_path / "out", max_shard_size="5 gigs"
        )
