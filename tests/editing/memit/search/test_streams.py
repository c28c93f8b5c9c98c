"""Targets of two streams by their definition: one request, the whole model."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from editing.base.errors import InputError, ModelError
from editing.hyperparameters.config import Hyperparameters, Plan
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone
from editing.memit.residuals import read_states
from editing.memit.search.streams import find_attention
from editing.memit.targets import (
    EARLY_STOP_LOSS,
    compute_targets,
    measure_value_norms,
    search_targets,
)
from editing.models.editable import EditableModel
from editing.requests.edit_request import EditRequest
from tests.editing.memit.test_targets import EASY, easy_requests
from tests.laws import assert_same, draw_prior
from tests.tiny import PARAMETERS, TEMPLATES, tiny_model, tiny_requests

REQUESTS = tiny_requests(4)
TWO = PARAMETERS.model_copy(update={"target_of": "streams", "v_num_grad_steps": 8})
DEFINITION = 1e-7
"""Relative difference to the naive target in float64; steps amplify rounding."""


@dataclass
class Pass:
    """What one pass of the whole model gave.

    Attributes:
        scores: Log-probabilities after the block that the loss reads.
        final: Those after the last block.
        streams: Outputs of the down-projection and of the attention.
    """

    scores: Tensor
    final: Tensor
    streams: list[Tensor]


@dataclass
class Prompts:
    """A request's rows: rewriting prompts with answers, then the KL prompt."""

    ids: Tensor
    subjects: list[int]
    answers: list[tuple[list[int], list[int]]]


def prompts_of(
    model: EditableModel, request: EditRequest, templates: Sequence[str]
) -> Prompts:
    """Write the rows, padded to the right."""
    said = model.tokenizer(f" {request.target_new}", add_special_tokens=False)
    answer = list(said["input_ids"])
    texts = [each.replace("{}", request.prompt) for each in templates] + ["{} is a"]
    rows, subjects, answers = [], [], []
    for number, text in enumerate(texts):
        begun = text[: text.index("{}")] + request.subject
        subjects.append(len(model.tokenizer(begun)["input_ids"]) - 1)
        ids = list(model.tokenizer(text.replace("{}", request.subject))["input_ids"])
        last = number == len(texts) - 1
        rows.append(ids if last else ids + answer)
        where = range(len(ids) - 1, len(ids) - 1 + len(answer))
        answers.append(([], []) if last else (list(where), answer))
    width = max(map(len, rows))
    padded = [row + [0] * (width - len(row)) for row in rows]
    return Prompts(torch.tensor(padded), subjects, answers)


def run(
    model: EditableModel, prompts: Prompts, shift: Tensor, parameters: Hyperparameters
) -> Pass:
    """Run the whole model with a shift of each stream at each subject."""
    layer, last = parameters.layers[-1], model.block_count - 1
    attention = find_attention(model, layer, None)
    streams: list[Tensor] = [shift, shift]
    read: dict[str, Tensor] = {}
    rows = range(len(prompts.subjects))

    def changing(number: int) -> Any:  # noqa: ANN401 - a hook
        def change(_: nn.Module, __: object, output: Tensor | tuple[Any, ...]) -> Any:  # noqa: ANN401
            states = (output if isinstance(output, Tensor) else output[0]).clone()
            streams[number] = states.detach().clone()
            for row in rows:
                states[row, prompts.subjects[row]] += shift[number]
            return states if isinstance(output, Tensor) else (states, *output[1:])

        return change

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Any, ...]) -> None:
        read["block"] = output if isinstance(output, Tensor) else output[0]

    loss_layer = last if parameters.v_loss_layer is None else parameters.v_loss_layer
    with ExitStack() as hooks:
        for module, hook in (
            (model.down_projection(layer), changing(0)),
            (attention, changing(1)),
            (model.block(max(loss_layer, layer)), keep),
        ):
            hooks.callback(module.register_forward_hook(hook).remove)
        final = model.model(input_ids=prompts.ids).logits
    scores = model.logits(read["block"]) if loss_layer < last else final
    return Pass(scores.log_softmax(-1), final.log_softmax(-1), streams)


def naive_streams(
    model: EditableModel,
    request: EditRequest,
    templates: Sequence[str],
    parameters: Hyperparameters,
) -> tuple[Tensor, Tensor, int]:
    """Optimise two shifts; gives what is shifted, the shifts, and the evaluations."""
    prompts = prompts_of(model, request, templates)
    width = model.widths(parameters.layers[-1])[0]
    shift = torch.zeros(2, width, dtype=model.dtype, requires_grad=True)
    adam = torch.optim.Adam([shift], lr=parameters.v_lr)
    begun = run(model, prompts, shift.detach(), parameters)
    start = torch.stack([each[0, prompts.subjects[0]] for each in begun.streams])
    before = begun.final[-1, prompts.subjects[-1]]
    weight = 1.0
    for step in range(1, parameters.v_num_grad_steps + 1):
        adam.zero_grad()
        found = run(model, prompts, shift, parameters)
        said, right = [], True
        for row, (places, answer) in enumerate(prompts.answers[:-1]):
            rows = found.scores[row, places]
            said.append(rows[range(len(answer)), answer].mean())
            right &= rows.argmax(dim=-1).tolist() == answer
        now = found.final[-1, prompts.subjects[-1]]
        drift = kl_div(before, now, reduction="sum", log_target=True)
        drift = parameters.kl_factor * drift
        decay = (shift.norm(dim=1) / start.norm(dim=1) ** 2).sum()
        loss = -weight * torch.stack(said).mean() + drift
        loss = loss + parameters.v_weight_decay * decay
        settled = right and drift.item() <= 0.01
        weight = 0.1 if right else 1.0
        if loss.item() < EARLY_STOP_LOSS or settled:
            break
        if step == parameters.v_num_grad_steps:
            break
        loss.backward()
        adam.step()
        with torch.no_grad():
            for row, own in zip(shift, start, strict=True):
                largest = parameters.clamp_norm_factor * own.norm()
                row.mul_((largest / row.norm()).clamp(max=1))
    return start, shift.detach(), step


@pytest.mark.parametrize(
    "family", ["gpt2", "llama", "qwen3", "gemma3_text, uncapped", "gptj", "bloom"]
)
def test_targets_are_those_of_the_definition(family: str) -> None:
    """In windows or full rows; the two streams one after the other or side by side."""
    model = tiny_model(family)
    tolerance = 1e-4 if family == "gptj" else DEFINITION
    ours = search_targets(model, REQUESTS, TEMPLATES, TWO)
    for index, request in enumerate(REQUESTS):
        start, shift, _ = naive_streams(model, request, TEMPLATES, TWO)
        assert_same(ours.start[index], start, tolerance)
        assert_same(ours.shift[index], shift, 10 * tolerance)
        assert shift.norm(dim=1).min() > 0.1


@pytest.mark.parametrize(
    "change",
    [{"layers": (3,)}, {"v_loss_layer": 0}, {"clamp_norm_factor": 0.1}],
    ids=str,
)
def test_the_definition_holds_at_the_ends(change: dict[str, object]) -> None:
    """In the last block, where the loss is read, and at the clamp."""
    model, parameters = tiny_model(), TWO.model_copy(update=change)
    requests = easy_requests()[:2]
    ours = search_targets(model, requests, ("{}",), parameters)
    for index, request in enumerate(requests):
        _, shift, _ = naive_streams(model, request, ("{}",), parameters)
        assert_same(ours.shift[index], shift, 10 * DEFINITION)


@pytest.mark.parametrize(("drift", "ends"), [(0.002, 3), (0.01, 2)])
def test_each_search_relaxes_and_ends_by_itself(drift: float, ends: int) -> None:
    """Its answer weighs less once it is the likeliest; one may end, another go on."""
    model, requests = tiny_model(), [*easy_requests(), *REQUESTS[:2]]
    free = {"target_of": "streams", "clamp_norm_factor": 10.0, "kl_factor": drift}
    parameters = EASY.model_copy(update=free)
    ours = search_targets(model, requests, ("{}",), parameters)
    alone = [naive_streams(model, each, ("{}",), parameters) for each in requests]
    assert len({steps for *_, steps in alone}) == ends
    for index, (_, shift, steps) in enumerate(alone):
        assert_same(ours.shift[index], shift, 1e-5)
        assert bool(ours.stopped[index]) == (steps < parameters.v_num_grad_steps)


def test_editing_alone_is_its_definition() -> None:
    """Residuals of the MLP's output, divided by the roots of the layers left."""
    model, edited, layers = tiny_model(), tiny_model(), (1, 2, 3)
    parameters = TWO.model_copy(update={"layers": layers})
    plan = Plan(parameters=parameters, schedule="layerwise", templates=TEMPLATES)
    priors = {layer: 20 * draw_prior(layer, 24) for layer in layers}
    targets = compute_targets(model, REQUESTS, TEMPLATES, parameters)
    ours = edit_alone(model, REQUESTS, plan, priors)
    for layer in layers:
        keys = extract_keys(edited, REQUESTS, TEMPLATES, [layer])[layer].mT
        missing = targets.states - read_states(edited, REQUESTS, parameters)
        residuals = missing.mT / (4 - layer) ** 0.5
        inverse = (priors[layer] + keys @ keys.mT).inverse()
        delta = residuals @ keys.mT @ inverse
        assert_same(ours[model.weight_name(layer)], delta, DEFINITION)
        edited.down_projection(layer).get_parameter("weight").add_(delta.mT)


def test_values_are_anchored_as_they_are() -> None:
    """A target of a stream is a value itself."""
    model = tiny_model()
    norms = measure_value_norms(model, REQUESTS, TEMPLATES, TWO)
    anchored = TWO.model_copy(update={"norm_anchor": float(norms.min())})
    ours = compute_targets(model, REQUESTS, TEMPLATES, anchored)
    lengths = ours.states.norm(dim=1)
    written = norms <= 2 * norms.min()
    assert_same(lengths[written], norms.min().expand(int(written.sum())))
    assert not ours.shift[~written].any()


def test_a_model_without_one_attention_is_refused() -> None:
    """Unless the module is named."""
    model = tiny_model()
    own = model.block(1).get_submodule("attn")
    assert find_attention(model, 1, "transformer.h.{}.attn") is own
    with pytest.raises(ModelError, match=r"`attn_module_tmp`.*no such module"):
        find_attention(model, 1, "transformer.h.{}.self_attn")
    model.block(1).add_module("other", own)
    model.block(1).add_module("third", type(own)(model.model.config))
    with pytest.raises(ModelError, match="have 2 parts"):
        find_attention(model, 1, None)


def test_a_first_block_has_none_before_it() -> None:
    """What enters it is no block's output."""
    first = TWO.model_copy(update={"layers": (0,)})
    with pytest.raises(InputError, match="ends with 0"):
        compute_targets(tiny_model(), REQUESTS, TEMPLATES, first)
