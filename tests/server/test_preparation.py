"""What a run needs is found, or the setting that does not fit is named."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import editing.covariance.cache
from editing.base.errors import InputError
from editing.covariance.cache import digest_covariance
from editing.covariance.covariance import (
    Covariance,
    CovarianceError,
    Provenance,
    compute_covariance,
    with_ridge,
)
from editing.covariance.files import save_covariance
from editing.editors.choice import EditorChoice
from editing.malmen.files import FILE, read_hypernetwork
from server.config import ScheduleConfig, read_run_config
from server.preparation import Preparation, prepare
from strategies.scenario import PriorConfig
from tests.federation import HELD_OUT, QUICK, TEXT, settings_of, write_json
from tests.laws import assert_same
from tests.tiny import LAYERS, PARAMETERS, TEMPLATES

Prepare = Callable[..., Preparation]


@pytest.fixture
def preparing(world: Path) -> Prepare:
    """Prepare a run with these settings."""

    def run(**tables: dict[str, str | int | float | bool]) -> Preparation:
        return prepare(read_run_config(settings_of(world, **tables)))

    return run


def refusing(*_: object, **__: object) -> None:
    """Stand for what must not be done again."""
    raise AssertionError("computed again")


def test_whose_hyperparameters_are_taken_is_said_in_the_log(
    preparing: Prepare, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For nobody may have named them."""
    said: list[str] = []
    monkeypatch.setattr(
        "server.preparation.log", lambda _, text, *rest: said.append(text % rest)
    )
    preparing()
    assert said == [f"Hyperparameters: {world / 'hyperparameters.json'}"]


def test_files_in_the_models_folder_are_used(preparing: Prepare, world: Path) -> None:
    """Hyperparameters, templates, held-out facts, and a covariance of its text."""
    found = preparing()
    expected_parameters = PARAMETERS.model_copy(update={**QUICK, "v_loss_layer": 3})
    assert found.plan.parameters == expected_parameters
    assert found.hyperparameters_from["origin"] == str(world / "hyperparameters.json")
    assert found.plan.templates == TEMPLATES
    assert [fact.model_dump() for fact in found.held_out] == list(HELD_OUT)
    assert found.prior_weight == QUICK["mom2_update_weight"]
    expected = with_ridge(compute_covariance(found.model, TEXT, LAYERS, "text.txt"))
    for layer in LAYERS:
        assert_same(found.covariance.moments[layer], expected.moments[layer])
    assert found.covariance.provenance == expected.provenance
    assert set(found.inputs) == {"requests", "held_out", "covariance"}
    assert found.inputs["covariance"] == digest_covariance(expected, LAYERS)


def test_layers_begin_with_the_covariance_and_nothing_remembered(
    preparing: Prepare,
) -> None:
    """The prior of the first round is ``λ·C₀``, with a weight of the run's own."""
    found = preparing(prior={"weight": 7.0})
    layers = found.layers(memory_weight=0.5)
    assert tuple(layers) == LAYERS
    for layer, edited in layers.items():
        assert (edited.d_out, edited.d_in) == found.model.widths(layer) == (16, 24)
        assert edited.weight == found.model.weight_name(layer)
        assert_same(
            edited.memory.prior().matrix(), 7.0 * found.covariance.moments[layer]
        )
        assert edited.memory.memory_weight == 0.5


def test_bounds_are_multiples_of_the_keys_of_plain_text(preparing: Prepare) -> None:
    """``tr(C₀)`` is the mean square norm of a key; ``‖z‖ ≤ (1 + clamp) · ‖h‖``."""
    found = preparing()
    run = ScheduleConfig(max_key_ratio=3.0, max_residual_norm=2.5)
    bounded, free = found.layers(1.0, run), found.layers(1.0)
    for layer, moment in found.covariance.moments.items():
        square = float(moment.double().diagonal().sum())
        assert bounded[layer].bounds.key == pytest.approx(3 * square**0.5)
        assert bounded[layer].bounds.residual == 2.5
        assert free[layer].bounds.key == pytest.approx(5 * square**0.5)
        reach = (1 + found.plan.parameters.clamp_norm_factor) * found.norms.hidden
        assert free[layer].bounds.residual == pytest.approx(2 * reach)
        alone = found.layers(1.0, sums=False)[layer].bounds
        assert alone.residual == pytest.approx(20 * reach)
        assert alone.key == free[layer].bounds.key


def test_limits_are_those_of_the_settings(preparing: Prepare, world: Path) -> None:
    """What the parties take, and targets no farther away than residuals may be long."""
    tables: dict[str, dict[str, str | int | float | bool]] = {
        "requests": {"phrasings": 3},
        "run": {"max-residual-ratio": 5.0},
    }
    found, config = preparing(**tables), read_run_config(settings_of(world, **tables))
    limits = found.limits(config, pooled=True)
    assert limits.parties == config.parties
    assert (limits.phrasings, limits.pooled) == (3, True)
    assert limits.residual_norm == pytest.approx(len(LAYERS) * 5 * found.reach)
    parameters = found.plan.parameters.model_copy(update={"norm_anchor": 3.0})
    plan = found.plan.model_copy(update={"parameters": parameters})
    assert replace(found, plan=plan).reach == pytest.approx(found.reach + 3.0)
    assert limits.residual_ratio == 5 * (1 + PARAMETERS.clamp_norm_factor)


def test_the_memory_weight_may_be_called_lambda(preparing: Prepare) -> None:
    """As CollabEdit's published code has it; a number is itself."""
    found = preparing(prior={"weight": 7.0})
    assert found.memory_weight(PriorConfig(memory_weight="lambda")) == 7.0
    assert found.memory_weight(PriorConfig(memory_weight=0.5)) == 0.5
    assert found.memory_weight(PriorConfig()) == 1.0


def test_a_job_tells_what_the_settings_say(world: Path, preparing: Prepare) -> None:
    """And whose model it is about."""
    config = read_run_config(settings_of(world, run={"encoding": "dense"}))
    found = preparing()
    job = found.job(config, "ties", pooled=True)
    assert (job.label, job.pooled, job.encoding) == ("ties", True, "dense")
    assert job.identity.weights == found.model.fingerprint
    assert job.identity.tokenizer == found.model.tokenizer_fingerprint
    assert job.plan == found.plan
    assert job.prior is None


def test_parties_that_solve_alone_receive_the_prior(
    world: Path, preparing: Prepare
) -> None:
    """The covariance by its digest, and both weights."""
    tables: dict[str, dict[str, str | int | float | bool]] = {
        "editing": {"schedule": "alone"},
        "prior": {"memory-weight": 0.25},
    }
    found = preparing(**tables)
    config = read_run_config(settings_of(world, **tables))
    prior = found.job(config, "ties", pooled=False).prior
    assert prior is not None
    assert prior.covariance == digest_covariance(found.covariance, LAYERS)
    assert prior.weight == found.prior_weight == QUICK["mom2_update_weight"]
    assert prior.memory_weight == 0.25


def test_a_covariance_is_computed_once_for_a_model_text_and_layers(
    preparing: Prepare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then it is found in the cache, bit for bit; anything else is computed anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = preparing()
    (kept,) = tmp_path.rglob("*.safetensors")
    assert kept.parent == tmp_path / "collabedit-flower" / "covariance"
    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", refusing)
    again = preparing(editing={"schedule": "frozen-uniform"}, run={"seed": 3})
    for layer in LAYERS:
        assert torch.equal(
            first.covariance.moments[layer], again.covariance.moments[layer]
        )
    text = tmp_path / "other.txt"
    text.write_text("\n".join(TEXT[:3]))
    others: tuple[dict[str, dict[str, str | int | float | bool]], ...] = (
        {"prior": {"text": str(text)}},
        {"editing": {"layers": "[0, 1]"}},
        {"model": {"dtype": "float32"}},
    )
    for other in others:
        with pytest.raises(AssertionError, match="computed again"):
            preparing(**other)


def test_a_covariance_that_is_named_is_taken(
    preparing: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours in one file, or MEMIT's with one file a layer in a list."""
    made = preparing().covariance
    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", refusing)
    doubled = {layer: 2 * moment for layer, moment in made.moments.items()}
    own = tmp_path / "own.safetensors"
    save_covariance(Covariance(doubled, made.provenance), own)
    files = [tmp_path / f"{layer}.npz" for layer in LAYERS]
    for layer, file in zip(LAYERS, files, strict=True):
        moment = made.moments[layer].numpy()
        arrays: dict[str, Any] = {"mom2.mom2": 6 * moment, "mom2.count": np.array(3)}
        np.savez(file, **arrays)
    listed = "[" + ", ".join(f'"{file}"' for file in files) + "]"
    quoted = '"' + listed.replace('"', '\\"') + '"'
    for setting in (str(own), quoted, listed):
        found = preparing(prior={"covariance": setting})
        for layer in LAYERS:
            assert_same(found.covariance.moments[layer], doubled[layer])


def test_a_covariance_of_another_model_is_refused(
    preparing: Prepare, tmp_path: Path
) -> None:
    """By its provenance, its width or its layers."""
    made = preparing().covariance
    stranger = Provenance("0" * 64, "text", 10)
    narrow = {layer: torch.eye(5, dtype=torch.float64) for layer in LAYERS}
    own = Provenance("", "text", 10)
    wrong = {
        "another model": Covariance(made.moments, stranger),
        "5 wide": Covariance(narrow, own),
        "layer 2": Covariance({1: made.moments[1]}, own),
    }
    for number, (reason, covariance) in enumerate(wrong.items()):
        file = tmp_path / f"{number}.safetensors"
        save_covariance(covariance, file)
        with pytest.raises(CovarianceError, match=reason):
            preparing(prior={"covariance": str(file)})


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"editing": {"layers": "[1, 4]"}}, r"layers.*\[4\] lie outside"),
        ({"model": {"path": "/no/model"}}, "model.path"),
        ({"prior": {"text": "/no/text"}}, "/no/text: cannot be read"),
        ({"prior": {"covariance": "/no/covariance"}}, "/no/covariance"),
        ({"prior": {"covariance": '"[1, "'}}, "prior.covariance.*JSON list"),
        ({"editing": {"hyperparameters": "/no/file"}}, "/no/file"),
        ({"editing": {"context-templates": "/no/file"}}, "/no/file"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(
    preparing: Prepare, tables: dict[str, dict[str, str]], reason: str
) -> None:
    """Before any party is asked."""
    with pytest.raises(InputError, match=reason):
        preparing(**tables)


def test_text_that_is_none_is_refused(preparing: Prepare, tmp_path: Path) -> None:
    """Bytes that are no UTF-8, and a file without a word."""
    broken, empty = tmp_path / "broken.txt", tmp_path / "empty.txt"
    broken.write_bytes(b"\xff\xfe\x00")
    empty.write_text("\n\n")
    with pytest.raises(InputError, match=r"broken\.txt: cannot be read as text"):
        preparing(prior={"text": str(broken)})
    with pytest.raises(InputError, match=r"empty\.txt .*no token"):
        preparing(prior={"text": str(empty)})


def test_a_model_alone_needs_its_layers_and_text_named(
    world: Path, tmp_path: Path
) -> None:
    """A model from elsewhere brings none of our files."""
    bare = tmp_path / "bare"
    shutil.copytree(world, bare)
    for name in (
        "hyperparameters.json",
        "context_templates.json",
        "held_out.json",
        "text.txt",
    ):
        (bare / name).unlink()
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT))
    named: dict[str, dict[str, str | int | float | bool]] = {
        "editing": {"layers": "[1]", "context-seed": 3},
        "prior": {"text": str(text)},
    }
    found = prepare(read_run_config(settings_of(bare, **named)))
    assert found.plan.parameters.layers == (1,)
    assert found.plan.templates[0] == "{}"
    assert len(found.plan.templates) > 1
    assert found.held_out == ()
    for missing, reason in (("editing", "layers"), ("prior", "prior.text")):
        rest = {table: values for table, values in named.items() if table != missing}
        with pytest.raises(InputError, match=reason):
            prepare(read_run_config(settings_of(bare, **rest)))


def test_templates_and_hyperparameters_that_are_named_go_before_the_model_s_own(
    preparing: Prepare, tmp_path: Path
) -> None:
    """A table's own values go before the file's."""
    templates = write_json(tmp_path / "templates.json", ["they said that {}", "{}"])
    file = write_json(tmp_path / "memit.json", {"layers": [0, 2], "v_lr": 0.25})
    found = preparing(
        editing={
            "context-templates": str(templates),
            "hyperparameters": str(file),
            "v-lr": 0.125,
        }
    )
    assert found.plan.templates == ("{}", "they said that {}")
    assert found.plan.parameters.layers == (0, 2)
    assert found.plan.parameters.v_lr == 0.125


def test_an_editor_that_reads_at_the_answers_needs_no_covariance(
    preparing: Prepare, caplog: pytest.LogCaptureFixture
) -> None:
    """No text is read, all layers are one exchange, and known facts are edited."""
    made = preparing(editor={"name": "ultraedit"}, prior={"text": "/no/text"})
    assert "ultraedit reads no text: prior.text" in caplog.text
    assert made.plan.exchanges == [LAYERS]
    for layer, edited in made.layers(1.0).items():
        assert torch.equal(edited.memory.covariance, torch.eye(24).double())
        bound = made.norms.keys[layer].mean ** 0.5
        with_editor = made.layers(1.0, editor=EditorChoice(name="ultraedit").build())
        assert with_editor[layer].bounds.key == pytest.approx(5 * bound)
        assert not with_editor[layer].remembers(last=False)
    with pytest.raises(
        InputError, match=r"`parties\.skip-known` .* 'ultraedit' has no"
    ):
        preparing(editor={"name": "ultraedit"}, parties={"skip-known": 0.1})
    for key in ("max-residual-ratio", "max-residual-norm"):
        with pytest.raises(InputError, match=rf"`run\.{key}` bounds residuals"):
            preparing(editor={"name": "ultraedit"}, run={key: 3.0})


def test_a_hypernetwork_gives_each_layer_its_prior(
    preparing: Prepare, world: Path
) -> None:
    """Its digest is among the run's inputs, and values are bounded as residuals are."""
    made = preparing(editor={"name": "malmen"}, run={"max-residual-norm": 3.0})
    run = ScheduleConfig(max_residual_norm=3.0)
    net = read_hypernetwork(world / FILE)
    assert made.inputs["hypernetwork"] == net.digest()
    editor = EditorChoice(name="malmen").build()
    for layer, edited in made.layers(1.0, run, editor=editor).items():
        wanted = net.prior(layer).matrix()
        assert torch.equal(edited.memory.prior().matrix(), wanted)
        assert edited.bounds.residual == 3.0
        assert not edited.remembers(last=False)


@pytest.mark.parametrize("schedule", ["boundary", "layerwise"])
def test_targets_of_streams_are_refused_at_the_first_block(
    preparing: Prepare, schedule: str
) -> None:
    """Before any party computes."""
    streams = {"target-of": "streams", "layers": "[0, 2]", "schedule": schedule}
    if schedule == "layerwise":
        preparing(editing=streams)
        streams["layers"] = "[0]"
    with pytest.raises(
        InputError, match=r"`editing\.target-of` = .streams. .* block 0"
    ):
        preparing(editing=streams)
