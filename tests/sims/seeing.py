"""Tiny vision-language checkpoints on disk, and deltas of their text models."""

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedModel

from editing.algebra.deltas import Delta, save_delta
from editing.algebra.fingerprints import fingerprint_model
from tests.sims.homes import load
from tests.tiny import tiny_tokenizer

TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

MULTIMODAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen3_5": (
        TEXT
        | {
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "layer_types": ["linear_attention", "full_attention"] * 2,
        },
        {
            "depth": 1,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 16,
            "out_hidden_size": 16,
        },
    ),
    "mllama": (
        TEXT | {"cross_attention_layers": [3]},
        {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "intermediate_size": 16,
            "image_size": 8,
            "patch_size": 4,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 32,
            "supported_aspect_ratios": [[1, 1]],
        },
    ),
    "gemma3": (
        TEXT | {"sliding_window": 4},
        {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 8,
            "image_size": 4,
            "patch_size": 2,
        },
    ),
}
"""Families of models that see: settings of the text model and of the vision tower."""


class Seeing:
    """A vision-language checkpoint on disk, and a delta of its text model."""

    def __init__(
        self,
        folder: Path,
        family: str,
        dtype: str = "float32",
        shard: str = "5GB",
    ) -> None:
        """Write random weights, and a delta as a run on the text model makes it."""
        self.path, self.delta_path = folder / "base", folder / "delta.safetensors"
        text, vision = MULTIMODAL[family]
        tokenizer = tiny_tokenizer()
        config_class: Any = CONFIG_MAPPING[family]
        config = config_class(
            text_config=text | {"vocab_size": len(tokenizer)}, vision_config=vision
        )
        (kind,) = {
            name
            for name in dir(transformers)
            if name.endswith("ForConditionalGeneration")
            and getattr(getattr(transformers, name), "config_class", None)
            is type(config)
        }
        torch.manual_seed(0)
        whole: PreTrainedModel = getattr(transformers, kind)(config)
        for weight in whole.parameters():
            weight.data.normal_(0, 0.2)
        self.kind = kind
        whole.to(getattr(torch, dtype)).save_pretrained(self.path, max_shard_size=shard)
        tokenizer.save_pretrained(self.path)
        model = load(self.path, dtype)
        draw = torch.Generator().manual_seed(1)
        names = [
            name
            for name, _ in model.named_parameters()
            if name.endswith(
                ("layers.1.mlp.down_proj.weight", "s.2.mlp.down_proj.weight")
            )
            and "vision" not in name
        ]
        self.delta: Delta = {
            name: 0.05 * torch.randn(model.get_parameter(name).shape, generator=draw)
            for name in names
        }
        assert len(names) == 2
        told = {"base": fingerprint_model(model), "dtype": dtype}
        save_delta(self.delta, self.delta_path, told)

    def tensors(self) -> dict[str, Tensor]:
        """Read what the base's files hold."""
        return tensors_of(self.path)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder's files of weights."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        found |= load_file(file)
    return found
