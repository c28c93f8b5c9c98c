"""Laws of editable models: where their parts lie, and who they are."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from editing.algebra.deltas import applied
from editing.base.errors import InputError
from editing.hyperparameters.config import Hyperparameters, Plan
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone
from editing.memit.targets import compute_targets
from editing.models.families import ARCHITECTURES
from editing.models.loading import (
    EditableModel,
    ModelError,
    load_editable_model,
    load_tokenizer,
    make_editable,
)
from tests.editing.models.test_activations import ROUNDING
from tests.laws import assert_same, draw_prior
from tests.tiny import (
    NAMED,
    PARAMETERS,
    TEMPLATES,
    tiny_model,
    tiny_model_of_tuples,
    tiny_requests,
    tiny_tokenizer,
    with_linear_projections,
)

FAMILIES = ("gpt2", "gptj", "llama")
IDS = torch.tensor([[1, 5, 3, 9]])
PRIORS = {layer: draw_prior(layer, 24) for layer in PARAMETERS.layers}


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


def test_a_tokenizer_is_loaded_without_the_weights(
    folder: Path, tmp_path: Path
) -> None:
    """With the longest input, for a family that only its structure tells, too."""
    assert load_tokenizer(str(folder))[1] == 64
    for path in folder.glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = '{"model_type": "bert", "max_position_embeddings": 33}'
    (tmp_path / "config.json").write_text(text)
    assert load_tokenizer(str(tmp_path))[1] == 33


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


def test_weights_of_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    """As when a configuration was mixed up."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (folder / "config.json").read_text()
    assert '"n_inner": 24' in text
    (tmp_path / "config.json").write_text(
        text.replace('"n_inner": 24', '"n_inner": 32')
    )
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


def test_a_model_without_its_weights_is_refused() -> None:
    """As they are when they were left on disk for want of room."""
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ModelError, match=r"have no room.*`model\.dtype`"):
        make_editable(model, tiny_tokenizer())


def test_capped_attention_is_refused_in_double_precision() -> None:
    """Its mask would be minus infinity, and whole rows of it no number."""
    for variant in ("gemma2", "gemma3_text, capped", "granite_swa"):
        with pytest.raises(ModelError, match="to float32"):
            tiny_model(variant, torch.float64)
    assert tiny_model("gemma3_text", torch.float64).dtype == torch.float64


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


def named(model: EditableModel, **names: str) -> EditableModel:
    """Make a model editable again, with names of its modules."""
    parameters = Hyperparameters.model_validate({"layers": [1]} | names)
    return make_editable(model.model, model.tokenizer, parameters)


@pytest.mark.parametrize("family", ["llama", "gptj", "opt", "gpt_neox"])
def test_names_as_in_published_files_change_nothing(family: str) -> None:
    """All of them given, the head's by the name that its release had."""
    model = tiny_model(family)
    parts = model.architecture
    again = named(
        model,
        layer_module_tmp=parts.block,
        rewrite_module_tmp=parts.down_projection,
        ln_f_module=str(parts.final_norm),
        lm_head_module="embed_out" if family == "gpt_neox" else "lm_head",
    )
    assert_same(again.logits(last_hidden(again)), model.logits(last_hidden(model)))


def test_an_embedding_may_be_named_as_the_head() -> None:
    """As MEMIT's files for GPT-2 do, whose two are one."""
    model = tiny_model()
    again = named(model, lm_head_module="transformer.wte")
    assert_same(again.logits(last_hidden(again)), model.logits(last_hidden(model)))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"layer_module_tmp": "model.layers.{}"}, r"`layer_module_tmp` 'model.*`gpt2`"),
        ({"rewrite_module_tmp": "transformer.h.{}.mlp"}, "Cannot edit a GPT2MLP"),
        ({"rewrite_module_tmp": "transformer.h.1.mlp.c_proj"}, "the block's number"),
        ({"ln_f_module": "transformer.h.0.ln_1"}, "The model's scores are not those"),
        ({"lm_head_module": "transformer.wpe"}, "The model's scores are not those"),
    ],
    ids=str,
)
def test_names_of_other_modules_are_refused(names: dict[str, str], said: str) -> None:
    """Of none, of one that is no projection, and of one that is another."""
    with pytest.raises(ModelError, match=said):
        named(tiny_model(), **names)


@pytest.mark.parametrize("family", ["gemma2", "cohere", "granite", "gptj"])
def test_scores_are_bent_as_the_family_bends_them(family: str) -> None:
    """Without it they would be others: caps, scales, and a head's bias count."""
    model = tiny_model(family, torch.float32)
    plain = {"multiplier": None, "divisor": None, "soft_cap": None}
    straight = replace(model, architecture=model.architecture.model_copy(update=plain))
    if family == "gptj":
        straight.model.get_output_embeddings().bias = None
    hidden = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    gap = (model.logits(hidden) - straight.logits(hidden)).norm()
    assert (gap > 0.1 * model.logits(hidden).norm()) == (family != "gptj")


@pytest.mark.parametrize("place", ["cpu", "auto"])
def test_a_sharded_model_is_loaded_to_any_place(tmp_path: Path, place: str) -> None:
    """In pieces on disk, and spread over the devices that there are."""
    model = tiny_model("llama", torch.float32)
    model.model.save_pretrained(tmp_path, max_shard_size="10KB")
    model.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    loaded = load_editable_model(str(tmp_path), device=place)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.device == torch.device("cpu")


def test_a_place_that_is_not_there_is_refused(folder: Path) -> None:
    """By the name of the setting."""
    with pytest.raises(ModelError, match=r"`model\.device` 'cuda:77'"):
        load_editable_model(str(folder), device="cuda:77")


def test_a_model_in_pieces_gives_the_same_targets_and_keys() -> None:
    """Blocks called through the hooks that move what they are given."""
    plain, spread = tiny_model("llama"), tiny_model("llama")
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{number}": "cpu" for number in range(4)}
    places |= {"model.rotary_emb": "cpu"}
    accelerate = pytest.importorskip("accelerate")
    accelerate.dispatch_model(spread.model, places, force_hooks=True)
    assert hasattr(spread.block(1), "_hf_hook")
    requests = tiny_requests(3)
    keys = [extract_keys(each, requests, TEMPLATES, [1]) for each in (plain, spread)]
    assert torch.equal(keys[0][1], keys[1][1])
    targets = [
        compute_targets(each, requests, TEMPLATES, PARAMETERS)
        for each in (plain, spread)
    ]
    assert torch.equal(targets[0].shift, targets[1].shift)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gptj"])
def test_short_precisions_give_numbers_near_those_of_single(
    family: str, dtype: torch.dtype
) -> None:
    """Forward passes in the model's, keys in double, the search in single precision."""
    requests = tiny_requests(3)
    single = tiny_model(family, torch.float32)
    rounded = {n: p.to(dtype).float() for n, p in single.model.named_parameters()}
    single.model.load_state_dict(rounded, strict=False)
    half = tiny_model(family, dtype)
    parameters = PARAMETERS.model_copy(update={"v_num_grad_steps": 2})
    found = compute_targets(half, requests, TEMPLATES, parameters)
    assert found.hidden.dtype == found.shift.dtype == torch.float32
    keys = extract_keys(half, requests, TEMPLATES, [1])[1]
    assert keys.dtype == torch.float64
    wanted = extract_keys(single, requests, TEMPLATES, [1])[1]
    assert_same(keys, wanted, 60 * torch.finfo(dtype).eps)
    shift = found.shift
    assert bool(shift.isfinite().all())
    assert_same(shift.abs(), torch.full_like(shift, parameters.v_lr), 0.2)
    delta = edit_alone(half, requests, plan_of(parameters), PRIORS, found)
    before = {name: half.model.get_parameter(name).clone() for name in delta}
    with applied(delta, half.model):
        for name, update in delta.items():
            stored = update.mT if family == "gpt2" else update
            change = half.model.get_parameter(name).double() - before[name].double()
            largest = half.model.get_parameter(name).abs().max().double()
            assert (change - stored).abs().max() <= 2 * torch.finfo(dtype).eps * largest


def plan_of(parameters: Hyperparameters) -> Plan:
    """Plan to edit layer by layer."""
    return Plan(parameters=parameters, schedule="layerwise", templates=TEMPLATES)
