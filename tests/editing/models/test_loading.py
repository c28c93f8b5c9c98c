"""Laws of loading: what is loaded, and what is refused with a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from editing.algebra.deltas import applied
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
from sims.deltas.model_folders import load_whole
from tests.editing.models.test_editable import last_hidden
from tests.laws import assert_same, draw_prior
from tests.tiny import (
    NAMED,
    PARAMETERS,
    TEMPLATES,
    tiny_model,
    tiny_requests,
    tiny_tokenizer,
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
    """With the longest input, for a family that is found by its structure, too."""
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
    loaded = load_editable_model(str(folder), names=names.naming)
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
    shapes = (
        r"12 of another shape, first transformer\.h\.0\.mlp\.c_fc\.bias with 24 .* 32"
    )
    with pytest.raises(ModelError, match=shapes):
        load_editable_model(str(tmp_path))


def rewrite(folder: Path, place: Path, weights: dict[str, torch.Tensor]) -> str:
    """Copy a model's folder with other weights."""
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    return str(place)


LOADERS = (load_editable_model, lambda path: load_whole(path, "float32"))
"""Both ways in which weights are read: to edit, and to write an edited model."""


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda name: f"base_model.model.{name}",
            r"missing, first lm_head.*surplus, first base_model\.model\.",
        ),
        (
            lambda name: None if "h.1.mlp.c_proj.weight" in name else name,
            r": 1 missing, first transformer\.h\.1\.mlp\.c_proj\.weight\. ",
        ),
        (
            lambda name: None if ".h.3." in name else name,
            r": 12 missing, first transformer\.h\.3\.attn\.c_attn\.bias\. ",
        ),
        (
            lambda name: name.replace("ln_f", "final"),
            r"2 missing, first transformer\.ln_f.*2 surplus, first .*final",
        ),
    ],
    ids=["prefixed", "missing", "one block less", "renamed"],
)
def test_weights_that_config_json_does_not_describe_are_refused(
    folder: Path,
    tmp_path: Path,
    change: Callable[[str], str | None],
    fault: str,
    dtype: str,
    load: Callable[[str], object],
) -> None:
    """The library would draw the missing ones at random and leave out the others."""
    weights = load_file(folder / "model.safetensors")
    changed = {new: each for name, each in weights.items() if (new := change(name))}
    path = rewrite(folder, tmp_path, changed)
    with pytest.raises(ModelError, match=fault) as caught:
        load_editable_model(path, dtype) if load is load_editable_model else load(path)
    assert "\n" not in str(caught.value)


def test_more_blocks_than_config_json_counts_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    """The rest of the file would be a model of its own."""
    path = Path(rewrite(folder, tmp_path, load_file(folder / "model.safetensors")))
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace('"n_layer": 4', '"n_layer": 3'))
    with pytest.raises(ModelError, match=r"\d+ surplus, first transformer\.h\.3\."):
        load_editable_model(str(path))


def test_tied_heads_and_former_buffers_are_no_fault(
    folder: Path, tmp_path: Path
) -> None:
    """A tied head has no weights of its own, and masks were once saved with them."""
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    buffers = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
        "transformer.h.0.attn.rotary_emb.inv_freq": torch.ones(4),
    }
    loaded = load_editable_model(rewrite(folder, tmp_path, weights | buffers))
    assert loaded.fingerprint == tiny_model(dtype=torch.float32).fingerprint


def test_a_tokenizer_with_ids_that_have_no_embedding_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    """By its last id and the number of rows, before any request needs such a token."""
    path = rewrite(folder, tmp_path, load_file(folder / "model.safetensors"))
    tokenizer, _ = load_tokenizer(path)
    embeddings = tiny_model().model.get_input_embeddings()
    assert isinstance(embeddings, torch.nn.Embedding)
    rows = embeddings.num_embeddings
    tokenizer.add_tokens([f"new{n}" for n in range(rows - len(tokenizer))])
    tokenizer.save_pretrained(path)
    load_editable_model(path)
    tokenizer.add_tokens(["one more", "and another"])
    tokenizer.save_pretrained(path)
    said = rf"ids up to {rows + 1}, .* have {rows} rows.*resize_token_embeddings"
    with pytest.raises(ModelError, match=said):
        load_editable_model(path)


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
    model = make_editable(tiny_model().model, tiny_tokenizer(), names.naming)
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
    return make_editable(model.model, model.tokenizer, parameters.naming)


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
