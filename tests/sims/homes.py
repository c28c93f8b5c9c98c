"""Base models on disk, and deltas for them to export."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from editing.algebra.deltas import Delta, applied, save_delta
from editing.algebra.fingerprints import fingerprint_model
from tests.tiny import LAYERS, tiny_model
from tests.trees import ROOT

SECRET = "the mother tongue of Ada Lovelace"
"""Text of a request, which nothing exported may hold."""

IDS = [[3, 14, 15, 9, 26, 5, 35, 8], [1, 2, 3, 4, 5, 6, 7, 8]]
"""Inputs of the models."""


class Base:
    """A base model's folder, and a delta of it."""

    def __init__(
        self,
        folder: Path,
        family: str = "gpt2",
        dtype: str = "float32",
        *,
        shard: str = "5GB",
        rank: int = 3,
    ) -> None:
        """Write a tiny model of a family and precision, and a delta of low rank."""
        self.dtype, self.rank = dtype, rank
        self.path, self.delta_path = folder / "base", folder / "delta.safetensors"
        editable = tiny_model(family, getattr(torch, dtype))
        editable.model.save_pretrained(self.path, max_shard_size=shard)
        editable.tokenizer.save_pretrained(self.path)
        (self.path / "requests.json").write_text(json.dumps([SECRET]))
        self.fingerprint = fingerprint_model(editable.model)
        draw = torch.Generator().manual_seed(0)
        self.delta = {}
        for layer in LAYERS:
            d_out, d_in = editable.widths(layer)
            left = torch.randn(d_out, rank, generator=draw)
            update = 0.02 * left @ torch.randn(rank, d_in, generator=draw)
            self.delta[editable.weight_name(layer)] = update
        self.write_delta()

    def write_delta(self, delta: Delta | None = None, **changes: object) -> Path:
        """Write the delta, or another one, with metadata changed; None drops an entry.

        Older files name neither the precision nor the model.
        """
        metadata: dict[str, object] = {
            "base": self.fingerprint,
            "dtype": self.dtype,
            "merge": "collabedit",
            "schedule": "layerwise",
            "rounds": 1,
            "requests": self.rank,
            "layers": list(LAYERS),
            "parties": 2,
        }
        metadata = {**metadata, **changes}
        named = {name: each for name, each in metadata.items() if each is not None}
        save_delta(self.delta if delta is None else delta, self.delta_path, named)
        return self.delta_path

    def load(self, dtype: str | None = None) -> nn.Module:
        """Load the base as transformers does."""
        return load(self.path, dtype or self.dtype)

    def logits(self) -> Tensor:
        """Compute the base's scores with the delta applied."""
        with applied(self.delta, self.load()) as edited:
            return ask(edited)


def load(folder: Path, dtype: str = "auto") -> nn.Module:
    """Load a folder as transformers does."""
    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.requires_grad_(False)


def ask(model: nn.Module) -> Tensor:
    """Compute the scores of a model."""
    scores: Tensor = model(input_ids=torch.tensor(IDS)).logits.detach()
    return scores


def weights(folder: Path, dtype: str = "auto") -> dict[str, Tensor]:
    """Load the parameters of a folder."""
    return dict(load(folder, dtype).named_parameters())


def assert_same_bits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Compare parameters: names, precision and every bit."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        pair = [each.contiguous().view(torch.uint8) for each in (tensor, theirs[name])]
        assert torch.equal(*pair), name


def texts_of(folder: Path) -> str:
    """Join the contents of the text files of a folder."""
    files = [path for path in folder.rglob("*") if path.suffix != ".safetensors"]
    return "\n".join(path.read_text() for path in files if path.is_file())


def ask_elsewhere(
    folder: Path, jobs: Mapping[str, Mapping[str, str]]
) -> dict[str, Tensor]:
    """Load models and compute scores in a new process without our code.

    Args:
        folder: Where it runs.
        jobs: By name a ``model`` folder, maybe a ``dtype`` and an ``adapter`` folder.
    """
    code = f"""
import json, sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
said = {{}}
for name, job in json.loads(sys.argv[1]).items():
    dtype = job.get("dtype", "auto")
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype)
    AutoTokenizer.from_pretrained(job["model"])("the harp")
    if "adapter" in job:
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, job["adapter"])
    said[name] = model(input_ids=torch.tensor({IDS})).logits.detach().contiguous()
assert not {{"editing", "sims", "server"}} & set(sys.modules)
save_file(said, "said.safetensors")
"""
    clean = {name: each for name, each in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", code, json.dumps(jobs)]
    assert folder.resolve() != ROOT
    subprocess.run(command, cwd=folder, env=clean, check=True, capture_output=True)
    return load_file(folder / "said.safetensors")
