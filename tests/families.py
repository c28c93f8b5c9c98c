"""A tiny random model of every family in the table, and of some of their variants."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

WINDOW = 4
"""Tokens that sliding attention sees; the tests' prompts are longer."""

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}

_SLIDING: dict[str, Any] = {"sliding_window": WINDOW}
_ALTERNATING = _SLIDING | {"layer_types": ["sliding_attention", "full_attention"] * 2}
_OLD_NAMES: dict[str, Any] = {
    "n_embd": 16,
    "n_layer": 4,
    "n_head": 2,
    "n_inner": 24,
    "n_positions": 64,
}
_CAPPED = {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 1.0}
_SCALED: dict[str, Any] = {
    "logits_scaling": 3.0,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.7,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "llama_4_scaling_beta": 0.1,
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _OLD_NAMES),
    "gptj": ("gptj", _OLD_NAMES | {"rotary_dim": 4}),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox, one after the other": ("gpt_neox", {"use_parallel_residual": False}),
    "gpt_neo": (
        "gpt_neo",
        {
            "num_layers": 4,
            "num_heads": 2,
            "intermediate_size": 24,
            "attention_types": [[["global", "local"], 2]],
            "window_size": WINDOW,
            "max_position_embeddings": 64,
        },
    ),
    "gpt_bigcode": ("gpt_bigcode", _OLD_NAMES),
    "codegen": ("codegen", _OLD_NAMES | {"n_head": 4, "rotary_dim": 2}),
    "llama": ("llama", {}),
    "llama, tied and scaled": (
        "llama",
        {"tie_word_embeddings": True, "rope_parameters": _LLAMA3},
    ),
    "mistral": ("mistral", _SLIDING),
    "ministral": ("ministral", _ALTERNATING),
    "ministral3": ("ministral3", {"rope_parameters": _YARN}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True, "vocab_size": 80}),
    "qwen2, sliding": (
        "qwen2",
        _SLIDING
        | {"use_sliding_window": True, "max_window_layers": 2, "vocab_size": 80},
    ),
    "qwen3": ("qwen3", {}),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", _ALTERNATING | _CAPPED),
    "gemma3_text": ("gemma3_text", _ALTERNATING | {"final_logit_softcapping": 2.0}),
    "gemma3_text, uncapped": ("gemma3_text", _ALTERNATING),
    "gemma3_text, capped": ("gemma3_text", _ALTERNATING | _CAPPED),
    "vaultgemma": ("vaultgemma", _ALTERNATING | _CAPPED),
    "phi": ("phi", {}),
    "phi3": ("phi3", _SLIDING),
    "opt": ("opt", {"ffn_dim": 24, "word_embed_proj_dim": 16}),
    "opt, narrow": (
        "opt",
        {"ffn_dim": 24, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
    ),
    "stablelm": ("stablelm", {}),
    "falcon": ("falcon", {"ffn_hidden_size": 24}),
    "falcon, with ALiBi": ("falcon", {"ffn_hidden_size": 24, "alibi": True}),
    "bloom": ("bloom", {"n_layer": 4, "n_head": 2}),
    "mpt": ("mpt", {"d_model": 16, "n_layers": 4, "n_heads": 2, "max_seq_len": 64}),
    "olmo": ("olmo", {"clip_qkv": 2.0}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", _ALTERNATING),
    "granite": ("granite", _SCALED),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 1, 0, 1]}),
    "cohere": ("cohere", {"logit_scale": 0.25}),
    "cohere2": ("cohere2", _ALTERNATING | {"logit_scale": 0.25}),
    "starcoder2": ("starcoder2", _SLIDING),
    "glm": ("glm", {}),
    "glm4": ("glm4", {}),
    "helium": ("helium", {}),
    "nemotron": ("nemotron", {}),
    "seed_oss": ("seed_oss", {}),
    "arcee": ("arcee", {}),
    "apertus": ("apertus", {}),
    "exaone4": ("exaone4", _ALTERNATING),
    "cwm": ("cwm", _ALTERNATING),
    "ernie4_5": ("ernie4_5", {}),
    "jais2": ("jais2", {}),
    "hyperclovax": ("hyperclovax", {}),
    "persimmon": ("persimmon", {}),
    "nanochat": ("nanochat", {"final_logit_softcapping": 2.0}),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", {}),
    "diffllama": ("diffllama", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "granite_swa": ("granite_swa", _SCALED | _SLIDING),
    "doge": ("doge", {}),
    "biogpt": ("biogpt", {}),
    "xglm": (
        "xglm",
        {"d_model": 16, "ffn_dim": 24, "attention_heads": 2, "num_layers": 4},
    ),
    "gemma3": (
        "gemma3",
        {
            "text_config": SIZES | _ALTERNATING | {"vocab_size": 0},
            "vision_config": {
                "hidden_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 8,
                "image_size": 4,
                "patch_size": 2,
            },
            "mm_tokens_per_image": 4,
        },
    ),
}
"""Variant: its family, and settings apart from the sizes that all have."""

OWN_SIZES = {
    "gpt_neo",
    "mpt",
    "xglm",
    "gpt2",
    "gptj",
    "codegen",
    "gpt_bigcode",
    "bloom",
}
"""Families that call the sizes by other names."""

SINGLE_ONLY = {"gemma2", "gemma3_text, capped", "granite_swa", "vaultgemma", "xglm"}
"""Variants that transformers cannot run in float64, whose masks overflow in single."""


def random_model(variant: str, words: int) -> PreTrainedModel:
    """Make a model of four blocks, 16 wide, with torch's generator as it stands."""
    family, settings = VARIANTS[variant]
    ids = {name: SIZES[name] for name in SIZES if name.endswith("_token_id")}
    sizes = ids | {"hidden_size": 16} if family in OWN_SIZES else SIZES
    if family in {"falcon", "biogpt"}:
        sizes = {name: size for name, size in sizes.items() if name != "head_dim"}
    values = sizes | {"vocab_size": words} | settings
    if "text_config" in values:
        del values["vocab_size"]
        values["text_config"] = values["text_config"] | {"vocab_size": words}
    config = CONFIG_MAPPING[family](**values)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=torch.float64
    )
    return model
