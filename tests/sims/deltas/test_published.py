"""Laws of checkpoints that hold more than the text model: nothing of them is lost."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from editing.algebra.deltas import applied
from editing.algebra.fingerprints import fingerprint_model
from editing.base.errors import InputError
from sims.deltas.adapters import Rank, write_adapter
from sims.deltas.export import apply_delta
from sims.deltas.inspection import inspect_delta
from sims.deltas.published import match_name, open_checkpoint, published_names
from sims.deltas.record import read_record
from sims.deltas.revert import revert_delta
from tests.sims.homes import Base, ask, assert_same_bits, load
from tests.sims.seeing import MULTIMODAL, Seeing, tensors_of

SEEING = sorted(MULTIMODAL)


def changed(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> set[str]:
    """Name the tensors that differ."""
    return {name for name in ours if not torch.equal(ours[name], theirs[name])}


@pytest.mark.parametrize("family", SEEING)
@pytest.mark.parametrize(("dtype", "shard"), [("float32", "5GB"), ("bfloat16", "5KB")])
def test_every_tensor_and_the_class_of_the_base_are_written(
    tmp_path: Path, family: str, dtype: str, shard: str
) -> None:
    """Under the same names, bit for bit but for the edited ones; revert likewise."""
    base = Seeing(tmp_path, family, dtype, shard)
    out, back = tmp_path / "out", tmp_path / "back"
    record = apply_delta(str(base.path), base.delta_path, out, max_shard_size=shard)
    before, after = base.tensors(), tensors_of(out)
    assert before.keys() == after.keys()
    assert {each.dtype for each in after.values()} == {getattr(torch, dtype)}
    assert len(changed(before, after)) == 2
    configs = [
        json.loads((each / "config.json").read_text()) for each in (base.path, out)
    ]
    assert configs[0]["architectures"] == configs[1]["architectures"] == [base.kind]
    assert configs[0]["model_type"] == configs[1]["model_type"]
    assert record.model_class == base.kind
    with applied(base.delta, load(base.path, dtype)) as edited:
        assert torch.equal(ask(load(out)), ask(edited))
        assert record.edited == fingerprint_model(load(out))
    whole, info = getattr(transformers, base.kind).from_pretrained(
        out, output_loading_info=True
    )
    assert type(whole).__name__ == base.kind
    assert not any(info.values())
    assert revert_delta(out, base.delta_path, back, max_shard_size=shard).exact
    assert_same_bits(tensors_of(back), before)


def test_the_card_tells_what_else_the_folder_holds(tmp_path: Path) -> None:
    """And how to load it."""
    base = Seeing(tmp_path, "qwen3_5")
    apply_delta(str(base.path), base.delta_path, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"all {len(base.tensors())} tensors" in card
    assert f"`transformers.{base.kind}` loads all" in card
    found = read_record(tmp_path / "out")
    assert found is not None
    assert found.tensors == len(base.tensors())


def test_another_precision_is_that_of_all_tensors_and_of_the_configuration(
    tmp_path: Path,
) -> None:
    """Of the vision tower's as well."""
    base = Seeing(tmp_path, "qwen3_5")
    out = tmp_path / "out"
    record = apply_delta(str(base.path), base.delta_path, out, dtype="bfloat16")
    assert {each.dtype for each in tensors_of(out).values()} == {torch.bfloat16}
    model = load(out)
    assert next(model.parameters()).dtype == torch.bfloat16
    assert fingerprint_model(model) == record.edited
    assert revert_delta(out, base.delta_path, tmp_path / "back").exact


@pytest.mark.parametrize("family", SEEING)
def test_an_adapter_fits_the_class_as_published(tmp_path: Path, family: str) -> None:
    """PEFT puts it into the text model within, where it says what the delta says."""
    base = Seeing(tmp_path, family)
    write_adapter(str(base.path), base.delta_path, tmp_path / "out", Rank())
    whole = getattr(transformers, base.kind).from_pretrained(base.path)
    before = {name: each.clone() for name, each in whole.named_parameters()}
    adapted = PeftModel.from_pretrained(whole, tmp_path / "out").merge_and_unload()
    after = dict(adapted.named_parameters())
    differ = changed(before, after)
    assert len(differ) == 2
    _, names = published_names(load(base.path), str(base.path), base.delta)  # type: ignore[arg-type]
    assert differ == set(names.values())
    for ours, theirs in names.items():
        gap = after[theirs] - before[theirs] - base.delta[ours]
        assert gap.norm() < 1e-5 * base.delta[ours].norm()
    loader = f"base = {'AutoModelForCausalLM' if family == 'gemma3' else base.kind}."
    assert loader in (tmp_path / "out" / "README.md").read_text()


def test_inspection_measures_against_the_text_model(tmp_path: Path) -> None:
    """By the names that the delta has."""
    base = Seeing(tmp_path, "qwen3_5")
    report = inspect_delta(base.delta_path, str(base.path))
    assert report.base_matches
    assert all(each.relative for each in report.updates)


def test_tensors_that_no_class_reads_are_kept(tmp_path: Path) -> None:
    """Such as heads that predict several tokens."""
    base = Seeing(tmp_path, "qwen3_5")
    extra = {"mtp.layers.0.mlp.down_proj.weight": torch.ones(16, 24)}
    whole = base.tensors() | extra
    save_file(whole, base.path / "model.safetensors", {"format": "pt"})
    apply_delta(str(base.path), base.delta_path, tmp_path / "out")
    after = tensors_of(tmp_path / "out")
    assert after.keys() == whole.keys()
    assert len(changed(whole, after)) == len(base.delta)
    assert torch.equal(after[next(iter(extra))], torch.ones(16, 24))


def test_a_base_of_another_class_without_safetensors_is_refused(
    tmp_path: Path,
) -> None:
    """Rather than written in part."""
    base = Seeing(tmp_path, "qwen3_5")
    tensors = base.tensors()
    (base.path / "model.safetensors").unlink()
    save = vars(torch)["save"]  # the format that is not written here otherwise
    save(tensors, base.path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"holds more than the text model"):
        apply_delta(str(base.path), base.delta_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        (["a.b.0.w", "a.b.1.w", "a.n"], ["a.b.0.w"]),
        (["x.a.b.0.w", "x.a.b.1.w", "x.a.n"], ["x.a.b.0.w"]),
        (["b.0.w", "b.1.w", "n"], ["b.0.w"]),
        (["t.b.0.w", "t.b.1.w", "t.n", "v.b.0.w", "v.b.1.w"], ["t.b.0.w"]),
        (["t.b.0.w", "v.b.0.w"], ["t.b.0.w", "v.b.0.w"]),
        (["b.1.v", "c"], []),
    ],
)
def test_names_are_matched_by_what_most_weights_begin_with(
    theirs: list[str], found: list[str]
) -> None:
    """A vision tower may have a weight of the same shape and ending."""
    ours = dict.fromkeys(["a.b.0.w", "a.b.1.w", "a.n"], (2, 3))
    assert match_name("a.b.0.w", ours, dict.fromkeys(theirs, (2, 3))) == found


def test_headers_are_read_of_shards_and_of_one_file(tmp_path: Path) -> None:
    """Names, shapes and kinds of numbers; a folder without such files has none."""
    found = {}
    for shard in ("5GB", "3KB"):
        base = Base(tmp_path / shard, "llama", "bfloat16", shard=shard)
        checkpoint = open_checkpoint(str(base.path))
        assert checkpoint is not None
        found[shard] = checkpoint
        whole = tensors_of(base.path)
        assert checkpoint.shapes == {n: tuple(t.shape) for n, t in whole.items()}
        assert set(checkpoint.kinds.values()) == {"BF16"}
        name = next(iter(whole))
        assert torch.equal(checkpoint.read(name), whole[name])
    assert len(set(found["3KB"].files.values())) > len(set(found["5GB"].files.values()))
    assert open_checkpoint(str(tmp_path)) is None


def test_the_library_loads_the_text_model_alone(tmp_path: Path) -> None:
    """The premise: if this fails, the families above no longer show anything."""
    base = Seeing(tmp_path, "qwen3_5")
    loaded = AutoModelForCausalLM.from_pretrained(base.path)
    assert type(loaded).__name__ != base.kind
    assert len(loaded.state_dict()) < len(base.tensors())
