"""A model's size from its configuration alone; no weight is read."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from editing.algebra.deltas import stores_transposed
from editing.base.errors import InputError
from editing.files.model_json import check_json_files
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig
from editing.hyperparameters.presets import match_preset, read_preset
from editing.models.discovery import discover, settle
from editing.models.families import ARCHITECTURES
from editing.models.loading import first_line
from editing.sources.embedded import resolve_model
from editing.sources.own_code import explain_own_code, runs_own_code

PUBLISHED: dict[str, PreTrainedConfig] = {
    "gpt2-xl": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
    "gpt-j-6b": GPTJConfig(),
    "llama-3-8b": LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
    ),
    "qwen2.5-7b": Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
    ),
}
"""Configurations as they were published, by the name of their preset."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The facts of a model that sizes depend on.

    Attributes:
        name: What it is called.
        parameters: How many numbers its weights hold.
        d_out: Width of the hidden state.
        d_in: Width of the keys.
        layers: The edited blocks.
        blocks: How many blocks there are.
    """

    name: str
    parameters: int
    d_out: int
    d_in: int
    layers: tuple[int, ...]
    blocks: int


def read_shape(model: str, layers: tuple[int, ...] | None = None) -> ModelShape:
    """Find a model's shape by the name of a published one, or by its folder.

    An unknown model, unknown edited blocks, or a block that does not exist are an
    `InputError`.

    Args:
        model: A name of `PUBLISHED`, a folder with a config.json, or ``embedded``.
        layers: The edited blocks; those of the model's own hyperparameters, or of the
            preset of its name, if not given.
    """
    model = resolve_model(model)
    name = match_preset(model)
    if name in PUBLISHED and not Path(model).is_dir():
        config = PUBLISHED[name]
        chosen = layers or tuple(read_preset(name).parameters.layers)
    else:
        config = _read_config(model)
        table = EditingConfig(layers=layers)
        chosen = choose_hyperparameters(table, model).parameters.layers
    return _measure(name or Path(model).name, config, chosen)


def _read_config(path: str) -> PreTrainedConfig:
    check_json_files(path)
    try:
        own = runs_own_code(path)
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            path, trust_remote_code=own
        )
    except Exception as error:  # the library takes much of a file for granted
        reason = explain_own_code(error) or first_line(error)
        raise InputError(
            f"--model {path!r}: no configuration of a model can be read ({reason}). "
            f"Wanted {', '.join(PUBLISHED)}, or a folder with a config.json."
        ) from None
    return config


def _measure(
    name: str, config: PreTrainedConfig, layers: tuple[int, ...]
) -> ModelShape:
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, trust_remote_code=runs_own_code(str(config.name_or_path))
        )
    known = ARCHITECTURES.get(str(config.model_type))
    parts = discover(model, {}) if known is None else settle(model, known, {})
    blocks = config.get_text_config().num_hidden_layers
    outside = [layer for layer in layers if not 0 <= layer < blocks]
    if outside or not layers:
        raise InputError(
            f"--layers: {outside or 'none'} of the model's blocks, which are 0 to "
            f"{blocks - 1}; name some of them, as 3,4,5"
        )
    projection = model.get_submodule(parts.down_projection.format(layers[0]))
    rows, columns = projection.get_parameter("weight").shape
    transposed = stores_transposed(projection)
    d_out, d_in = (columns, rows) if transposed else (rows, columns)
    count = sum(each.numel() for each in model.parameters())
    return ModelShape(name, count, d_out, d_in, tuple(layers), blocks)
