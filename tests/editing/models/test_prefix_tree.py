"""Laws of shared prefixes: each row's states are those of the row alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.models import prefix_tree
from editing.models.loading import EditableModel
from editing.models.prefix_tree import (
    PackBatch,
    pack_rows,
    run_packs,
    split_by_tokens,
    stack_packs,
)
from tests.families import SINGLE_ONLY, VARIANTS, WINDOW
from tests.laws import assert_same
from tests.tiny import tiny_model

SINGLE = 1e-6
"""Tables of positions and some norms are in single precision in every dtype."""

MODEL = tiny_model()
BLOOM = tiny_model("bloom")

FORKED = [(1, 2, 3, 4), (1, 2, 5), (3,), (1, 2, 5, 6, 7, 8, 9), (3, 4, 5, 9), (1, 2)]
"""Rows of which some begin alike, and some begin others."""

MANY = [(first, *row) for first in range(10, 14) for row in FORKED] + FORKED
"""More than one short pack holds."""

ROWS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=12
)


def beginnings(rows: list[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """All that rows begin with, themselves included."""
    return {row[:count] for row in rows for count in range(1, len(row) + 1)}


def states_of(
    model: EditableModel, rows: list[tuple[int, ...]], batch_tokens: int | None = None
) -> dict[int, Tensor]:
    """Run rows in packs, and read the states of each row's tokens."""

    def run(batch: PackBatch) -> dict[int, Tensor]:
        with torch.no_grad():
            states = model.model.base_model(**batch.inputs, use_cache=False)[0]
        flat = states.flatten(0, 1)
        return {row: flat[list(slots)] for row, slots in batch.slots.items()}

    parts = list(run_packs(model, rows, run, batch_tokens))
    assert sum(map(len, parts)) == len(rows)
    return {row: states for part in parts for row, states in part.items()}


def naive_states(model: EditableModel, row: tuple[int, ...]) -> Tensor:
    """Run one row by itself."""
    with torch.no_grad():
        found: Tensor = model.model.base_model(input_ids=torch.tensor([row]))[0][0]
    return found


def count_tokens(model: EditableModel, rows: list[tuple[int, ...]]) -> int:
    """Count the tokens that a model is given for rows, padding included."""
    counts: list[int] = []

    def note(_: object, __: object, given: dict[str, Tensor]) -> None:
        counts.append(given["input_ids"].numel())

    hook = model.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        states_of(model, rows)
    finally:
        hook.remove()
    return sum(counts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_states_are_those_of_whole_rows(variant: str) -> None:
    """In every family; also of rows that sliding windows hold and do not hold."""
    dtype = torch.float32 if variant in SINGLE_ONLY else torch.float64
    model = tiny_model(variant, dtype)
    for rows in (FORKED, [row[:WINDOW] for row in FORKED]):
        found = states_of(model, rows)
        for number, row in enumerate(rows):
            assert_same(found[number], naive_states(model, row), SINGLE)


@pytest.mark.parametrize("batch_tokens", [1, 5, 9, 40])
def test_no_batch_changes_a_state(batch_tokens: int) -> None:
    """However many packs the rows take, and whatever is padded."""
    for model in (MODEL, BLOOM):
        found = states_of(model, MANY, batch_tokens)
        for number, row in enumerate(MANY):
            assert_same(found[number], naive_states(model, row), 1e-12)


def test_long_rows_fit_the_positions_of_the_model() -> None:
    """A pack is no longer than the model's longest input, and its rows may be."""
    rows = [tuple(range(longest)) for longest in (63, 64)] + [(0, *range(2, 60))]
    packs = pack_rows(MODEL, rows)
    assert [len(pack.ids) for pack in packs] == [64, 59]
    found = states_of(MODEL, rows)
    for number, row in enumerate(rows):
        assert_same(found[number], naive_states(MODEL, row), 1e-12)


def test_each_token_is_run_once() -> None:
    """In a pack that holds all rows; in families without packs, each whole row."""
    assert count_tokens(MODEL, FORKED * 2) == len(beginnings(FORKED))
    assert count_tokens(BLOOM, FORKED * 2) == 3 * 7


@given(rows=ROWS, size=st.integers(1, 40))
def test_packs_spell_their_rows(rows: list[tuple[int, ...]], size: int) -> None:
    """Each row once, each beginning once in a pack, and each token after its path."""
    packs = pack_rows(MODEL, rows, size)
    assert sorted(n for pack in packs for n in pack.rows) == list(range(len(rows)))
    most = max(size, 2 * max(map(len, rows), default=0))
    for pack in packs:
        assert len(pack.ids) <= most
        assert len(pack.ids) == len(beginnings([rows[n] for n in pack.rows]))
        for number, slots in pack.rows.items():
            assert tuple(pack.ids[slot] for slot in slots) == rows[number]
            assert tuple(pack.depths[slot] for slot in slots) == tuple(
                range(len(slots))
            )
            for place, slot in enumerate(slots):
                on_path = [s for s in range(slot + 1) if slot < pack.ends[s]]
                assert on_path == list(slots[: place + 1])


@given(rows=ROWS)
def test_a_family_without_packs_runs_the_rows_that_no_other_begins_with(
    rows: list[tuple[int, ...]],
) -> None:
    """Each once, whole; a row that another one begins with is read there."""
    packs = pack_rows(BLOOM, rows)
    assert sorted(pack.ids for pack in packs) == sorted(
        row
        for row in set(rows)
        if not any(o != row and o[: len(row)] == row for o in rows)
    )
    for pack in packs:
        for number, slots in pack.rows.items():
            assert pack.ids[: len(slots)] == rows[number]
            assert slots == tuple(range(len(slots)))
    if packs:
        assert set(stack_packs(BLOOM, packs).inputs) == {"input_ids", "attention_mask"}


@given(
    lengths=st.lists(st.integers(1, 9), max_size=20).map(sorted),
    budget=st.integers(1, 30),
)
def test_batches_hold_every_row_once_and_fit(lengths: list[int], budget: int) -> None:
    """In tokens, unless one row alone is longer; none could be larger."""
    batches = list(split_by_tokens(lengths, budget))
    assert [i for start, stop in batches for i in range(start, stop)] == list(
        range(len(lengths))
    )
    for start, stop in batches:
        rows, width = stop - start, lengths[stop - 1]
        assert rows == 1 or rows * width <= budget
        if stop < len(lengths):
            assert (rows + 1) * lengths[stop] > budget


def test_a_batch_that_does_not_fit_is_halved() -> None:
    """With the same rows in the end."""
    refused: list[int] = []

    def run(batch: PackBatch) -> list[int]:
        if len(batch.inputs["input_ids"]) > 1:
            refused.append(len(batch.inputs["input_ids"]))
            raise MemoryError
        return list(batch.slots)

    rows = [(number, 1, 1, 1, 1, 1, 1) for number in range(60)]
    found = [row for part in run_packs(MODEL, rows, run) for row in part]
    assert sorted(found) == list(range(60))
    assert refused


def test_the_tokens_of_a_batch_go_by_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless they are given."""
    monkeypatch.setitem(prefix_tree.BATCH_TOKENS, "cpu", 5)
    assert len(list(run_packs(MODEL, MANY, lambda _: 0))) == 5
    assert len(list(run_packs(MODEL, MANY, lambda _: 0, 200))) == 1
