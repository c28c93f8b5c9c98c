"""Hyperparameters of other programs run a whole federation, from the scenario on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    CTRLConfig,
    CTRLLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from clients.app import load_model
from clients.settings import read_client_config
from editing.algebra.deltas import load_delta
from editing.base.errors import InputError
from editing.models.loading import ModelError
from editing.requests.edit_request import to_counterfact
from server.config import read_scenario
from sims.results.evaluation import evaluate_with_delta
from sims.runs.in_process import make_contexts, run_in_process
from strategies.scenario import flatten
from tests.federation import TEXT, assert_same_bits, world_requests, write_json
from tests.tiny import STD, TEMPLATES, WORDS, tiny_tokenizer

NAMES = {
    "rewrite_module_tmp": "transformer.h.{}.ffn.2",
    "layer_module_tmp": "transformer.h.{}",
    "mlp_module_tmp": "transformer.h.{}.ffn",
    "attn_module_tmp": "transformer.h.{}.multi_head_attention",
    "ln_f_module": "transformer.layernorm",
    "lm_head_module": "lm_head",
}
METHOD = {
    "layers": [1, 2],
    "clamp_norm_factor": 0.75,
    "layer_selection": "all",
    "fact_token": "subject_last",
    "v_num_grad_steps": 3,
    "v_lr": 0.5,
    "v_loss_layer": 3,
    "v_weight_decay": 0.001,
    "kl_factor": 0.0625,
    "mom2_adjustment": True,
    "mom2_update_weight": 5,
}
FAST = "[editing]\nschedule = 'frozen-uniform'\n"


def ctrl() -> PreTrainedModel:
    """Make a model whose two projections are alike, so that names must tell them."""
    return CTRLLMHeadModel(
        CTRLConfig(
            vocab_size=len(WORDS) + 1,
            n_embd=16,
            dff=16,
            n_layer=4,
            n_head=2,
            n_positions=64,
        )
    )


def gpt2_of(blocks: int) -> PreTrainedModel:
    """Make a GPT-2 that is as deep as a real one and very narrow."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(WORDS) + 1,
            n_positions=64,
            n_embd=8,
            n_layer=blocks,
            n_head=2,
            n_inner=12,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def save_world(folder: Path, make: Callable[[], PreTrainedModel]) -> Path:
    """Save a model with random weights, requests and text, and no hyperparameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=STD)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    write_json(folder / "requests.json", [to_counterfact(r) for r in world_requests()])
    write_json(folder / "context_templates.json", TEMPLATES)
    (folder / "text.txt").write_text("\n".join(TEXT))
    return folder


def run(folder: Path, editing: str, model: Path, *overrides: str) -> Path:
    """Write a scenario, read it, and run it with two parties; gives the results."""
    folder.mkdir(exist_ok=True)
    scenario = folder / "scenario.toml"
    scenario.write_text(
        f"[model]\npath = '{model}'\ndtype = 'float64'\n"
        "[parties]\ncount = 2\nrequests_per_round = 1\n"
        f"{FAST}{editing}\n[output]\ndirectory = '{folder / 'results'}'\n"
    )
    config = read_scenario(scenario, overrides)
    run_in_process(flatten(config), config.parties.count, folder / "private")
    return folder / "results"


@pytest.fixture(scope="module")
def unknown(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model that only names make editable, with caches away from the user's."""
    del world
    return save_world(tmp_path_factory.mktemp("unknown"), ctrl)


def write_easyedit(path: Path) -> Path:
    """Write the method and names as EasyEdit would, on some machine."""
    written = METHOD | NAMES | {"v_lr": "5e-1", "v_weight_decay": "1e-3"}
    lines = ['alg_name: "MEMIT"', "device: 0", "fp16: true"]
    lines += [f"{key}: {value}" for key, value in written.items()]
    path.write_text("\n".join(lines))
    return path


def test_names_of_a_foreign_file_make_a_family_editable_for_all(
    unknown: Path, tmp_path: Path
) -> None:
    """Server and parties edit what the file names, and YAML and JSON alike."""
    folder = tmp_path / "yaml"
    folder.mkdir()
    write_easyedit(folder / "mine.yaml")
    results = run(folder, "hyperparameters = 'mine.yaml'", unknown)
    delta, _ = load_delta(results / "delta.safetensors")
    assert set(delta) == {f"transformer.h.{layer}.ffn.2.weight" for layer in (1, 2)}
    assert all(update.norm() > 0 for update in delta.values())
    params = json.loads((results / "params.json").read_text())
    recorded = params["hyperparameters_from"]
    assert recorded["origin"] == str(folder / "mine.yaml")
    assert recorded["bookkeeping"] == {"alg_name": "MEMIT", "device": 0, "fp16": True}
    assert {k: params["hyperparameters"][k] for k in METHOD} == METHOD

    other = tmp_path / "json"
    other.mkdir()
    write_json(other / "memit.json", METHOD | NAMES)
    again = run(other, "hyperparameters = 'memit.json'", unknown)
    assert_same_bits(load_delta(again / "delta.safetensors")[0], delta)

    evaluated = tmp_path / "evaluated.json"
    parts = (str(unknown), unknown / "requests.json", evaluated)
    path = results / "delta.safetensors"
    with pytest.raises(ModelError, match="rewrite_module_tmp"):
        evaluate_with_delta(*parts, path, dtype="float64")
    named = str(folder / "mine.yaml")
    evaluate_with_delta(*parts, path, dtype="float64", hyperparameters=named)
    assert json.loads(evaluated.read_text())["cases"]


def test_without_the_names_the_family_is_refused(unknown: Path, tmp_path: Path) -> None:
    """By the server before a party is asked, and by a party."""
    with pytest.raises(InputError, match="`rewrite_module_tmp`"):
        run(tmp_path, "layers = [1, 2]", unknown)
    (context,) = make_contexts({"model.path": str(unknown)}, 1).values()
    with pytest.raises(ModelError, match="`rewrite_module_tmp`"):
        load_model(read_client_config(context))


@pytest.mark.parametrize("way", ["by the model's name", "by the setting"])
def test_a_preset_runs_on_a_model_of_its_depth(
    world: Path, tmp_path: Path, way: str
) -> None:
    """Its layers are edited, and the report says where they are from."""
    del world
    by_name = way == "by the model's name"
    folder = "gpt2-xl" if by_name else "narrow"
    model = save_world(tmp_path / folder, lambda: gpt2_of(48))
    setting = "" if by_name else "hyperparameters = 'GPT2-XL'"
    results = run(
        tmp_path / "run",
        setting,
        model,
        "editing.v_num_grad_steps=2",
        "requests.limit=2",
    )
    delta, _ = load_delta(results / "delta.safetensors")
    layers = range(13, 18)
    assert set(delta) == {
        f"transformer.h.{layer}.mlp.c_proj.weight" for layer in layers
    }
    params = json.loads((results / "params.json").read_text())
    why = ", taken for the model's name" if by_name else ""
    recorded = params["hyperparameters_from"]
    assert recorded["origin"] == f"preset gpt2-xl{why}"
    assert recorded["bookkeeping"]["source"].startswith("https://github.com/zjunlp/")
    assert params["hyperparameters"]["mom2_update_weight"] == 20000
    assert params["hyperparameters"]["v_num_grad_steps"] == 2
    report = json.loads((results / "report.json").read_text())
    (only,) = report["runs"]
    assert only["settings"]["hyperparameters_from"] == recorded
