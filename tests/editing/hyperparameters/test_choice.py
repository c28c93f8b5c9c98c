"""Laws of choosing hyperparameters: which source goes first, and what must fit."""

import json
import logging
from functools import partial
from pathlib import Path

import pytest
import torch

from editing.base.errors import InputError
from editing.hyperparameters.choice import (
    OVERRIDING,
    SETTINGS,
    HyperparameterChoice,
    choose_hyperparameters,
    load_named,
)
from editing.hyperparameters.config import EditingConfig, Hyperparameters
from editing.hyperparameters.presets import preset_names, read_preset
from editing.models.loading import ModelError
from tests.tiny import tiny_model

ATTENTION = {"rewrite_module_tmp": "transformer.h.{}.attn.c_proj"}
"""A module that is edited only if it is named."""


def write(folder: Path, value: object, name: str = "file.json") -> Path:
    """Put JSON into a file."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def own_file(folder: Path, value: object) -> str:
    """Make a folder as a model's is, with hyperparameters; gives the folder."""
    return str(write(folder, value, "hyperparameters.json").parent)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Save the tiny model with hyperparameters that name modules."""
    folder = tmp_path_factory.mktemp("saved")
    model = tiny_model(dtype=torch.float32)
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return own_file(folder, {"layers": [1], **ATTENTION})


def choice_of(**fields: object) -> HyperparameterChoice:
    """Choose these, from a file."""
    parameters = Hyperparameters.model_validate({"layers": (1,)} | fields)
    return HyperparameterChoice(parameters, "file.yaml")


def test_the_table_goes_before_the_file_and_the_file_before_defaults(
    tmp_path: Path,
) -> None:
    """A named file overrides the one in the model's folder, and that one a preset."""
    model = own_file(tmp_path / "gpt2-xl", {"layers": [0], "v_lr": 0.1})
    alone = choose_hyperparameters(EditingConfig(), model)
    found = alone.parameters
    assert (found.layers, found.v_lr, found.kl_factor) == ((0,), 0.1, 0.0625)
    assert alone.origin == f"{model}/hyperparameters.json"
    named = write(tmp_path, {"layers": [1], "kl_factor": 0.5})
    config = EditingConfig(hyperparameters=str(named), v_lr=0.2)
    chosen = choose_hyperparameters(config, model)
    found = chosen.parameters
    assert (found.layers, found.v_lr, found.kl_factor) == ((1,), 0.2, 0.5)
    assert chosen.origin == str(named)
    table = EditingConfig(layers=(2, 3), v_weight_decay=0.0)
    chosen = choose_hyperparameters(table, str(tmp_path))
    found = chosen.parameters
    assert (found.layers, found.v_weight_decay) == ((2, 3), 0.0)
    assert chosen.origin == SETTINGS


@pytest.mark.parametrize("field", sorted(OVERRIDING))
def test_every_field_that_the_table_shares_with_the_file_overrides_it(
    field: str,
) -> None:
    """None is taken from the file in silence."""
    words = {"fact_token": "subject_last", "stop": "top-1", "target_of": "streams"}
    given = {"layers": (5,), **words}.get(field, 7)
    needed = {"stop": "top-1"} if field == "top_1_steps" else {}
    config = EditingConfig.model_validate({**needed, field: given})
    found = choose_hyperparameters(config, "gpt2-xl").parameters
    assert getattr(found, field) == given


def test_steps_of_another_stop_are_refused(tmp_path: Path) -> None:
    """Unless the file has the stop that waits them."""
    config = EditingConfig(top_1_steps=2)
    with pytest.raises(InputError, match=r"`editing\.top-1-steps` is how.* is 'loss'"):
        choose_hyperparameters(config, "gpt2-xl")
    model = own_file(tmp_path / "own", {"layers": [0], "stop": "top-1"})
    assert choose_hyperparameters(config, model).parameters.top_1_steps == 2


def test_the_table_overrides_nothing_by_default() -> None:
    """A default in the table would hide what the file says."""
    assert EditingConfig().model_dump(include=set(OVERRIDING), exclude_none=True) == {}


@pytest.mark.parametrize("token", ["last", "banana"])
@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_another_fact_token_of_a_file_is_refused(
    tmp_path: Path, token: str, ending: str
) -> None:
    """Only the subject's last token is computed; the file and the field are named."""
    path = write(tmp_path, {"layers": [1], "fact_token": token}, f"file.{ending}")
    config = EditingConfig(hyperparameters=str(path))
    with pytest.raises(InputError, match=rf"file\.{ending}: `fact_token`: "):
        choose_hyperparameters(config, "gpt2")


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_taken_by_name_and_by_its_models_name(name: str) -> None:
    """The same values, and the report says which way and from where they came."""
    preset = read_preset(name)
    asked = choose_hyperparameters(
        EditingConfig(hyperparameters=name.upper()), "./some/model"
    )
    matched = choose_hyperparameters(EditingConfig(), preset.model)
    assert asked.parameters == matched.parameters == preset.parameters
    assert asked.origin == f"preset {name}"
    assert matched.origin == f"preset {name}, taken for the model's name"
    described = matched.describe()
    assert described["origin"] == matched.origin
    kept = described["bookkeeping"]
    assert isinstance(kept, dict)
    assert kept["source"] == preset.source
    assert json.loads(json.dumps(described)) == described


def test_what_is_not_followed_is_said_in_the_log_and_kept(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """With what is to be set instead; a preset's source is no such thing."""
    caplog.set_level(logging.INFO)
    choose_hyperparameters(EditingConfig(), "Qwen/Qwen2.5-7B-Instruct")
    assert caplog.text == ""
    path = tmp_path / "file.yaml"
    path.write_text("layers: [1]\nfp16: true\nstats_dir: ./data/stats")
    config = EditingConfig(hyperparameters=str(path))
    chosen = choose_hyperparameters(config, "gpt2")
    assert "recorded and not used: fp16 = True (see model.dtype)" in caplog.text
    assert "stats_dir = './data/stats' (see prior.covariance)" in caplog.text
    kept = {"fp16": True, "stats_dir": "./data/stats"}
    assert chosen.describe() == {"origin": str(path), "bookkeeping": kept}


@pytest.mark.parametrize("model", ["gpt2", "FOLDER"])
def test_layers_must_come_from_somewhere(tmp_path: Path, model: str) -> None:
    """No default could be right for every model; what would help is named."""
    path = str(tmp_path) if model == "FOLDER" else model
    with pytest.raises(InputError) as caught:
        choose_hyperparameters(EditingConfig(v_lr=0.1), path)
    said = str(caught.value)
    for word in (*preset_names(), "`editing.hyperparameters`", "`editing.layers`"):
        assert word in said
    assert ("`model.path`" in said) == (model == "gpt2")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            "/x/gpt2-x1",
            "/x/gpt2-x1 is no file, and 'gpt2-x1' is no preset; did you mean",
        ),
        ("/x/mine", "/x/mine is no file, and 'mine' is no preset; presets are gpt-j"),
        ("/x/mine.yaml", "/x/mine.yaml: cannot be read"),
    ],
)
def test_a_name_that_is_no_file_and_no_preset_is_refused(named: str, said: str) -> None:
    """With the nearest preset, or all of them."""
    with pytest.raises(InputError) as caught:
        choose_hyperparameters(EditingConfig(hyperparameters=named), "gpt2")
    assert said in str(caught.value)


def test_a_value_of_the_table_that_does_not_do_is_refused() -> None:
    """As a fault of the table, though a preset has the other fields."""
    with pytest.raises(InputError, match=r"^\[editing\] `v_weight_decay`: "):
        choose_hyperparameters(EditingConfig(v_weight_decay=-1.0), "gpt2-xl")


@pytest.mark.parametrize("layers", [(), (2, 1), (-1,)])
def test_a_fault_of_the_table_is_not_blamed_on_the_file(
    tmp_path: Path, layers: tuple[int, ...]
) -> None:
    """The file has good layers of its own."""
    model = own_file(tmp_path, {"layers": [1]})
    with pytest.raises(InputError, match=r"^\[editing\] `layers`"):
        choose_hyperparameters(EditingConfig(layers=layers), model)


def test_the_loss_layer_is_the_last_block_unless_it_is_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """MEMIT's files set it, so it is accepted; an unusual one is logged."""
    model = tiny_model()
    assert choice_of().fit(model) == choice_of(v_loss_layer=3).parameters
    assert choice_of(v_loss_layer=3).fit(model).v_loss_layer == 3
    assert caplog.text == ""
    assert choice_of(v_loss_layer=2).fit(model).v_loss_layer == 2
    assert "v_loss_layer is block 2 and not the last, 3 (file.yaml)" in caplog.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"v_loss_layer": 4}, "`v_loss_layer`: 4 lies outside the model, which has 4 "),
        ({"v_loss_layer": 47}, "0 to 3; it is from file.yaml, which is for a "),
        ({"layers": (3, 4)}, "[4] lie outside the model, which has blocks 0 to 3"),
        ({"layers": (4,), "v_loss_layer": 47}, "They are from file.yaml"),
    ],
)
def test_hyperparameters_of_another_size_of_model_are_refused(
    fields: dict[str, object], said: str
) -> None:
    """By the field, the number of blocks and the file."""
    with pytest.raises(InputError) as caught:
        choice_of(**fields).fit(tiny_model())
    assert said in str(caught.value)


@pytest.mark.parametrize("model", ["meta-llama/Llama-2-7b-hf", "./mine"])
def test_a_presets_block_is_not_called_the_users(model: str) -> None:
    """The preset is named, with a setting that does; a preset has nothing to leave."""
    taken = None if model.endswith("hf") else "llama-2-7b"
    config = EditingConfig(layers=(1, 2), hyperparameters=taken)
    with pytest.raises(InputError) as caught:
        choose_hyperparameters(config, model).fit(tiny_model())
    said = str(caught.value)
    assert "`v_loss_layer`: 31 lies outside the model" in said
    assert "preset llama-2-7b" in said
    assert "Leave" not in said
    assert said.endswith("Set `editing.v_loss_layer=3` to take the last block.")
    settled = config.model_copy(update={"v_loss_layer": 3})
    fitted = choose_hyperparameters(settled, model).fit(tiny_model())
    assert fitted.v_loss_layer == 3


def test_all_that_a_preset_of_another_size_needs_is_said_at_once() -> None:
    """Not one field after the other."""
    with pytest.raises(InputError) as caught:
        choose_hyperparameters(EditingConfig(), "Llama-2-7b-hf").fit(tiny_model())
    said = str(caught.value)
    assert "They are from preset llama-2-7b, taken for the model's name." in said
    assert said.endswith("Set `editing.layers` and `editing.v_loss_layer=3`.")


@pytest.mark.parametrize("field", ["layers", "v_loss_layer"])
def test_a_block_that_the_table_gives_is_not_called_the_presets(field: str) -> None:
    """Where to look is the table then."""
    value = (47,) if field == "layers" else 47
    table = {"layers": (1,), "v_loss_layer": 3} | {field: value}
    config = EditingConfig.model_validate(table)
    with pytest.raises(InputError, match=rf"`{field}`: .*from \[editing\]") as caught:
        choose_hyperparameters(config, "Llama-2-7b-hf").fit(tiny_model())
    assert "preset" not in str(caught.value)


def test_a_small_model_with_a_large_ones_name_is_refused_by_the_preset(
    saved: str, tmp_path: Path
) -> None:
    """One sees why the preset was taken."""
    folder = tmp_path / "gpt2-xl"
    folder.mkdir()
    for file in Path(saved).iterdir():
        if file.name != "hyperparameters.json":
            (folder / file.name).symlink_to(file)
    chosen = choose_hyperparameters(EditingConfig(), str(folder))
    model = chosen.load(str(folder), "float32", "cpu")
    with pytest.raises(InputError, match="preset gpt2-xl, taken for the model's name"):
        chosen.fit(model)


def test_names_reach_the_model_to_be_edited_and_to_be_evaluated(saved: str) -> None:
    """From the model's own file, and from a named one."""
    chosen = choose_hyperparameters(EditingConfig(), saved)
    weight = "transformer.h.1.attn.c_proj.weight"
    assert chosen.load(saved, "float32", "cpu").weight_name(1) == weight
    assert load_named(saved, "float32", "cpu").weight_name(1) == weight
    preset = load_named(saved, "float64", "cpu", "gpt2-xl")
    assert preset.weight_name(1) == "transformer.h.1.mlp.c_proj.weight"
    assert preset.dtype == torch.float64


def test_a_module_that_is_not_there_is_refused_with_the_file(
    saved: str, tmp_path: Path
) -> None:
    """Name, file and the nearest names of the model."""
    path = write(tmp_path, {"layers": [1], "ln_f_module": "transformer.norm_f"})
    config = EditingConfig(hyperparameters=str(path))
    chosen = choose_hyperparameters(config, saved)
    for load in (chosen.load, partial(load_named, hyperparameters=str(path))):
        with pytest.raises(ModelError) as caught:
            load(saved, "float32", "cpu")
        said = str(caught.value)
        for words in ("`ln_f_module` 'transformer.norm_f'", "transformer.ln_f", path):
            assert str(words) in said


def test_a_model_that_cannot_be_loaded_is_no_matter_of_the_file(tmp_path: Path) -> None:
    """Unless it names modules."""
    path = write(tmp_path, {"layers": [1]})
    config = EditingConfig(hyperparameters=str(path))
    chosen = choose_hyperparameters(config, str(tmp_path))
    for load in (chosen.load, load_named):
        with pytest.raises(ModelError) as caught:
            load(str(tmp_path), "float32", "cpu")
        assert str(path) not in str(caught.value)


def test_a_fault_of_the_files_is_not_blamed_on_the_names(tmp_path: Path) -> None:
    """Who gave the names has nothing to correct there."""
    (tmp_path / "hyperparameters.json").write_text(
        '{"layers": [1], "ln_f_module": "x"}'
    )
    chosen = choose_hyperparameters(EditingConfig(), str(tmp_path))
    with pytest.raises(ModelError, match="no config") as caught:
        chosen.load(str(tmp_path), "float32", "cpu")
    assert "Modules are named by" not in str(caught.value)
