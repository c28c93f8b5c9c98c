"""Laws of activations: those of a full forward pass of one row, however batched."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from editing.models.activations import (
    BlockInputs,
    Relay,
    by_rows,
    hidden_state,
    module_inputs,
    read_activations,
    stopping_after,
)
from editing.models.loading import EditableModel
from editing.models.prefix_tree import Pack, PackBatch, stack_packs
from editing.models.token_rows import TokenRow, pad_rows, tokenize_prompt
from tests.families import SINGLE_ONLY, VARIANTS
from tests.laws import assert_same
from tests.tiny import (
    TEMPLATES,
    tiny_model,
    tiny_model_of_tuples,
    tiny_requests,
    with_linear_projections,
)

ROUNDING = 1e-12
"""Relative difference that another batch may leave in float64."""

MODEL = tiny_model()


def rows_of(model: EditableModel) -> list[TokenRow]:
    """Put every request into every template."""
    return [
        tokenize_prompt(model.tokenizer, template, request.prompt, request.subject)
        for template in TEMPLATES
        for request in tiny_requests()
    ]


def naive_reading(model: EditableModel, row: TokenRow, layer: int) -> list[Tensor]:
    """Run one row by itself, to the end, and read one layer's key and hidden state."""
    seen: dict[str, Tensor] = {}

    def keep(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> None:
        seen["key"] = args[0][0, row.subject]

    handle = model.down_projection(layer).register_forward_hook(keep)
    found = model.model(input_ids=torch.tensor([row.ids]), output_hidden_states=True)
    handle.remove()
    return [seen["key"], found.hidden_states[layer + 1][0, row.subject]]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_activations_are_those_of_a_whole_pass_of_one_row(layer: int) -> None:
    """The definition; the last block is left out, whose output HF norms."""
    rows = rows_of(MODEL)
    found = read_activations(MODEL, rows, [layer], [layer])
    for index, row in enumerate(rows):
        key, hidden = naive_reading(MODEL, row, layer)
        assert_same(found.keys[layer][index], key, ROUNDING)
        assert_same(found.hidden[layer][index], hidden, ROUNDING)


@settings(max_examples=10)
@given(batch_tokens=st.integers(1, 300), order=st.permutations(range(24)))
def test_no_batch_and_no_order_changes_a_reading(
    batch_tokens: int, order: list[int]
) -> None:
    """Other rows of the batch, and their padding, do not reach it."""
    rows = rows_of(MODEL)
    expected = read_activations(MODEL, rows, [0, 2], [3])
    found = read_activations(
        MODEL, [rows[index] for index in order], [0, 2], [3], batch_tokens
    )
    for layer in (0, 2):
        assert_same(found.keys[layer], expected.keys[layer][order], ROUNDING)
    assert_same(found.hidden[3], expected.hidden[3][order], ROUNDING)


@pytest.mark.parametrize("other", [tiny_model_of_tuples, tiny_model])
def test_blocks_may_return_tuples_and_projections_be_linear(other: object) -> None:
    """The same numbers, whatever the modules are."""
    model = (
        tiny_model_of_tuples()
        if other is tiny_model_of_tuples
        else with_linear_projections(tiny_model())
    )
    expected = read_activations(MODEL, rows_of(MODEL), [1, 2], [2])
    found = read_activations(model, rows_of(model), [1, 2], [2])
    for layer in (1, 2):
        assert_same(found.keys[layer], expected.keys[layer], ROUNDING)
    assert_same(found.hidden[2], expected.hidden[2], ROUNDING)


def test_blocks_after_the_last_one_read_are_not_run() -> None:
    """They are what a pass costs most."""
    ran: list[int] = []
    handles = [
        MODEL.block(number).register_forward_hook(
            lambda *_, number=number: ran.append(number)
        )
        for number in range(4)
    ]
    read_activations(MODEL, rows_of(MODEL)[:2], [0], [1])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_hooks_are_gone_after_a_reading_and_after_a_failure() -> None:
    """The model is unchanged afterwards."""
    model, beyond = tiny_model(), TokenRow((1,) * 65, 64)
    read_activations(model, rows_of(model)[:2], [0], [1])
    with pytest.raises((IndexError, RuntimeError)):
        read_activations(model, [beyond], [0], [1])
    for module in model.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_stopping_swallows_nothing_but_its_own_stop() -> None:
    """A fault of the model stays a fault."""
    layer = nn.Linear(2, 2)
    with stopping_after(layer):
        layer(torch.zeros(2))
        pytest.fail("the block continues after the module has run")
    with pytest.raises(RuntimeError), stopping_after(layer):
        layer(torch.zeros(3))
    assert not layer._forward_hooks
    with stopping_after(layer, before=True):
        layer(torch.zeros(3))  # is not run, or it would fail
        pytest.fail("the block continues after the module was reached")
    assert not layer._forward_pre_hooks


def test_inputs_of_modules_are_collected_by_number() -> None:
    """The first argument of the last call of each."""
    modules: dict[int, nn.Module] = {3: nn.ReLU(), 5: nn.Identity()}
    with module_inputs(modules) as seen:
        modules[3](torch.tensor([-1.0]))
        modules[5](torch.tensor([2.0]))
        modules[5](torch.tensor([4.0]))
    modules[5](torch.tensor([8.0]))
    assert {number: each.item() for number, each in seen.items()} == {3: -1, 5: 4}


def test_a_hidden_state_is_a_tensor_or_the_first_of_a_tuple() -> None:
    """As releases of transformers differ."""
    state = torch.ones(2)
    assert hidden_state(state) is state
    assert hidden_state((state, torch.zeros(2))) is state


def test_what_a_module_was_given_is_read_by_rows() -> None:
    """Also where a family puts all tokens of a batch in one row, as OPT does."""
    batch = pad_rows([TokenRow((1, 2, 3), 0), TokenRow((4,), 0)], torch.device("cpu"))
    states = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(by_rows(states, batch), states)
    assert torch.equal(by_rows(states.view(6, 4), batch), states)
    model = tiny_model("opt")
    with module_inputs({1: model.down_projection(1)}) as seen:
        model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    assert seen[1].shape == (6, 24)
    found = read_activations(model, [TokenRow((1, 2, 3), 1)], [1]).keys[1]
    assert_same(by_rows(seen[1], batch)[0, 1], found[0], ROUNDING)


def test_a_batch_that_memory_cannot_hold_is_halved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The activations are the same."""
    rows = [TokenRow((number, *[5] * 60), 60) for number in range(1, 8)]
    whole = read_activations(MODEL, rows, [1], [2])
    sizes: list[int] = []

    def stack(model: EditableModel, packs: Sequence[Pack]) -> PackBatch:
        sizes.append(len(packs))
        if len(packs) > 1:
            raise torch.OutOfMemoryError
        return stack_packs(model, packs)

    monkeypatch.setattr("editing.models.prefix_tree.stack_packs", stack)
    halved = read_activations(MODEL, rows, [1], [2])
    assert max(sizes) > 1
    assert_same(halved.keys[1], whole.keys[1], ROUNDING)
    assert_same(halved.hidden[2], whole.hidden[2], ROUNDING)


def test_nothing_after_the_last_token_that_is_read_is_run() -> None:
    """Loading refuses models in which it would matter."""
    rows = rows_of(MODEL)
    longer = [
        TokenRow((*row.ids[: row.subject + 1], 3, 7), row.subject) for row in rows
    ]
    found = read_activations(MODEL, rows, [0, 1], [2])
    other = read_activations(MODEL, longer, [0, 1], [2])
    for layer in (0, 1):
        assert torch.equal(found.keys[layer], other.keys[layer])
    assert torch.equal(found.hidden[2], other.hidden[2])


def test_what_rows_have_in_common_is_run_once() -> None:
    """As many tokens as there are beginnings of rows, and equal rows are one."""
    rows = [*rows_of(MODEL), *rows_of(MODEL)]
    ends = [row.ids[: row.subject + 1] for row in rows]
    beginnings = {ids[: size + 1] for ids in ends for size in range(len(ids))}
    with module_inputs({0: MODEL.down_projection(0)}) as seen:
        found = read_activations(MODEL, rows, [1], batch_tokens=10**6)
    run = seen[0].shape[0] * seen[0].shape[1]
    assert len(beginnings) <= run < 1.3 * len(beginnings)
    assert len(beginnings) < 0.7 * sum(len(ids) for ids in ends) / 2
    assert torch.equal(*found.keys[1].chunk(2))


def test_a_down_projection_whose_input_alone_is_read_is_not_run() -> None:
    """It is a third of the last block."""
    ran: list[int] = []
    handles = [
        MODEL.down_projection(number).register_forward_hook(
            lambda *_, number=number: ran.append(number)
        )
        for number in range(4)
    ]
    read_activations(MODEL, rows_of(MODEL)[:2], [0, 2])
    read_activations(MODEL, rows_of(MODEL)[:2], [1], [1])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1, 0, 1]


def blocks_run(model: EditableModel, work: Callable[[], object]) -> list[int]:
    """Note which blocks' down-projections are reached."""
    ran: list[int] = []
    handles = [
        model.down_projection(number).register_forward_pre_hook(
            lambda *_, number=number: ran.append(number)
        )
        for number in range(model.block_count)
    ]
    work()
    for handle in handles:
        handle.remove()
    return ran


@pytest.mark.parametrize("variant", [*VARIANTS, "tuples"])
def test_a_pass_that_begins_later_gives_the_same_bits(variant: str) -> None:
    """On a model in which a later block was edited; no block before is run."""
    dtype = torch.float32 if variant in SINGLE_ONLY else torch.float64
    tuples = variant == "tuples"
    model = tiny_model_of_tuples() if tuples else tiny_model(variant, dtype)
    rows, kept, later = rows_of(model), BlockInputs(2), BlockInputs(3)
    first = read_activations(model, rows, [2], [3], relay=Relay(kept=kept))
    model.down_projection(2).get_parameter("weight").data.mul_(1.5)
    relay = Relay(kept, later)
    whole = read_activations(model, rows, [2, 3], [3])
    ran = blocks_run(
        model, lambda: read_activations(model, rows, [2, 3], [3], relay=relay)
    )
    again = read_activations(model, rows, [2, 3], [3], relay=relay)
    assert torch.equal(again.keys[2], first.keys[2])
    assert torch.equal(again.keys[3], whole.keys[3])
    assert torch.equal(again.hidden[3], whole.hidden[3])
    assert not torch.equal(again.hidden[3], first.hidden[3])
    assert set(ran) == {2, 3}
    last = read_activations(model, rows, [3], relay=Relay(later))
    assert torch.equal(last.keys[3], whole.keys[3])


def test_a_batch_whose_beginning_was_not_kept_is_run_whole() -> None:
    """As when memory made the batches smaller."""
    rows, kept = rows_of(MODEL), BlockInputs(2)
    read_activations(MODEL, rows[:5], [2], relay=Relay(kept=kept))
    expected = read_activations(MODEL, rows, [3])
    found = read_activations(MODEL, rows, [3], relay=Relay(kept))
    assert torch.equal(found.keys[3], expected.keys[3])


def test_a_model_is_given_back_after_a_pass_that_began_later() -> None:
    """Also after one that failed, and with what its blocks had of their own."""
    for model in (tiny_model(), tiny_model_of_tuples()):
        rows, kept = rows_of(model)[:2], BlockInputs(2)
        read_activations(model, rows, [2], relay=Relay(kept=kept))
        before = [vars(model.block(number)).get("forward") for number in range(4)]
        read_activations(model, rows, [3], relay=Relay(kept))
        broken = BlockInputs(
            2, kept.parts, {n: s[:, :, 1:] for n, s in kept.states.items()}
        )
        with pytest.raises(RuntimeError):
            read_activations(model, rows, [3], relay=Relay(broken))
        after = [vars(model.block(number)).get("forward") for number in range(4)]
        assert all(one is other for one, other in zip(before, after, strict=True))
        assert not any(module._forward_hooks for module in model.model.modules())
