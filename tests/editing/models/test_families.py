"""One law for every family: keys, targets and edits are those of their definitions.

Run on a tiny random model of each. What makes families differ is in the models: windows
shorter than the prompts, capped scores, scaled logits, heads with a bias, narrow
embeddings, grouped heads, positions of every kind, and blocks of either shape.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, OPTConfig

from editing.algebra.deltas import applied, stores_transposed
from editing.hyperparameters.config import Hyperparameters, Plan
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone
from editing.memit.targets import compute_targets
from editing.models.families import ARCHITECTURES, longest_input
from editing.models.loading import EditableModel, load_editable_model
from tests.families import SINGLE_ONLY, VARIANTS
from tests.laws import assert_same, draw_prior
from tests.naive import naive_target
from tests.tiny import tiny_model, tiny_requests
from tests.trees import ROOT

SINGLE = 1e-5
"""Norms, softmax and tables of positions are in single precision in most families."""

STEPS = 1e-3
"""The same, after the steps of a search."""

LAYERS = (0, 1)
TEMPLATES = ("{}", "the old map . {}")
REQUESTS = [tiny_requests()[number] for number in (1, 2, 0)]
PARAMETERS = Hyperparameters(
    layers=LAYERS,
    v_num_grad_steps=3,
    v_lr=0.3,
    v_weight_decay=0.1,
    clamp_norm_factor=1.5,
    kl_factor=0.2,
)
PLAN = Plan(parameters=PARAMETERS, schedule="layerwise", templates=TEMPLATES)


def run_alone(
    model: EditableModel, text: str, last: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Run one text by itself, to the end; read at the last token of its beginning.

    Gives inputs of down-projections and outputs of blocks, by name, and the scores.
    """
    ids = model.tokenizer(text)["input_ids"]
    place = len(model.tokenizer(last)["input_ids"]) - 1
    seen: dict[str, Tensor] = {}
    handles = []
    for layer in range(model.block_count):

        def key(_: nn.Module, args: tuple[Tensor, ...], layer: int = layer) -> None:
            seen[f"key {layer}"] = args[0].view(1, len(ids), -1)[0, place]

        def hidden(
            _: nn.Module,
            __: object,
            output: Tensor | tuple[Any, ...],
            layer: int = layer,
        ) -> None:
            state = output if isinstance(output, Tensor) else output[0]
            seen[f"hidden {layer}"] = state[0, place]

        handles.append(model.down_projection(layer).register_forward_pre_hook(key))
        handles.append(model.block(layer).register_forward_hook(hidden))
    with torch.no_grad():
        scores = model.model(input_ids=torch.tensor([ids])).logits[0, place]
    for handle in handles:
        handle.remove()
    return seen, scores


def naive_keys(model: EditableModel, layer: int) -> Tensor:
    """``½ (k_bare + k_template)``, one text at a time."""
    keys = []
    for request in REQUESTS:
        of = []
        for template in TEMPLATES:
            text = template.replace("{}", request.prompt)
            begun = text[: text.index("{}")] + request.subject
            seen, _ = run_alone(model, text.replace("{}", request.subject), begun)
            of.append(seen[f"key {layer}"])
        keys.append((of[0] + of[1]) / 2)
    return torch.stack(keys)


def naive_hidden(model: EditableModel) -> Tensor:
    """Hidden states after the last edited block, of the bare prompts."""
    found = []
    for request in REQUESTS:
        begun = request.prompt[: request.prompt.index("{}")] + request.subject
        seen, _ = run_alone(model, request.rewrite_prompt, begun)
        found.append(seen[f"hidden {LAYERS[-1]}"])
    return torch.stack(found)


def naive_edit(
    model: EditableModel, targets: Tensor, priors: dict[int, Tensor]
) -> dict[str, Tensor]:
    """Edit a model in place, layer by layer, by ``R Kᵀ (C + K Kᵀ)⁻¹``."""
    deltas = {}
    for index, layer in enumerate(LAYERS):
        keys = naive_keys(model, layer).mT.double()
        residuals = (
            (targets - naive_hidden(model)) / (len(LAYERS) - index)
        ).mT.double()
        delta = residuals @ keys.mT @ (priors[layer] + keys @ keys.mT).inverse()
        module = model.down_projection(layer)
        module.get_parameter("weight").add_(
            (delta.mT if stores_transposed(module) else delta).to(model.dtype)
        )
        deltas[model.weight_name(layer)] = delta
    return deltas


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_family_keeps_the_laws(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, keys, targets, edits, and the edited model after a journey to disk."""
    monkeypatch.setattr("editing.memit.search.shared_prefixes.WORTH", 1)
    dtype = torch.float32 if variant in SINGLE_ONLY else torch.float64
    single = SINGLE if dtype == torch.float64 else 50 * SINGLE
    model = tiny_model(variant, dtype)
    request = REQUESTS[0]
    seen, scores = run_alone(model, request.rewrite_prompt, request.rewrite_prompt)
    assert_same(model.logits(seen["hidden 3"]), scores, single)

    keys = extract_keys(model, REQUESTS, TEMPLATES, LAYERS)
    for layer in LAYERS:
        assert keys[layer].shape == (3, model.widths(layer)[1])
        assert_same(keys[layer], naive_keys(model, layer), single)

    targets = compute_targets(model, REQUESTS, TEMPLATES, PARAMETERS)
    for found, each in zip(targets.states, REQUESTS, strict=True):
        expected = naive_target(model, each, TEMPLATES, PARAMETERS)
        assert_same(found, expected.target, STEPS)
        start = expected.target - expected.shift
        assert_same(found - start, expected.shift, 10 * STEPS)

    width = model.widths(0)[1]
    priors = {layer: 5 * draw_prior(layer, width) for layer in LAYERS}
    deltas = edit_alone(model, REQUESTS, PLAN, priors, targets)
    edited = tiny_model(variant, dtype)
    for name, theirs in naive_edit(edited, targets.states, priors).items():
        assert_same(deltas[name], theirs, single)

    with applied(deltas, model.model):
        model.model.save_pretrained(tmp_path, max_shard_size="20KB")
    model.tokenizer.save_pretrained(tmp_path)
    loaded = load_editable_model(str(tmp_path), dtype=str(dtype).removeprefix("torch."))
    loaded = replace(loaded, tokenizer=model.tokenizer)
    _, again = run_alone(loaded, request.rewrite_prompt, request.rewrite_prompt)
    _, wanted = run_alone(edited, request.rewrite_prompt, request.rewrite_prompt)
    assert_same(again, wanted, single)
    assert (wanted - scores).norm() > 0.01 * scores.norm()


def test_every_family_of_the_table_is_held_to_the_law() -> None:
    """A family without a model here is not known to work."""
    assert {family for family, _ in VARIANTS.values()} == set(ARCHITECTURES)


def test_the_documents_name_every_family() -> None:
    """In the row of its down-projection, and none besides."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = text.split("## Families")[1].split("What was run")[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            projection, *families = re.findall(r"`([^`]*)`", line)
            found |= dict.fromkeys(families, projection)
    assert found == {
        family: parts.down_projection for family, parts in ARCHITECTURES.items()
    }


def test_the_longest_input_is_what_the_configuration_says() -> None:
    """By the family's field, else by one that others use; or there is no limit."""
    assert longest_input(GPT2Config(n_positions=7), ARCHITECTURES["gpt2"]) == 7
    assert longest_input(OPTConfig(max_position_embeddings=9), None) == 9
    assert longest_input(OPTConfig(), ARCHITECTURES["bloom"]) > 10**9
