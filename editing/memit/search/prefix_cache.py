"""The part of a batch's forward pass that an optimised shift cannot change.

A shift at the subject's last token, after block ``L``, leaves every earlier position
and every block up to ``L`` as they are. So those are run once; a step runs the blocks
after ``L`` on the *window* of each row, its positions from the subject's last token on,
attending to the stored keys and values of the positions before.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, DynamicCache

from editing.memit.search.block_calls import recording
from editing.memit.search.faster_modules import feed_forward_at
from editing.memit.search.full_rows import FullRows, run_full_rows
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
        pasts: Positions before each row's window.
        widths: Positions of each row's window.
    """

    hidden: Float[Tensor, "rows window d"]
    past: dict[int, tuple[Tensor, Tensor]]
    calls: dict[int, dict[str, Any]]
    takes_past: dict[int, str]
    pasts: Int[Tensor, " rows"]
    widths: Int[Tensor, " rows"]

    def among(self, rows: Int[Tensor, " kept"]) -> "FrozenPrefix":
        """Keep some rows, and of columns what one of them has."""
        pasts, widths = self.pasts[rows], self.widths[rows]
        before, width = int(pasts.max()), int(widths.max())
        longest = int(self.pasts.max())

        def cut(name: str, tables: Sequence[Tensor]) -> Tensor:
            (table,) = tables
            if name != "attention_mask":
                return _of(table[:, :width], rows)
            mask = _of(table[:, :, :width], rows)
            window = mask[..., longest : longest + width]
            return torch.cat([mask[..., :before], window], dim=3)

        def cut_past(table: Tensor) -> Tensor:
            return _of(table[:, :, :before], rows)

        return FrozenPrefix(
            _of(self.hidden[:, :width], rows),
            {n: (cut_past(k), cut_past(v)) for n, (k, v) in self.past.items()},
            _change([self.calls], cut),
            self.takes_past,
            pasts,
            widths,
        )

    @staticmethod
    def joined(parts: Sequence["FrozenPrefix"]) -> "FrozenPrefix":
        """Put rows of several below one another, padded to the same columns."""
        width = max(part.hidden.shape[1] for part in parts)
        befores = [int(part.pasts.max()) for part in parts]
        longest = max(befores)

        def join(name: str, tables: Sequence[Tensor]) -> Tensor:
            if name != "attention_mask":
                return torch.cat([_widened(table, width) for table in tables])
            pairs = zip(tables, befores, strict=True)
            return torch.cat([_spread(*pair, longest, width) for pair in pairs])

        def join_past(layer: int, which: int) -> Tensor:
            each = (part.past[layer][which] for part in parts)
            return torch.cat([pad(t, (0, 0, 0, longest - t.shape[2])) for t in each])

        return FrozenPrefix(
            torch.cat([_widened(part.hidden, width) for part in parts]),
            {n: (join_past(n, 0), join_past(n, 1)) for n in parts[0].past},
            _change([part.calls for part in parts], join),
            parts[0].takes_past,
            torch.cat([part.pasts for part in parts]),
            torch.cat([part.widths for part in parts]),
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
        places: Int[Tensor, " places"] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks after ``L``; return the last output and block `early`'s.

        Args:
            model: The model.
            hidden: Output of block ``L``, shifted.
            early: The block whose output is returned second; None is the last.
            places: Where the last block's output is read, as ``row · window +
                column``; elsewhere it is then not defined. None is everywhere.
        """
        read, place, stored = hidden, hidden.device, _StoredPast(self.past)
        for layer, call in self.calls.items():
            arguments = call | {self.takes_past[layer]: stored, "use_cache": True}
            last = layer == model.block_count - 1
            with feed_forward_at(model, layer, places if last else None):
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
        all_keys = torch.cat([past_keys, keys], dim=2)
        return all_keys, torch.cat([past_values, values], dim=2)


class _PastOnly(DynamicCache):
    """Ends the pass once the last block's keys and values are stored.

    That block's output is not needed. The cache does not know the model's sliding
    windows, so it keeps every position; masks hide what a window leaves out.
    """

    def __init__(self, last: int | None, shared: "SharedPrefix | None") -> None:
        super().__init__()
        self._last: int | None = None
        if shared is not None:
            for layer, (keys, values) in enumerate(shared.past):
                self.update(_of(keys, shared.owners), _of(values, shared.owners), layer)
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


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Tokens that several rows begin with, run once.

    Attributes:
        past: Attention keys and values by block; each ``prefixes × heads × length ×
            d_head``.
        length: Tokens of each prefix.
        owners: The prefix of each row.
    """

    past: list[tuple[Tensor, Tensor]]
    length: int
    owners: Int[Tensor, " rows"]


@torch.no_grad()
def run_shared(
    model: EditableModel, prefixes: Int[Tensor, "prefixes length"]
) -> list[tuple[Tensor, Tensor]]:
    """Run prefixes of one length; return attention keys and values by block."""
    cache = _PastOnly(model.block_count - 1, None)
    with suppress(_Stored):
        model.model.base_model(
            input_ids=prefixes, past_key_values=cache, use_cache=True
        )
    return [_past_of(cache, n, prefixes.shape[1]) for n in range(model.block_count)]


@torch.no_grad()
def run_prefix(
    model: EditableModel,
    batch: PromptBatch,
    layer: int,
    shared: SharedPrefix | None = None,
) -> FrozenPrefix | FullRows:
    """Run a batch once and keep what the blocks after `layer` need.

    Args:
        model: The model.
        batch: The rows; without the tokens of `shared`.
        layer: ``L``.
        shared: What rows begin with, if that was run; only where windows may be.
    """
    columns = _columns_of(batch, shared.length if shared else 0)
    if not model.architecture.windows:
        return run_full_rows(model, batch, layer, columns.positions)
    later = range(layer + 1, model.block_count)
    cache = _PastOnly(max(later, default=None), shared)
    with recording(model, layer) as found, suppress(_Stored):
        model.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=pad(batch.attention_mask, (columns.start, 0), value=1),
            past_key_values=cache,
            use_cache=True,
        )
    (hidden,) = found.outputs
    return FrozenPrefix(
        columns.cut("hidden", hidden),
        {number: _past_of(cache, number, columns.before) for number in later},
        _cut(found.calls, columns, hidden.dtype),
        {number: _past_argument(call) for number, call in found.calls.items()},
        batch.subjects + columns.start,
        batch.lengths - batch.subjects,
    )


def _past_of(cache: DynamicCache, number: int, before: int) -> tuple[Tensor, Tensor]:
    stored: Any = cache.layers[number]
    keys, values = stored.keys[:, :, :before], stored.values[:, :, :before]
    return keys.contiguous(), values.contiguous()  # without the windows' own


def _widened(table: Tensor, width: int) -> Tensor:
    """Repeat the last column, of the second dimension, up to a number of columns."""
    last = min(width, table.shape[1]) - 1
    return table[:, torch.arange(width, device=table.device).clamp(max=last)]


def _spread(mask: Tensor, before: int, longest: int, width: int) -> Tensor:
    """Insert hidden columns into a mask, after its past and after its window."""
    lowest = torch.finfo(mask.dtype).min
    past = pad(mask[..., :before], (0, longest - before), value=lowest)
    window = mask[..., before:]
    window = pad(window, (0, width - window.shape[3]), value=lowest)
    columns = torch.cat([past, window], dim=3)
    return _widened(columns.transpose(1, 2), width).transpose(1, 2)


def _past_argument(call: dict[str, Any]) -> str:
    return next(name for name, value in call.items() if isinstance(value, Cache))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of each row's past and window.

    Attributes:
        start: The first position that the model was run on.
        positions: Of each column of the window; after the row's end, its end again.
        before: Number of columns of the longest past.
        allowed: Columns, past and window, that a row has and that are not later.
    """

    start: int
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
        queries = self.positions - self.start
        picked = whole[rows, columns.unsqueeze(1), queries.unsqueeze(2)]
        return picked.permute(0, 3, 1, 2)

    def cut(self, name: str, table: Tensor) -> Tensor:
        """Cut positions, embeddings of them, or states, to the windows."""
        columns = self.positions - self.start
        whole = table.to(columns.device).expand(len(columns), *table.shape[1:])
        if name == "position_ids":
            return whole.gather(1, columns)
        index = columns.unsqueeze(2).expand(-1, -1, table.shape[2])
        return whole.gather(1, index)


def _columns_of(batch: PromptBatch, start: int) -> _Columns:
    subjects, lengths = batch.subjects + start, batch.lengths + start
    before, width = int(subjects.max()), int((lengths - subjects).max())
    steps = torch.arange(width, device=subjects.device)
    positions = subjects.unsqueeze(1) + steps
    beyond = positions >= lengths.unsqueeze(1)
    past = torch.arange(before, device=steps.device) < subjects.view(-1, 1, 1)
    causal = steps.view(1, 1, -1) <= steps.view(1, -1, 1)
    inside = (causal & ~beyond.unsqueeze(1)).expand(-1, width, width)
    allowed = torch.cat([past.expand(-1, width, -1), inside], dim=2)
    last = (lengths - 1).unsqueeze(1)
    return _Columns(start, torch.minimum(positions, last), before, allowed)


def _cut(
    calls: dict[int, dict[str, Any]], columns: _Columns, dtype: torch.dtype
) -> dict[int, dict[str, Any]]:
    """Cut the arguments of blocks that have columns to windows."""
    without = {
        number: {k: v for k, v in call.items() if not isinstance(v, Cache)}
        | {"attention_mask": call.get("attention_mask")}
        for number, call in calls.items()
    }

    def one(name: str, tables: Sequence[Tensor | None]) -> Tensor:
        (table,) = tables
        if name == "attention_mask":
            return columns.masked(table, dtype)
        assert table is not None
        return columns.cut(name, table)

    return _change([without], one)


def _change(
    parts: Sequence[dict[int, dict[str, Any]]],
    change: Callable[[str, Sequence[Any]], Tensor],
) -> dict[int, dict[str, Any]]:
    """Make one table of those of all parts, once, however many blocks share it.

    Arguments without rows are those of the first part.
    """
    done: dict[tuple[object, ...], Any] = {}

    def changed(name: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - any argument
        first = values[0]
        if name not in OF_ROWS or (first is None and name != "attention_mask"):
            return first
        if isinstance(first, tuple):
            return tuple(changed(name, each) for each in zip(*values, strict=True))
        place = (name, *map(id, values))
        if place not in done:
            done[place] = change(name, values)
        return done[place]

    return {
        number: {
            name: changed(name, [part[number][name] for part in parts]) for name in call
        }
        for number, call in parts[0].items()
    }


def _of(table: Tensor, rows: Int[Tensor, " kept"]) -> Tensor:
    return table[rows.to(table.device)]
