"""Laws of editable models: where their parts lie, and who they are."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, OPTConfig, OPTForCausalLM

from editing.architectures import (
    ARCHITECTURES,
    EditableModel,
    ModelError,
    load_editable_model,
    make_editable,
)
from editing.errors import InputError
from tests.editing.test_activations import ROUNDING
from tests.laws import assert_same
from tests.tiny import (
    NAMED,
    tiny_model,
    tiny_model_of_tuples,
    tiny_tokenizer,
    with_linear_projections,
)

FAMILIES = ("gpt2", "gptj", "llama")
IDS = torch.tensor([[1, 5, 3, 9]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the tiny model as any other one is saved."""
    path = tmp_path_factory.mktemp("model")
    model = tiny_model(dtype=torch.float32)
    model.model.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


def last_hidden(model: EditableModel) -> torch.Tensor:
    """Read what the last block gives."""
    seen: list[torch.Tensor] = []
    block = model.block(model.block_count - 1)
    handle = block.register_forward_hook(
        lambda _, __, out: seen.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    model.model(input_ids=IDS)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_says_what_the_model_says(family: str) -> None:
    """The norm and the head behind the last block are the model's own."""
    model = tiny_model(family)
    assert_same(
        model.logits(last_hidden(model)), model.model(input_ids=IDS).logits, ROUNDING
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_to_edit_is_in_evaluation_and_keeps_no_gradients(family: str) -> None:
    """Dropout would change keys, and gradients cost memory."""
    model = tiny_model(family)
    assert not any(module.training for module in model.model.modules())
    assert not any(each.requires_grad for each in model.model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_and_weights_are_counted_and_named(family: str) -> None:
    """Four blocks, and the edited parameter of each."""
    model = tiny_model(family)
    assert model.block_count == 4
    names = dict(model.model.named_parameters())
    for layer in range(4):
        weight = names[model.weight_name(layer)]
        assert weight is model.down_projection(layer).get_parameter("weight")


def test_blocks_inside_a_wrapper_are_counted() -> None:
    """The place of the number need not be the end of the name."""
    assert tiny_model_of_tuples().block_count == 4


@pytest.mark.parametrize("inner", [24, 16, 8])
def test_widths_are_told_by_the_module_and_not_by_the_shape(inner: int) -> None:
    """Keys wider than, as wide as, and narrower than the hidden state."""
    conv = tiny_model(inner=inner)
    assert conv.widths(1) == (16, inner)
    assert conv.down_projection(1).get_parameter("weight").shape == (inner, 16)
    linear = with_linear_projections(tiny_model(inner=inner))
    assert linear.widths(1) == (16, inner)
    assert linear.down_projection(1).get_parameter("weight").shape == (16, inner)


@pytest.mark.parametrize("layers", [[0], [3], [0, 1, 2, 3]])
def test_layers_of_the_model_are_accepted(layers: list[int]) -> None:
    """The first and the last included."""
    tiny_model().check_layers(layers)


@pytest.mark.parametrize(("layers", "outside"), [([1, 4], "4"), ([-1], "-1")])
def test_layers_outside_the_model_are_refused(layers: list[int], outside: str) -> None:
    """Say which there are."""
    with pytest.raises(InputError, match=rf"\[{outside}\] lie .* blocks 0 to 3"):
        tiny_model().check_layers(layers)


def test_the_fingerprint_changes_with_any_parameter() -> None:
    """And with nothing else: two loads of one model have the same."""
    first = tiny_model()
    assert tiny_model().fingerprint == first.fingerprint
    for name, parameter in first.model.named_parameters():
        saved = parameter.clone()
        parameter.view(-1)[-1] += 1e-9
        changed = EditableModel(first.model, first.tokenizer, first.architecture)
        assert changed.fingerprint != first.fingerprint, name
        parameter.copy_(saved)


def test_the_fingerprint_tells_the_precision() -> None:
    """Two parties that compute in different ones do not get equal keys."""
    half = tiny_model(dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.fingerprint != tiny_model(dtype=torch.float32).fingerprint


def test_the_tokenizer_has_a_fingerprint() -> None:
    """A word more is another tokenizer."""
    model = tiny_model()
    grown = tiny_tokenizer()
    grown.add_tokens(["Oviedo"])
    other = make_editable(model.model, grown)
    assert tiny_model().tokenizer_fingerprint == model.tokenizer_fingerprint
    assert other.tokenizer_fingerprint != model.tokenizer_fingerprint


def test_a_folder_is_loaded_as_it_was_saved(folder: Path) -> None:
    """Weights, tokenizer, context length."""
    loaded, saved = load_editable_model(str(folder)), tiny_model(dtype=torch.float32)
    assert loaded.fingerprint == saved.fingerprint
    assert loaded.tokenizer_fingerprint == saved.tokenizer_fingerprint
    assert loaded.longest_input == 64
    assert loaded.device == torch.device("cpu")


def test_the_precision_is_a_setting(folder: Path) -> None:
    """Whatever was saved."""
    loaded = load_editable_model(str(folder), dtype="float64")
    assert loaded.dtype == torch.float64
    assert {each.dtype for each in loaded.model.parameters()} == {torch.float64}


def test_a_loaded_model_has_the_modules_that_are_named(folder: Path) -> None:
    """As a model that is at hand."""
    names = NAMED["gptj"].model_copy(
        update={"rewrite_module_tmp": "transformer.h.{}.attn.c_proj"}
    )
    loaded = load_editable_model(str(folder), hyperparameters=names)
    assert loaded.weight_name(2) == "transformer.h.2.attn.c_proj.weight"


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    """In one line that says what was wanted."""
    with pytest.raises(ModelError, match=r"no causal language model.*config") as caught:
        load_editable_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """A configuration alone is no model."""
    text = (folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(text)
    for path in folder.glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="no causal language model"):
        load_editable_model(str(tmp_path))


def test_weights_that_are_cut_off_are_refused(folder: Path, tmp_path: Path) -> None:
    """As after a download that broke."""
    for path in folder.iterdir():
        content = path.read_bytes()
        half = content[: len(content) // 2]
        cut = path.suffix == ".safetensors"
        (tmp_path / path.name).write_bytes(half if cut else content)
    with pytest.raises(ModelError, match="no causal language model"):
        load_editable_model(str(tmp_path))


def small_opt() -> OPTForCausalLM:
    """Make a model of a family that is not known."""
    config = OPTConfig(
        vocab_size=90,
        hidden_size=16,
        num_hidden_layers=2,
        ffn_dim=16,
        num_attention_heads=2,
        word_embed_proj_dim=16,
    )
    return OPTForCausalLM(config)


def test_an_unknown_family_is_refused_by_name() -> None:
    """Say which are known, and what would make it known."""
    known = ", ".join(sorted(ARCHITECTURES))
    with pytest.raises(ModelError, match=f"`opt` cannot be edited yet; known: {known}"):
        make_editable(small_opt(), tiny_tokenizer())


def test_an_unknown_family_is_known_by_its_modules() -> None:
    """Named as in MEMIT's files; half of the names are not enough."""
    names = NAMED["llama"].model_copy(
        update={
            "layer_module_tmp": "model.decoder.layers.{}",
            "rewrite_module_tmp": "model.decoder.layers.{}.fc2",
            "ln_f_module": "model.decoder.final_layer_norm",
        }
    )
    assert make_editable(small_opt(), tiny_tokenizer(), names).widths(1) == (16, 16)
    half = names.model_copy(update={"ln_f_module": None})
    with pytest.raises(ModelError, match="`opt` cannot be edited yet"):
        make_editable(small_opt(), tiny_tokenizer(), half)


def test_names_override_what_is_known_of_a_family() -> None:
    """One of them alone, the others staying."""
    names = NAMED["gptj"].model_copy(
        update={
            "rewrite_module_tmp": "transformer.h.{}.attn.c_proj",
            "layer_module_tmp": None,
            "ln_f_module": None,
        }
    )
    model = make_editable(tiny_model().model, tiny_tokenizer(), names)
    assert model.weight_name(2) == "transformer.h.2.attn.c_proj.weight"
    assert model.architecture.block == ARCHITECTURES["gpt2"].block
    assert model.longest_input == 64


def test_a_tokenizer_without_offsets_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The subject's last token could not be found."""
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ModelError, match="no offsets"):
        make_editable(tiny_model().model, tokenizer)


def test_a_model_that_reads_both_ways_is_refused() -> None:
    """Padding behind a row would reach it, and its family is not known."""
    config = BertConfig(
        vocab_size=90,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        is_decoder=True,
    )
    with pytest.raises(ModelError, match="`bert` cannot be edited yet"):
        make_editable(BertLMHeadModel(config), tiny_tokenizer())
