"""Names that a model does not have are met with those that are nearest."""

import pytest
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from editing.hyperparameters.config import Hyperparameters
from editing.hyperparameters.presets import read_preset
from editing.models.families import ModelError
from editing.models.loading import make_editable
from editing.models.module_names import FORMER_HEADS, nearest_modules
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("transformer.h.{}.mlp.c_prj", "transformer.h.{}.mlp.c_proj"),
        ("transformer.blocks.{}", "transformer.h.{}"),
        ("transformer.lnf", "transformer.ln_f"),
        ("lm_heads", "lm_head"),
    ],
)
def test_the_nearest_name_comes_first(name: str, nearest: str) -> None:
    """With the block's number left open, as it was asked for."""
    said = nearest_modules(tiny_model().model, name)
    assert said.startswith(f"the nearest that it has are {nearest}")


def test_a_name_like_no_other_is_met_with_some() -> None:
    """So that one sees how such a model's names begin."""
    said = nearest_modules(tiny_model().model, "@")
    assert (
        said == "its modules begin with transformer, transformer.wte, transformer.wpe"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"rewrite_module_tmp": "transformer.h.{}.mlp.down_proj"},
        {"layer_module_tmp": "model.layers.{}"},
        {"ln_f_module": "model.norm"},
        {"lm_head_module": "lm_heads"},
    ],
    ids=str,
)
def test_a_model_without_a_named_module_is_refused(wrong: dict[str, str]) -> None:
    """By the hyperparameter, with the nearest names."""
    whole = tiny_model()
    (field,), (name,) = wrong, wrong.values()
    with pytest.raises(ModelError) as caught:
        make_editable(
            whole.model, whole.tokenizer, Hyperparameters(layers=(1,), **wrong)
        )
    assert f"`{field}` '{name}'" in str(caught.value)
    assert "nearest that it has are" in str(caught.value)


def test_a_head_by_its_former_name_is_found() -> None:
    """MEMIT's files call GPT-NeoX's ``embed_out``, and this release ``lm_head``."""
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=60,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        )
    )
    named = read_preset("gpt-neox-20b").parameters
    assert named.lm_head_module in FORMER_HEADS
    assert named.lm_head_module not in dict(model.named_modules())
    editable = make_editable(model, tiny_tokenizer(), named)
    assert editable.weight_name(1) == "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"


def test_names_are_the_models_own() -> None:
    """Each name that is proposed exists."""
    model = tiny_model().model
    said = nearest_modules(model, "transformer.h.{}.attn.c_atn")
    for name in said.rpartition(" are ")[2].split(", "):
        model.get_submodule(name.format(0))
