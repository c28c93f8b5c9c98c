"""Laws of presets: each parses, says where it is from, and is found by model names."""

import re

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from editing.base.errors import InputError
from editing.hyperparameters.config import MODULE_FIELDS, Hyperparameters
from editing.hyperparameters.presets import (
    FOLDER,
    is_preset,
    match_preset,
    preset_names,
    read_preset,
)
from editing.models.loading import make_editable
from tests.editing.hyperparameters.test_files import OPTIONS
from tests.tiny import WORDS, tiny_tokenizer

BLOCKS = {
    "gpt-j-6b": 28,
    "gpt-neox-20b": 44,
    "gpt2-large": 36,
    "gpt2-medium": 24,
    "gpt2-xl": 48,
    "llama-2-7b": 32,
    "llama-3-8b": 32,
    "mistral-7b": 32,
    "qwen2-7b": 28,
    "qwen2.5-7b": 28,
}
"""Blocks of the published models, by their configurations."""

FAMILIES = {
    "gpt-j": "gptj",
    "gpt-neox": "gpt_neox",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
}
"""What transformers calls each preset's architecture, by the beginning of its name."""

SIZES = {
    "vocab_size": len(WORDS) + 1,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "rotary_dim": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

UNPUBLISHED = {"gpt2-large": {"mom2_update_weight"}}
"""Fields that nobody published, so that defaults stand."""


def test_the_presets_are_those_that_are_promised() -> None:
    """One data file each."""
    assert preset_names() == tuple(BLOCKS)
    assert len(list(FOLDER.iterdir())) == len(BLOCKS)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_parses_and_says_where_its_values_are_from(name: str) -> None:
    """No value without a source, and the last block is that of the model's size."""
    preset = read_preset(name)
    found = preset.parameters
    assert found.v_loss_layer == BLOCKS[name] - 1
    assert found.layers[-1] < BLOCKS[name]
    assert preset.source.startswith("https://github.com/")
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", preset.model)
    assert preset.sources.keys() <= preset.values.keys()
    missing = Hyperparameters.model_fields.keys() - preset.values.keys() - set(OPTIONS)
    assert missing == UNPUBLISHED.get(name, set())
    assert {found.model_dump()[field] for field in MODULE_FIELDS}.isdisjoint({None})
    assert bool(preset.note) or not missing


def tiny(family: str) -> PreTrainedModel:
    """Make a small random model as this release of transformers makes large ones."""
    config = CONFIG_MAPPING[family]()
    for field, value in SIZES.items():
        if hasattr(config, field):
            setattr(config, field, value)
    config.sliding_window = None
    if hasattr(config, "layer_types"):
        config.layer_types = ["full_attention"] * config.num_hidden_layers
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_names_modules_that_its_models_have(name: str) -> None:
    """The parts that it names are those that are known of the family."""
    family = next(FAMILIES[start] for start in FAMILIES if name.startswith(start))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = tiny(family)
    known = make_editable(model, tiny_tokenizer())
    named = make_editable(model, tiny_tokenizer(), read_preset(name).parameters.naming)
    assert named.weight_name(1) == known.weight_name(1)
    assert named.block(1) is known.block(1)
    hidden = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(named.logits(hidden), known.logits(hidden))


def test_a_preset_is_named_in_any_case() -> None:
    """And says what it is called."""
    assert is_preset("GPT2-XL")
    assert read_preset("GPT2-XL") == read_preset("gpt2-xl")
    assert not is_preset("gpt2-xl.toml")


@pytest.mark.parametrize(
    ("name", "said"),
    [("gpt2-xxl", "did you mean 'gpt2-xl'"), ("?", "presets are gpt-j-6b, gpt-neox")],
)
def test_an_unknown_preset_is_refused_with_the_nearest(name: str, said: str) -> None:
    """Or all of them."""
    with pytest.raises(InputError, match=re.escape(said)):
        read_preset(name)


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        ("gpt2-xl", "gpt2-xl"),
        ("openai-community/gpt2-xl", "gpt2-xl"),
        ("openai-community/gpt2-medium", "gpt2-medium"),
        ("/data/models/gpt2-large/", "gpt2-large"),
        ("./hugging_cache/gpt-j-6B", "gpt-j-6b"),
        ("EleutherAI/gpt-j-6B", "gpt-j-6b"),
        ("EleutherAI/gpt-neox-20b", "gpt-neox-20b"),
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
        ("./hugging_cache/llama2-7b", "llama-2-7b"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
        ("Llama3-8B", "llama-3-8b"),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b"),
        ("Qwen/Qwen2-7B-Instruct", "qwen2-7b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("C:\\models\\gpt2-xl", "gpt2-xl"),
        ("/c/models--openai-community--gpt2-xl/snapshots/15ea56", "gpt2-xl"),
        ("gpt2", None),
        ("meta-llama/Llama-2-13b-hf", None),
        ("meta-llama/Llama-3.1-8B", None),
        ("meta-llama/Llama-27b", None),
        ("Qwen/Qwen2.5-Math-7B", None),
        ("Qwen/Qwen2.5-7B-Instruct-1M", None),
        ("gpt2-xl-german", None),
        ("/models/gpt2-xl/mine", None),
        ("", None),
    ],
)
def test_a_model_finds_its_preset_by_name(model: str, preset: str | None) -> None:
    """Owners, capitals, versions and tuning do not matter; size and series do."""
    assert match_preset(model) == preset
