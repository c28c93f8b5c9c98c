"""Families of language models: the names of the parts that editing needs.

A family is in the table once a tiny model of its kind keeps the laws of
`tests/editing/models/test_families.py`. Another one is found by its structure
(`editing.models.discovery`), and then its blocks are called as the model calls them.
"""

import sys

from transformers import PreTrainedConfig

from editing.base.errors import ModelError as ModelError
from editing.base.errors import ModelFilesError as ModelFilesError
from editing.base.settings import Settings

POSITION_FIELDS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
)
"""Fields of configurations that may hold the longest input of an unknown family."""


class Architecture(Settings):
    """Names of the modules of one family; ``{}`` is the block's number.

    A weight's orientation is not among them: the module's type gives it.

    Attributes:
        block: A transformer block; its output is the hidden state.
        down_projection: The edited module: keys are its inputs.
        final_norm: The norm after the last block; None if there is none.
        projection: A projection of hidden states after the norm, if there is one.
        head: From there to the vocabulary; None is the model's output embedding.
        positions: The configuration's field for the longest input, in tokens; None if
            the family has no limit.
        multiplier: The configuration's field that scores are multiplied by, if set.
        divisor: The one that they are divided by.
        soft_cap: The one for soft-capping them.
        windows: Whether blocks may run on a part of a row, with stored attention keys
            and values; else they run on full rows with the model's own arguments.
    """

    block: str
    down_projection: str
    final_norm: str | None
    projection: str | None = None
    head: str | None = None
    positions: str | None = "max_position_embeddings"
    multiplier: str | None = "logit_scale"
    divisor: str | None = "logits_scaling"
    soft_cap: str | None = "final_logit_softcapping"
    windows: bool = False


_LLAMA = Architecture(
    block="model.layers.{}",
    down_projection="model.layers.{}.mlp.down_proj",
    final_norm="model.norm",
    windows=True,
)
_GPT2 = Architecture(
    block="transformer.h.{}",
    down_projection="transformer.h.{}.mlp.c_proj",
    final_norm="transformer.ln_f",
    windows=True,
)
_GPTJ = _GPT2.model_copy(update={"down_projection": "transformer.h.{}.mlp.fc_out"})
_NEOX = Architecture(
    block="gpt_neox.layers.{}",
    down_projection="gpt_neox.layers.{}.mlp.dense_4h_to_h",
    final_norm="gpt_neox.final_layer_norm",
    windows=True,
)
_PHI = _LLAMA.model_copy(
    update={
        "down_projection": "model.layers.{}.mlp.fc2",
        "final_norm": "model.final_layernorm",
    }
)
_OPT = Architecture(
    block="model.decoder.layers.{}",
    down_projection="model.decoder.layers.{}.fc2",
    final_norm="model.decoder.final_layer_norm",
    projection="model.decoder.project_out",
    windows=True,
)
_FALCON = _GPT2.model_copy(
    update={"down_projection": "transformer.h.{}.mlp.dense_4h_to_h"}
)
_BLOOM = _FALCON.model_copy(update={"positions": None, "windows": False})
_MPT = Architecture(
    block="transformer.blocks.{}",
    down_projection="transformer.blocks.{}.ffn.down_proj",
    final_norm="transformer.norm_f",
    positions="max_seq_len",
    multiplier=None,
)
_STARCODER2 = _LLAMA.model_copy(
    update={"down_projection": "model.layers.{}.mlp.c_proj"}
)
_NANOCHAT = _LLAMA.model_copy(update={"down_projection": "model.layers.{}.mlp.fc2"})
_BIOGPT = Architecture(
    block="biogpt.layers.{}",
    down_projection="biogpt.layers.{}.fc2",
    final_norm="biogpt.layer_norm",
    windows=True,
)
_PERSIMMON = _LLAMA.model_copy(
    update={
        "down_projection": "model.layers.{}.mlp.dense_4h_to_h",
        "final_norm": "model.final_layernorm",
    }
)
_XGLM = _LLAMA.model_copy(
    update={"down_projection": "model.layers.{}.fc2", "final_norm": "model.layer_norm"}
)
_GEMMA3 = _LLAMA.model_copy(
    update={
        "block": "model.language_model.layers.{}",
        "down_projection": "model.language_model.layers.{}.mlp.down_proj",
        "final_norm": "model.language_model.norm",
    }
)

_LLAMA_LIKE = (
    *("llama", "mistral", "ministral", "ministral3", "qwen2", "qwen3", "phi3"),
    *("gemma", "gemma2", "gemma3_text", "vaultgemma", "olmo", "olmo2", "olmo3"),
    *("granite", "cohere", "cohere2", "glm", "glm4", "stablelm", "smollm3", "helium"),
    *("nemotron", "seed_oss", "arcee", "apertus", "exaone4", "cwm", "ernie4_5"),
    *("jais2", "hyperclovax", "hunyuan_v1_dense", "diffllama", "granite_swa", "doge"),
)
"""Families of other names whose parts have Llama's names."""

ARCHITECTURES: dict[str, Architecture] = dict.fromkeys(_LLAMA_LIKE, _LLAMA) | {
    "gpt2": _GPT2,
    "gptj": _GPTJ,
    "gpt_neox": _NEOX,
    "gpt_bigcode": _GPT2,
    "codegen": _GPTJ,
    "gpt_neo": _GPT2.model_copy(update={"windows": False}),
    "phi": _PHI,
    "opt": _OPT,
    "falcon": _FALCON,
    "bloom": _BLOOM,
    "mpt": _MPT,
    "starcoder2": _STARCODER2,
    "nanochat": _NANOCHAT,
    "biogpt": _BIOGPT,
    "persimmon": _PERSIMMON,
    "xglm": _XGLM,
    "gemma3": _GEMMA3,
}


def longest_input(config: PreTrainedConfig, known: Architecture | None) -> int:
    """Return the largest number of tokens of one input of such a model."""
    text = config.get_text_config()
    fields = POSITION_FIELDS if known is None else (known.positions,)
    for field in fields:
        length = getattr(text, field, None) if field else None
        if length is not None:
            return int(length)
    return sys.maxsize
