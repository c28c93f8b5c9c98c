"""Laws of discovery: what the structure shows, and what it leaves open."""

import re

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    PreTrainedModel,
)

from editing.hyperparameters.config import Hyperparameters
from editing.hyperparameters.presets import read_preset
from editing.memit.targets import compute_targets
from editing.models.discovery import FORMER_HEADS, discover, nearest_modules
from editing.models.families import ARCHITECTURES, ModelError
from editing.models.loading import make_editable
from tests.families import SIZES, VARIANTS, random_model
from tests.laws import assert_same
from tests.naive import naive_target
from tests.tiny import (
    PARAMETERS,
    TEMPLATES,
    tiny_model,
    tiny_requests,
    tiny_tokenizer,
)


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"opt, narrow", "gemma3"}))
def test_the_structure_tells_what_the_table_says(variant: str) -> None:
    """Attention's own projections are not mistaken for the one after the MLP."""
    model = random_model(variant, 9)
    known, found = ARCHITECTURES[VARIANTS[variant][0]], discover(model, {})
    for part in ("block", "down_projection", "final_norm"):
        assert getattr(found, part) == getattr(known, part)
    assert not found.windows


def of_no_family(variant: str) -> PreTrainedModel:
    """Make a model whose type is not in the table."""
    model = tiny_model(variant).model
    vars(model.config)["model_type"] = "unheard-of"
    return model


@pytest.mark.parametrize("variant", ["biogpt", "gpt2", "bloom", "cohere"])
def test_a_family_that_is_not_in_the_table_gets_its_targets(variant: str) -> None:
    """Its blocks are called as the model calls them."""
    model = make_editable(of_no_family(variant), tiny_tokenizer())
    assert model.weight_name(2) == tiny_model(variant).weight_name(2)
    assert not model.architecture.windows
    requests = tiny_requests(2)
    found = compute_targets(model, requests, TEMPLATES[:2], PARAMETERS)
    for each, request in zip(found.states, requests, strict=True):
        expected = naive_target(model, request, TEMPLATES[:2], PARAMETERS)
        assert_same(each, expected.target, 1e-6)


def llama_of_another_name(**changes: int) -> LlamaForCausalLM:
    """Make a model of an unknown type."""
    model = LlamaForCausalLM(LlamaConfig(**(SIZES | {"vocab_size": 90} | changes)))
    vars(model.config)["model_type"] = "unheard-of"
    return model


def test_keys_as_wide_as_the_hidden_state_leave_it_open() -> None:
    """Then the projection into the MLP is as wide; a name settles it."""
    model = llama_of_another_name(intermediate_size=16)
    said = (
        "`unheard-of`.*down projection.*considered: model.layers.{}.mlp.gate_proj, "
        "model.layers.{}.mlp.up_proj, model.layers.{}.mlp.down_proj"
        ".*`rewrite_module_tmp`"
    )
    with pytest.raises(ModelError, match=said):
        make_editable(model, tiny_tokenizer())
    names = Hyperparameters(
        layers=(1,), rewrite_module_tmp="model.layers.{}.mlp.down_proj"
    )
    assert make_editable(model, tiny_tokenizer(), names.naming).widths(1) == (16, 16)


def test_experts_leave_it_open() -> None:
    """Which of them would be edited?"""
    sizes = SIZES | {"vocab_size": 90, "num_local_experts": 2}
    model = AutoModelForCausalLM.from_config(MixtralConfig(**sizes))
    with pytest.raises(ModelError, match=r"`mixtral`.*blocks hold experts") as caught:
        make_editable(model, tiny_tokenizer())
    said = str(caught.value)
    assert "nothing that could be it" not in said
    seen = (
        "no linear module, so not to be edited: "
        "model.layers.{}.mlp.gate (weight 2x16), "
        "model.layers.{}.mlp.experts (gate_up_proj 2x48x16, down_proj 2x16x24); "
        "in attention: model.layers.{}.self_attn.q_proj (weight 16x16), "
    )
    assert f"considered: {seen}" in said
    assert "o_proj (weight 16x16)). Name it" in said


def test_experts_that_are_modules_are_named_once() -> None:
    """And what is next to them, of the wanted width and of another."""
    model = llama_of_another_name()
    for block in model.model.layers:
        experts = [
            torch.nn.ModuleDict(
                {"up": torch.nn.Linear(16, 20), "down": torch.nn.Linear(20, 16)}
            )
            for _ in range(3)
        ]
        block.mlp.experts = torch.nn.ModuleList(experts)
    said = (
        "could be it: model.layers.{}.mlp.down_proj (weight 16x24), "
        "model.layers.{}.mlp.experts.*.down (weight 16x20); "
        "output not 16 wide: model.layers.{}.mlp.gate_proj (weight 24x16), "
        "model.layers.{}.mlp.up_proj (weight 24x16), "
        "model.layers.{}.mlp.experts.*.up (weight 20x16); in attention: "
    )
    with pytest.raises(ModelError, match=re.escape(f"considered: {said}")):
        make_editable(model, tiny_tokenizer())


def test_linear_modules_of_another_width_are_named_with_theirs() -> None:
    """Where none will do, one sees why."""
    model = llama_of_another_name()
    for block in model.model.layers:
        block.mlp = torch.nn.Sequential(torch.nn.Linear(16, 24))
    said = (
        "(considered: output not 16 wide: model.layers.{}.mlp.0 (weight 24x16); "
        "in attention: model.layers.{}.self_attn.q_proj (weight 16x16), "
    )
    with pytest.raises(ModelError, match=re.escape(said)):
        make_editable(model, tiny_tokenizer())


def test_a_list_that_is_as_long_as_the_blocks_leaves_them_open() -> None:
    """Both are named, and a name settles it."""
    model = llama_of_another_name()
    model.model.others = torch.nn.ModuleList([torch.nn.Identity()] * 4)
    said = re.escape("considered: model.layers, model.others") + ".*`layer_module_tmp`"
    with pytest.raises(ModelError, match=said):
        discover(model, {})
    assert discover(model, {"block": "model.layers.{}"}).final_norm == "model.norm"


@pytest.mark.parametrize(
    ("part", "setting"), [("norm", "ln_f_module"), ("head", "lm_head_module")]
)
def test_what_is_not_there_is_asked_for(part: str, setting: str) -> None:
    """Nothing is guessed."""
    model = llama_of_another_name()
    if part == "norm":
        model.model.norm = torch.nn.Identity()
    else:
        del model.lm_head
        model.lm_head = None
    with pytest.raises(ModelError, match=f"nothing that could be it.*`{setting}`"):
        discover(model, {})


def test_scores_that_the_head_does_not_tell_are_refused() -> None:
    """A family may do more to them than is known here."""
    model = llama_of_another_name()
    model.register_forward_hook(lambda _, __, output: _doubled(output))
    with pytest.raises(ModelError, match="The model's scores are not those"):
        make_editable(model, tiny_tokenizer())


def _doubled(output: object) -> object:
    output.logits = 2 * output.logits  # type: ignore[attr-defined]
    return output


def test_a_model_that_reads_both_ways_is_refused() -> None:
    """Padding after a row would reach it."""
    config = BertConfig(
        vocab_size=90,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
    )
    names = Hyperparameters(
        layers=(1,),
        ln_f_module="cls.predictions.transform",
        lm_head_module="cls.predictions.decoder",
    )
    with pytest.raises(ModelError, match="`bert` read ahead"):
        make_editable(BertLMHeadModel(config), tiny_tokenizer(), names.naming)


def test_the_table_is_trusted_and_its_models_are_not_run() -> None:
    """Loading is not slower for what is known."""
    model = tiny_model("llama").model
    ran: list[object] = []
    handle = model.register_forward_hook(lambda *_: ran.append(1))
    make_editable(model, tiny_tokenizer())
    assert ran == []
    names = Hyperparameters(layers=(1,), ln_f_module="model.norm")
    make_editable(model, tiny_tokenizer(), names.naming)
    assert ran == [1]
    handle.remove()


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
            whole.model,
            whole.tokenizer,
            Hyperparameters(layers=(1,), **wrong).naming,
        )
    assert f"`{field}` '{name}'" in str(caught.value)
    assert "nearest that it has are" in str(caught.value)


def test_a_head_by_its_former_name_is_found() -> None:
    """MEMIT's files call GPT-NeoX's ``embed_out``, and this release ``lm_head``."""
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=90,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        )
    )
    named = read_preset("gpt-neox-20b").parameters
    assert named.lm_head_module in FORMER_HEADS
    assert named.lm_head_module not in dict(model.named_modules())
    editable = make_editable(model, tiny_tokenizer(), named.naming)
    assert editable.weight_name(1) == "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"


def test_names_are_the_models_own() -> None:
    """Each name that is proposed exists."""
    model = tiny_model().model
    said = nearest_modules(model, "transformer.h.{}.attn.c_atn")
    for name in said.rpartition(" are ")[2].split(", "):
        model.get_submodule(name.format(0))
