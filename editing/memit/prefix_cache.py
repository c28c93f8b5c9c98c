"""The part of a batch's forward pass that an optimised shift cannot change.

A shift at the subject's last token, after block ``L``, leaves every earlier position
and every block up to ``L`` as they are. So those are run once; a step runs the blocks
after ``L`` on the *window* of each row, its positions from the subject's last token on,
attending to the stored keys and values of the positions before.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache

from editing.memit.block_calls import recording
from editing.memit.full_rows import FullRows, run_full_rows
from editing.models.activations import hidden_state
from editing.models.families import ModelError
from editing.models.loading import EditableModel
from editing.models.token_rows import PromptBatch

OF_ROWS = ("attention_mask", "position_ids", "position_embeddings")
"""Arguments of a block that have rows and columns."""


@dataclass(frozen=True, slots=True)
class FrozenPrefix:
    """What the blocks after ``L`` need of the rest of the pass.

    Attributes:
        hidden: Output of block ``L`` in each row's window.
        past: Attention keys and values of the positions before the window, by block;
            each ``rows × heads × past × d_head``, not all of a row's columns allowed.
        calls: Arguments of each block, hidden state and past excluded, cut to windows.
            Blocks with the same arguments share it.
        takes_past: The argument of each block that takes the past.
    """

    hidden: Float[Tensor, "rows window d"]
    past: dict[int, tuple[Tensor, Tensor]]
    calls: dict[int, dict[str, Any]]
    takes_past: dict[int, str]

    def among(self, rows: Int[Tensor, " kept"]) -> "FrozenPrefix":
        """Keep some rows."""
        return FrozenPrefix(
            _of(self.hidden, rows),
            {n: (_of(k, rows), _of(v, rows)) for n, (k, v) in self.past.items()},
            _change(self.calls, lambda _, table: _of(table, rows)),
            self.takes_past,
        )

    def shifted(self, shift: Float[Tensor, "rows d"]) -> Float[Tensor, "rows window d"]:
        """Add a shift at each row's subject's last token, the window's first column."""
        first = self.hidden[:, :1] + shift.to(self.hidden).unsqueeze(1)
        return torch.cat([first, self.hidden[:, 1:]], dim=1)

    def run(
        self,
        model: EditableModel,
        hidden: Float[Tensor, "rows window d"],
        early: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks after ``L``; return the last output and block `early`'s."""
        read, place = hidden, hidden.device
        stored = _StoredPast(self.past)
        for layer, call in self.calls.items():
            arguments = call | {self.takes_past[layer]: stored, "use_cache": True}
            hidden = hidden_state(model.block(layer)(hidden, **arguments))
            read = hidden if early is None or layer <= early else read
        return hidden.to(place), read.to(place)


class _StoredPast:
    """A cache for attention that reads the past and stores nothing."""

    def __init__(self, past: dict[int, tuple[Tensor, Tensor]]) -> None:
        self._past = past

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        past_keys, past_values = self._past[layer_idx]
        return (
            torch.cat([past_keys, keys], dim=2),
            torch.cat([past_values, values], dim=2),
        )


class _PastOnly(DynamicCache):
    """Ends the pass once the last block's keys and values are stored.

    That block's output is not needed. The cache does not know the model's sliding
    windows, so it keeps every position; masks hide what a window leaves out.
    """

    def __init__(self, last: int | None) -> None:
        super().__init__()
        self._last = last

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *rest: object,
        **named: object,
    ) -> tuple[Tensor, Tensor]:
        kept = super().update(key_states, value_states, layer_idx, *rest, **named)
        if layer_idx == self._last:
            raise _Stored
        return kept


class _Stored(Exception):
    pass


@torch.no_grad()
def run_prefix(
    model: EditableModel, batch: PromptBatch, layer: int
) -> FrozenPrefix | FullRows:
    """Run a batch once and keep what the blocks after `layer` need."""
    columns = _columns_of(batch)
    if not model.architecture.windows:
        return run_full_rows(model, batch, layer, columns.positions)
    later = range(layer + 1, model.block_count)
    cache = _PastOnly(last=max(later, default=None))
    with recording(model, layer) as found, suppress(_Stored):
        model.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            past_key_values=cache,
            use_cache=True,
        )
    (hidden,) = found.outputs
    index = columns.positions.unsqueeze(2).expand(-1, -1, hidden.shape[2])
    return FrozenPrefix(
        hidden.gather(1, index),
        {number: _past_of(cache, number, columns.before) for number in later},
        _cut(found.calls, columns, hidden.dtype),
        {number: _past_argument(call) for number, call in found.calls.items()},
    )


def _past_of(cache: DynamicCache, number: int, before: int) -> tuple[Tensor, Tensor]:
    stored: Any = cache.layers[number]
    return stored.keys[:, :, :before], stored.values[:, :, :before]


def _past_argument(call: dict[str, Any]) -> str:
    return next(name for name, value in call.items() if isinstance(value, Cache))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of each row's past and window.

    Attributes:
        positions: Of each column of the window; after the row's end, its end again.
        before: Number of columns of the longest past.
        allowed: Columns, past and window, that a row has and that are not later.
    """

    positions: Int[Tensor, "rows window"]
    before: int
    allowed: Bool[Tensor, "rows window all"]

    def masked(self, recorded: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Cut the model's mask to queries in windows, on past and window.

        Added to scores; ``rows × heads × window × (past + window)``. What is neither
        past nor window of a row is hidden. Queries after its end, which nothing reads,
        see what the end sees, so that each query sees something.
        """
        lowest = torch.finfo(dtype).min
        allowed = self.allowed.unsqueeze(1)
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        if recorded is not None:
            picked = self._picked(recorded)
            if picked.dtype == torch.bool:
                mask = mask.masked_fill(~picked, lowest)
            else:
                mask = picked.to(dtype)
        return mask.masked_fill(~allowed, lowest)

    def _picked(self, recorded: Tensor) -> Tensor:
        if recorded.dim() != 4:
            raise ModelError(
                "The model's attention takes no mask of rows by columns. Load it with "
                'attn_implementation="sdpa" or "eager".'
            )
        count = len(self.positions)
        past = torch.arange(self.before, device=self.positions.device)
        columns = torch.cat([past.expand(count, -1), self.positions], dim=1)
        rows = torch.arange(count, device=columns.device).view(-1, 1, 1)
        whole = recorded.to(columns.device).expand(count, -1, -1, -1).transpose(1, 3)
        picked = whole[rows, columns.unsqueeze(1), self.positions.unsqueeze(2)]
        return picked.permute(0, 3, 1, 2)

    def cut(self, name: str, table: Tensor) -> Tensor:
        """Cut positions, or embeddings of them, to the windows."""
        whole = table.to(self.positions.device).expand(
            len(self.positions), *table.shape[1:]
        )
        if name == "position_ids":
            return whole.gather(1, self.positions)
        index = self.positions.unsqueeze(2).expand(-1, -1, table.shape[2])
        return whole.gather(1, index)


def _columns_of(batch: PromptBatch) -> _Columns:
    subjects, lengths = batch.subjects, batch.lengths
    before, width = int(subjects.max()), int((lengths - subjects).max())
    steps = torch.arange(width, device=subjects.device)
    positions = subjects.unsqueeze(1) + steps
    beyond = positions >= lengths.unsqueeze(1)
    past = torch.arange(before, device=steps.device) < subjects.view(-1, 1, 1)
    causal = steps.view(1, 1, -1) <= steps.view(1, -1, 1)
    inside = (causal & ~beyond.unsqueeze(1)).expand(-1, width, width)
    allowed = torch.cat([past.expand(-1, width, -1), inside], dim=2)
    last = (lengths - 1).unsqueeze(1)
    return _Columns(torch.minimum(positions, last), before, allowed)


def _cut(
    calls: dict[int, dict[str, Any]], columns: _Columns, dtype: torch.dtype
) -> dict[int, dict[str, Any]]:
    """Cut the arguments of blocks that have columns to windows."""
    without = {
        number: {k: v for k, v in call.items() if not isinstance(v, Cache)}
        | {"attention_mask": call.get("attention_mask")}
        for number, call in calls.items()
    }

    def one(name: str, table: Tensor | None) -> Tensor:
        if name == "attention_mask":
            return columns.masked(table, dtype)
        assert table is not None
        return columns.cut(name, table)

    return _change(without, one)


def _change(
    calls: dict[int, dict[str, Any]], change: Callable[[str, Any], Tensor]
) -> dict[int, dict[str, Any]]:
    """Change each argument that has rows, once, however many blocks share it."""
    done: dict[tuple[str, int], Any] = {}

    def changed(name: str, value: Any) -> Any:  # noqa: ANN401 - any argument of a block
        if name not in OF_ROWS or (value is None and name != "attention_mask"):
            return value
        if isinstance(value, tuple):
            return tuple(changed(name, each) for each in value)
        place = (name, id(value))
        if place not in done:
            done[place] = change(name, value)
        return done[place]

    return {
        number: {name: changed(name, value) for name, value in call.items()}
        for number, call in calls.items()
    }


def _of(table: Tensor, rows: Int[Tensor, " kept"]) -> Tensor:
    return table[rows.to(table.device)]
