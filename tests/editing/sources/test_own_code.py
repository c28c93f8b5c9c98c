"""A model's own code runs where this machine names the model, and nowhere else."""

import json
import logging
from pathlib import Path

import pytest
import torch

from editing.base.errors import ModelFilesError
from editing.models.loading import load_editable_model
from editing.sources.own_code import TRUSTED_CODE, explain_own_code, runs_own_code
from sims.deltas.model_folders import load_whole
from sims.sizes.shapes import read_shape
from tests.tiny import tiny_model

CODE = """
from pathlib import Path
from transformers import GPT2Config, GPT2LMHeadModel

Path(__file__).with_name("ran").touch()
Path({place!r}).touch()


class StrangeConfig(GPT2Config):
    model_type = "strange"


class StrangeModel(GPT2LMHeadModel):
    config_class = StrangeConfig
"""


def bring_code(folder: Path) -> Path:
    """Save a model whose configuration asks for code next to it."""
    model = tiny_model(dtype=torch.float32)
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "strange", "architectures": ["StrangeModel"]}
    config["auto_map"] = {
        "AutoConfig": "strange.StrangeConfig",
        "AutoModelForCausalLM": "strange.StrangeModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    witness = folder.parent / "witness"
    (folder / "strange.py").write_text(CODE.format(place=str(witness)))
    return witness


def test_code_does_not_run_and_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers `y` on stdin, and whichever command loads the model."""
    witness = bring_code(tmp_path / "model")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    place = str(tmp_path / "model")
    with pytest.raises(ModelFilesError, match=f"not run; read .* {TRUSTED_CODE}"):
        load_editable_model(place)
    with pytest.raises(ValueError, match="not run"):
        load_whole(place, "float32")
    with pytest.raises(ValueError, match="not run"):
        read_shape(place, (1,))
    assert not witness.exists()


def test_code_runs_where_the_folder_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the log says so."""
    witness = bring_code(tmp_path / "model")
    monkeypatch.setenv(TRUSTED_CODE, f"/elsewhere:{tmp_path / 'model'}")
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    with caplog.at_level(logging.WARNING):
        load_whole(str(tmp_path / "model"), "float32")
    assert witness.exists()
    assert f"{tmp_path / 'model'} may run code of its own" in caplog.text


@pytest.mark.parametrize(
    ("named", "trusted"),
    [("", False), ("/a", False), ("{}", True), ("/a:{}", True), ("{}/..", False)],
)
def test_a_folder_is_named_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, trusted: bool
) -> None:
    """A folder above it does not do."""
    monkeypatch.setenv(TRUSTED_CODE, named.format(tmp_path))
    assert runs_own_code(str(tmp_path)) == trusted


def test_other_errors_are_not_explained_so() -> None:
    """Their own words say more."""
    assert explain_own_code(ValueError("no tokenizer")) == ""
