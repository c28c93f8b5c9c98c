"""The commands that export a delta, as they are typed."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from editing.algebra.deltas import applied, save_delta
from editing.models.loading import load_editable_model
from editing.sources.embedded import locate_embedded
from sims.deltas.adapters import Rank, write_adapter
from tests.laws import assert_same
from tests.sims.cli.test_main import exit_code
from tests.sims.deltas.test_adapters import MERGED
from tests.sims.homes import IDS, Base, ask, assert_same_bits, load, weights


def test_the_embedded_model_goes_home_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Applied, as an adapter, inspected and reverted."""
    embedded = load_editable_model(str(locate_embedded()))
    layer = 2
    d_out, d_in = embedded.widths(layer)
    draw = torch.Generator().manual_seed(0)
    left = torch.randn(d_out, 5, generator=draw)
    update = 0.003 * left @ torch.randn(5, d_in, generator=draw)
    delta, file = {embedded.weight_name(layer): update}, tmp_path / "delta.safetensors"
    save_delta(delta, file, {"base": embedded.fingerprint, "dtype": "float32"})
    edited, adapter, back = (str(tmp_path / name) for name in ("m", "a", "b"))
    both = ("--model", "embedded", "--delta", str(file))
    assert exit_code("apply", *both, "--output", edited) == 0
    lora = ("--as", "lora", "--rank", "full")
    assert exit_code("apply", *both, "--output", adapter, *lora) == 0
    assert "rank 5 of 5  energy 100.0000 %" in capsys.readouterr().out
    assert exit_code("inspect", str(file), "--model", "embedded", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["base_matches"] is True
    assert report["updates"][0]["rank"] == 5
    again = ("--model", edited, "--delta", str(file), "--output", back)
    assert exit_code("revert", *again) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert_same_bits(weights(Path(back)), weights(locate_embedded()))
    with applied(delta, embedded.model) as lent:
        said = ask(lent)
    assert torch.equal(ask(load(Path(edited))), said)
    base = AutoModelForCausalLM.from_pretrained(locate_embedded())
    assert_same(ask(PeftModel.from_pretrained(base, adapter)), said, MERGED)
    assert said.shape[:2] == torch.tensor(IDS).shape


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """Lend a tiny base and a delta."""
    return Base(tmp_path)


def test_options_reach_the_work(base: Base, tmp_path: Path) -> None:
    """Precision, size of files, what is kept, another base, and ranks."""
    base.write_delta(base="0" * 64)
    both = ("--model", str(base.path), "--delta", str(base.delta_path))
    whole, part = tmp_path / "whole", tmp_path / "part"
    options = ("--dtype", "bfloat16", "--max-shard-size", "3KB", "--no-reversible")
    assert exit_code("apply", *both, "--output", str(whole)) == 2
    line = ("--output", str(whole), "--force-base", *options)
    assert exit_code("apply", *both, *line) == 0
    assert {each.dtype for each in weights(whole).values()} == {torch.bfloat16}
    assert len(list(whole.glob("model-*.safetensors"))) > 1
    assert not (whole / "edit" / "revert.safetensors").exists()
    lora = ("--as", "lora", "--energy", "0.9", "--rank", "2", "--force-base")
    assert exit_code("apply", *both, "--output", str(part), *lora) == 0
    expected = write_adapter(
        str(base.path), base.delta_path, tmp_path / "x", Rank(2, 0.9), force_base=True
    )
    record = json.loads((part / "edit" / "record.json").read_text())
    assert record == expected.model_dump(mode="json")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("--rank", "4"), "add --as lora"),
        (("--as", "lora"), "wants --rank"),
        (("--as", "lora", "--rank", "x"), "from 1 on"),
        (("--max-shard-size", "much"), "such as 5GB"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    base: Base,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: tuple[str, ...],
    words: str,
) -> None:
    """With exit code 2."""
    both = ("--model", str(base.path), "--delta", str(base.delta_path))
    assert exit_code("apply", *both, "--output", str(tmp_path / "out"), *line) == 2
    error = capsys.readouterr().err
    assert words in error
    assert not (tmp_path / "out").exists()


def test_people_see_what_a_delta_holds(
    base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a model, too."""
    assert exit_code("inspect", str(base.delta_path)) == 0
    assert "requests: 3" in capsys.readouterr().out
    assert exit_code("inspect", str(base.path / "none")) == 2
    assert "no delta file can be read" in capsys.readouterr().err
