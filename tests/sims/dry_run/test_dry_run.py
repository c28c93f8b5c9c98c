"""The scenarios of large models, dry and for real, on tiny models of their families."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
)

from editing.base.errors import InputError
from editing.models import loading
from editing.sources.embedded import locate_embedded
from server.config import RunConfig, read_scenario
from server.report.data import read_report
from sims.cli.main import main
from sims.dry_run.dry_run import dry_runs, find_needs
from sims.runs.jobs import execute
from tests.editing.records import MADE_UP_FOLDER
from tests.trees import ROOT

LARGE = ROOT / "sims" / "scenarios" / "large"
WORDS = {"vocab_size": 1200}
OLD: dict[str, Any] = WORDS | {
    "n_embd": 16,
    "n_layer": 4,
    "n_head": 2,
    "n_inner": 24,
    "n_positions": 512,
}
NEW: dict[str, Any] = WORDS | {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt2-xl": CONFIG_MAPPING["gpt2"](**OLD),
    "gpt-j": CONFIG_MAPPING["gptj"](**(OLD | {"rotary_dim": 4})),
    "llama-3-8b": CONFIG_MAPPING["llama"](**NEW),
    "qwen2.5-7b": CONFIG_MAPPING["qwen2"](**NEW),
}
PRESETS = {"gpt-j": "gpt-j-6b"}
RECORDS = {
    "counterfact": "multi_counterfact.json",
    "zsre": "zsre_mend.json",
    "qaedit": "qaedit.json",
}
CHECKED = (
    "merges",
    "configuration",
    "tokenizer",
    "weights",
    "hyperparameters",
    "requests",
    "context",
    "covariance",
    "device",
    "memory",
    "disk",
)


def save_model(folder: Path, name: str) -> Path:
    """Save a random model of a family, under the name of its preset."""
    place = folder / PRESETS.get(name, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[name])
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(locate_embedded()).save_pretrained(place)
    return place


def configure(name: str, data: str, model: Path, *settings: str) -> RunConfig:
    """Read a scenario; put in its places what is small."""
    return read_scenario(
        LARGE / f"{name}-{data}.toml",
        [
            f"model.path={model}",
            "model.device=cpu",
            f"requests.source={MADE_UP_FOLDER / RECORDS[data]}",
            "parties.count=2",
            "parties.requests-per-round=2",
            "editing.layers=[1, 2]",
            "editing.v-loss-layer=3",
            f"prior.text={locate_embedded() / 'text.txt'}",
            "prior.tokens=500",
            *settings,
        ],
    )


@pytest.mark.parametrize(("name", "data"), list(product(CONFIGS, RECORDS)))
def test_every_scenario_has_all_that_it_needs(
    name: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its preset, a model of its family and records of its form; nothing large."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(loading, "load_weights", refuse)
    config = configure(name, data, save_model(tmp_path, name))
    findings, estimate = find_needs(config)
    assert [
        (each.part, each.ready, each.detail) for each in findings if not each.ready
    ] == []
    assert tuple(each.part for each in findings) == CHECKED
    origin = next(each for each in findings if each.part == "hyperparameters").detail
    assert f"preset {PRESETS.get(name, name)}" in origin
    assert estimate is not None
    assert (estimate.shape.d_in, estimate.order.requests) == (24, 2)


@pytest.mark.parametrize(
    ("name", "data"), list(zip(CONFIGS, [*RECORDS, "counterfact"], strict=True))
)
def test_what_is_ready_runs(name: str, data: str, tmp_path: Path) -> None:
    """The module names of the presets are those of the families."""
    config = configure(
        name, data, save_model(tmp_path, name), "editing.v-num-grad-steps=2"
    )
    execute(config, tmp_path / "run", console=Console(quiet=True))
    (run,) = read_report(tmp_path / "run" / "report.json").runs
    assert run.metrics[-1].requests == 4


def test_all_that_is_missing_is_listed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with what to do; nothing is written."""
    scenario = LARGE / "gpt-j-counterfact.toml"
    arguments = ["compare", str(scenario), "--dry-run", "--output", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--set", "prior.covariance=here.safetensors"])
    assert ended.value.code == 2
    written = capsys.readouterr()
    said = " ".join(written.out.split())
    for words in (
        "hf download",
        "counterfact.json: cannot be read",
        "there is no such file or folder",
        "6.05 billion parameters",
        "layers 3, 4, 5, 6, 7, 8, from preset gpt-j-6b",
    ):
        assert words in said
    for part in ("configuration", "tokenizer", "weights", "requests", "covariance"):
        assert part in written.err
    assert not (tmp_path / "o").exists()


def test_a_run_that_is_ready_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The default scenario is."""
    config = read_scenario(ROOT / "sims" / "scenarios" / "default.toml")
    dry_runs([config], [""], Console())
    assert "Everything is there" in capsys.readouterr().out


def test_too_few_requests_are_missing(tmp_path: Path) -> None:
    """The other parts are found all the same."""
    config = configure(
        "gpt2-xl", "zsre", save_model(tmp_path, "gpt2-xl"), "parties.count=9"
    )
    findings, _ = find_needs(config)
    assert [each.part for each in findings if not each.ready] == ["requests", "context"]
    other = config.model_copy(
        update={"model": config.model.model_copy(update={"device": "cuda:99"})}
    )
    with pytest.raises(InputError, match="it lacks: requests, context, device"):
        dry_runs([config, other], ["a", "b"], Console(quiet=True))
