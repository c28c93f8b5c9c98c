"""Laws of editing alone: MEMIT by its definition, in every schedule."""

from collections.abc import Mapping
from typing import get_args

import pytest
import torch
from torch import Tensor

from editing.algebra.deltas import applied
from editing.algebra.solving import IllConditionedError, Prior, solve_delta
from editing.base.errors import InputError
from editing.hyperparameters.config import Hyperparameters, Plan, Schedule
from editing.memit.keys import extract_keys
from editing.memit.pipeline import LayerPairs, edit_alone, read_pairs, walk_layers
from editing.memit.residuals import read_hidden, read_states
from editing.memit.targets import compute_targets
from editing.models.loading import EditableModel
from tests.laws import (
    ALGEBRA,
    assert_same,
    draw_pairs,
    draw_prior,
    make_targets,
    relative_difference,
)
from tests.tiny import (
    PARAMETERS,
    TEMPLATES,
    tiny_model,
    tiny_model_of_tuples,
    tiny_requests,
    with_linear_projections,
)

LAYERS = (0, 1, 2)
REQUESTS = tiny_requests(4)
THREE = Hyperparameters.model_validate(PARAMETERS.model_dump() | {"layers": LAYERS})
PRIORS = {layer: 20 * draw_prior(layer, 24) for layer in LAYERS}
MODEL = tiny_model()
HIDDEN = read_hidden(MODEL, REQUESTS, 2)
TARGETS = make_targets(HIDDEN, HIDDEN + draw_pairs(4, 3, d_in=16)[0])
SHARES: dict[Schedule, list[float]] = {
    "layerwise": [1 / 3, 1 / 2, 1],
    "frozen-harmonic": [1 / 3, 1 / 2, 1],
    "frozen-uniform": [1 / 3, 1 / 3, 1 / 3],
    "alone": [1 / 3, 1 / 2, 1],
}
SCHEDULES = tuple(SHARES)
"""Those with one target a request; the other one has tests of its own."""

FROZEN: tuple[Schedule, ...] = ("frozen-harmonic", "frozen-uniform")


def plan_of(schedule: Schedule) -> Plan:
    """Plan to edit three layers."""
    return Plan(parameters=THREE, schedule=schedule, templates=TEMPLATES)


def naive_edit(schedule: Schedule) -> dict[int, Tensor]:
    """Edit a model's own copy, by ``R Kᵀ (C + K Kᵀ)⁻¹`` and in place."""
    frozen, edited = tiny_model(), tiny_model()
    deltas = {}
    for layer, share in zip(LAYERS, SHARES[schedule], strict=True):
        seen = edited if schedule in {"layerwise", "alone"} else frozen
        keys = extract_keys(seen, REQUESTS, TEMPLATES, [layer])[layer].mT
        residuals = share * (TARGETS.states - read_hidden(seen, REQUESTS, 2)).mT
        inverse = (PRIORS[layer] + keys @ keys.mT).inverse()
        deltas[layer] = residuals @ keys.mT @ inverse
        # A Conv1D keeps the transpose.
        edited.down_projection(layer).get_parameter("weight").add_(deltas[layer].mT)
    return deltas


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_editing_alone_is_its_definition(schedule: Schedule) -> None:
    """In place and with an inverse, where ours lends and solves."""
    ours = edit_alone(MODEL, REQUESTS, plan_of(schedule), PRIORS, TARGETS)
    assert set(ours) == {MODEL.weight_name(layer) for layer in LAYERS}
    for layer, theirs in naive_edit(schedule).items():
        update = ours[MODEL.weight_name(layer)]
        assert update.dtype == torch.float64
        assert_same(update, theirs, ALGEBRA)


def test_schedules_differ() -> None:
    """Those that share a layer's share agree on the first layer's delta."""
    found = {
        schedule: edit_alone(MODEL, REQUESTS, plan_of(schedule), PRIORS, TARGETS)
        for schedule in ("layerwise", *FROZEN)
    }
    first, last = MODEL.weight_name(0), MODEL.weight_name(2)
    for schedule in FROZEN:
        assert_same(found[schedule][first], found["layerwise"][first], ALGEBRA)
        gap = relative_difference(found[schedule][last], found["layerwise"][last])
        assert gap > 0.01
    harmonic, uniform = found["frozen-harmonic"][last], found["frozen-uniform"][last]
    assert_same(harmonic, 3 * uniform, ALGEBRA)


def test_a_party_by_itself_does_what_memit_does() -> None:
    """On one machine `alone` is `layerwise`; they differ in when statistics travel."""
    alone = edit_alone(MODEL, REQUESTS, plan_of("alone"), PRIORS, TARGETS)
    layerwise = edit_alone(MODEL, REQUESTS, plan_of("layerwise"), PRIORS, TARGETS)
    assert all(torch.equal(alone[name], layerwise[name]) for name in layerwise)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_step_is_solved_from_its_pairs_on_the_model_with_the_steps_before(
    schedule: Schedule,
) -> None:
    """And the model is as it was between the steps."""
    plan = plan_of(schedule)
    before: Mapping[str, Tensor] = {}
    walk = walk_layers(MODEL, REQUESTS, TARGETS, plan, PRIORS)
    for layers, step in zip(plan.steps, walk, strict=True):
        assert set(step.pairs) == set(layers)
        with applied(before, MODEL.model):
            hidden = None if before else TARGETS.hidden
            expected = read_pairs(MODEL, REQUESTS, TARGETS, plan, layers, hidden)
        for layer in layers:
            pair, name = step.pairs[layer], MODEL.weight_name(layer)
            assert torch.equal(pair.keys, expected[layer].keys)
            assert torch.equal(pair.residuals, expected[layer].residuals)
            solved = solve_delta(pair.statistics, Prior(PRIORS[layer]))
            assert_same(step.delta[name], solved)
        assert all(torch.equal(step.delta[name], before[name]) for name in before)
        before = step.delta
    assert len(before) == len(LAYERS)


def test_residuals_are_shares_of_what_is_left_at_the_last_layer() -> None:
    """Whatever layer they are for; the harmonic shares are 1/3, 1/2 and 1."""
    hidden = read_hidden(MODEL, REQUESTS, 2)
    for schedule in SCHEDULES:
        pairs = read_pairs(MODEL, REQUESTS, TARGETS, plan_of(schedule), LAYERS)
        for layer, share in zip(LAYERS, SHARES[schedule], strict=True):
            assert_same(pairs[layer].residuals, share * (TARGETS.states - hidden))


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_request_that_asks_for_nothing_has_no_delta(
    schedule: Schedule, dtype: torch.dtype
) -> None:
    """Not even a rounding error: its residual is exactly zero at every layer."""
    model = tiny_model(dtype=dtype)
    still = THREE.model_copy(update={"v_num_grad_steps": 1})
    plan = Plan(parameters=still, schedule=schedule, templates=TEMPLATES)
    delta = edit_alone(model, REQUESTS, plan, PRIORS)
    assert not any(each.any() for each in delta.values())


def test_hidden_states_of_the_targets_are_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The target search has read them on the same model: once a round, not twice."""
    read: list[int] = []

    def count(*arguments: object) -> Tensor:
        read.append(1)
        return read_states(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("editing.memit.pipeline.read_states", count)
    cases: tuple[tuple[Schedule, int], ...] = (
        ("frozen-harmonic", 0),
        ("layerwise", len(LAYERS) - 1),
    )
    for schedule, times in cases:
        read.clear()
        edit_alone(MODEL, REQUESTS, plan_of(schedule), PRIORS, TARGETS)
        assert len(read) == times


def test_blocks_below_the_layers_that_are_edited_run_once() -> None:
    """Each step but the first begins at the block that was edited before it."""
    model, counts = tiny_model(), dict.fromkeys(range(4), 0)
    deep = Plan(
        parameters=THREE.model_copy(update={"layers": (1, 2, 3)}),
        schedule="layerwise",
        templates=TEMPLATES,
    )
    hidden = read_hidden(model, REQUESTS, 3)
    targets = make_targets(hidden, hidden + draw_pairs(4, 3, d_in=16)[0])
    priors = dict.fromkeys((1, 2, 3), PRIORS[0])
    for number in counts:

        def note(_: object, args: tuple[Tensor, ...], number: int = number) -> None:
            counts[number] += args[0].shape[:2].numel()

        model.down_projection(number).register_forward_pre_hook(note)
    extract_keys(model, REQUESTS, TEMPLATES, [0])
    keys, counts[0] = counts[0], 0
    read_hidden(model, REQUESTS, 0)
    bare, counts[0] = counts[0], 0
    *_, last = walk_layers(model, REQUESTS, targets, deep, priors)
    assert len(last.delta) == 3
    assert counts == {
        0: keys + bare,
        1: 2 * keys + bare,
        2: 2 * keys + 2 * bare,
        3: keys + 2 * bare,
    }


def test_statistics_are_those_of_the_pairs() -> None:
    """Rows are edits."""
    keys, residuals = draw_pairs(4)
    statistics = LayerPairs(keys, residuals).statistics
    assert_same(statistics.gram, keys.mT @ keys)
    assert_same(statistics.cross, residuals.mT @ keys)
    assert statistics.count == 4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_targets_are_computed_if_none_are_given(schedule: Schedule) -> None:
    """On the unedited model."""
    targets = compute_targets(MODEL, REQUESTS, TEMPLATES, THREE)
    given = edit_alone(MODEL, REQUESTS, plan_of(schedule), PRIORS, targets)
    found = edit_alone(MODEL, REQUESTS, plan_of(schedule), PRIORS)
    for name, update in given.items():
        assert torch.equal(found[name], update)


@pytest.mark.parametrize("kind", ["tuples", "linear"])
def test_other_modules_get_the_same_delta(kind: str) -> None:
    """Blocks of tuples, and weights that lie the other way."""
    other: EditableModel = (
        tiny_model_of_tuples()
        if kind == "tuples"
        else with_linear_projections(tiny_model())
    )
    plan = plan_of("layerwise")
    ours = edit_alone(other, REQUESTS, plan, PRIORS, TARGETS)
    theirs = edit_alone(MODEL, REQUESTS, plan, PRIORS, TARGETS)
    for layer in LAYERS:
        mine, wanted = ours[other.weight_name(layer)], theirs[MODEL.weight_name(layer)]
        assert_same(mine, wanted, ALGEBRA)


def test_a_square_weight_is_edited_the_right_way_round() -> None:
    """Where guessing by shape would be a throw of a coin."""
    conv, linear = tiny_model(inner=16), with_linear_projections(tiny_model(inner=16))
    priors = {layer: draw_prior(layer, 16) for layer in LAYERS}
    plan = plan_of("layerwise")
    ours = edit_alone(conv, REQUESTS, plan, priors, TARGETS)
    theirs = edit_alone(linear, REQUESTS, plan, priors, TARGETS)
    for name, update in ours.items():
        assert update.shape == (16, 16)
        assert_same(theirs[name], update, ALGEBRA)
    with applied(ours, conv.model), applied(theirs, linear.model):
        hidden = read_hidden(conv, REQUESTS, 3)
        assert_same(read_hidden(linear, REQUESTS, 3), hidden, ALGEBRA)


def test_an_edit_moves_the_hidden_state_towards_the_target() -> None:
    """The farther, the smaller the prior."""
    easy = {layer: 1e-3 * PRIORS[layer] for layer in LAYERS}
    missing = (TARGETS.states - read_hidden(MODEL, REQUESTS, 2)).norm()
    for priors, most in ((PRIORS, 0.99), (easy, 0.4)):
        delta = edit_alone(MODEL, REQUESTS, plan_of("layerwise"), priors, TARGETS)
        with applied(delta, MODEL.model):
            left = (TARGETS.states - read_hidden(MODEL, REQUESTS, 2)).norm()
        assert left < most * missing


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_the_model_is_given_back_bit_for_bit(schedule: Schedule) -> None:
    """After an edit, and after one that fails at its last layer."""
    model = tiny_model(dtype=torch.float32)
    before = {name: each.clone() for name, each in model.model.named_parameters()}
    edit_alone(model, REQUESTS, plan_of(schedule), PRIORS, TARGETS)
    singular = PRIORS | {2: torch.zeros_like(PRIORS[2])}
    with pytest.raises(IllConditionedError):
        edit_alone(model, REQUESTS, plan_of(schedule), singular, TARGETS)
    for name, parameter in model.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_layers_outside_the_model_are_refused() -> None:
    """Before any target is searched."""
    outside = THREE.model_copy(update={"layers": (2, 4)})
    plan = Plan(parameters=outside, schedule="layerwise", templates=TEMPLATES)
    with pytest.raises(InputError, match=r"\[4\] lie outside the model"):
        edit_alone(MODEL, REQUESTS, plan, PRIORS)
