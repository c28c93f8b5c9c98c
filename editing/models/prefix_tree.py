"""Rows of tokens of which common beginnings are run once.

The tokens of many rows form a forest: rows that begin alike share a path from its root.
Such a forest is laid out in one row of a batch, a *pack*, every token after those it
follows. Its place in its own text is its position, and it attends to itself and to the
tokens on its path, so under causal attention it has the hidden states that it has in
its own text. No attention keys or values are kept between passes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor

from editing.models.batching import run_batches
from editing.models.loading import EditableModel

PACK_TOKENS = 64
"""Most tokens of a pack of short rows; each attends over its whole pack."""

BATCH_TOKENS = {"cpu": 384}
MAX_BATCH_TOKENS = 16384
"""Tokens of a batch, padding counted, by device and elsewhere.

A CPU is fastest where what a block makes of a batch stays near it.
"""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pack:
    """A forest of tokens, each one before those that follow it in any text.

    Attributes:
        ids: Token numbers.
        depths: The place of each in its own text.
        ends: By token, the slot where those that follow it in any text end.
        rows: The slots of each row's tokens, by the row's number.
    """

    ids: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]
    rows: dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class PackBatch:
    """Packs as one batch, padded on the right.

    Attributes:
        inputs: What the model is called with, apart from its cache.
        slots: By row, the place of each of its tokens among all ``batch · seq`` tokens.
    """

    inputs: dict[str, Tensor]
    slots: dict[int, tuple[int, ...]]


def run_packs(
    model: EditableModel,
    rows: Sequence[tuple[int, ...]],
    run: Callable[[PackBatch], Result],
    batch_tokens: int | None = None,
) -> Iterator[Result]:
    """Run rows in batches of packs; a batch that does not fit in memory is halved.

    The state of a row's token is ``states.flatten(0, 1)[batch.slots[row][token]]``, to
    rounding that of the row alone. A single pack that does not fit is a `MemoryError`.

    Args:
        model: The model that `run` calls.
        rows: Token numbers, at least one each, in any order and with any repetitions.
        run: Calls the model on a batch's inputs, and keeps nothing of it if it fails.
        batch_tokens: Most tokens of a batch, padding counted, unless one row alone is
            longer; what suits the device if None.

    Yields:
        What `run` gave, until each row was in one batch.
    """
    default = BATCH_TOKENS.get(model.device.type, MAX_BATCH_TOKENS)
    most = batch_tokens or default
    packs = pack_rows(model, rows, min(most, PACK_TOKENS))
    packs.sort(key=lambda pack: len(pack.ids))

    def run_some(part: Sequence[Pack]) -> Result:
        return run(stack_packs(model, part))

    for start, stop in split_by_tokens([len(pack.ids) for pack in packs], most):
        for _, result in run_batches(packs[start:stop], stop - start, run_some):
            yield result


def pack_rows(
    model: EditableModel, rows: Sequence[tuple[int, ...]], size: int = PACK_TOKENS
) -> list[Pack]:
    """Lay out rows in packs; what rows of one pack have in common is there once.

    Rows are taken in dictionary order. Where a family's blocks take no mask of what to
    attend to, or attend less far back than to a row's beginning, each row that no other
    begins with is a pack.

    Args:
        model: The model that will run them.
        rows: Token numbers, at least one each; equal rows share all slots.
        size: Most tokens of a pack, unless rows are longer than half of that.
    """
    longest = max(map(len, rows), default=0)
    size = min(max(size, 2 * longest), model.longest_input)
    most = size if _takes_packs(model, longest) else 0
    builders = [_Builder()]
    for number in sorted(range(len(rows)), key=lambda number: rows[number]):
        if not builders[-1].add(number, rows[number], most):
            builders.append(_Builder())
            builders[-1].add(number, rows[number], most)
    return [builder.build() for builder in builders if builder.rows]


def stack_packs(model: EditableModel, packs: Sequence[Pack]) -> PackBatch:
    """Make a batch of packs, on the device of the model's inputs.

    If each is one row, the mask is of padding alone, as any model takes it.
    """
    width = max(len(pack.ids) for pack in packs)
    slots = {
        number: tuple(place * width + slot for slot in found)
        for place, pack in enumerate(packs)
        for number, found in pack.rows.items()
    }
    ids = _padded([pack.ids for pack in packs], width)
    if all(pack.depths == tuple(range(len(pack.ids))) for pack in packs):
        inputs = {"attention_mask": _padded([[1] * len(p.ids) for p in packs], width)}
    else:
        sees = torch.stack([_paths_of(pack, width) for pack in packs]).unsqueeze(1)
        mask = torch.zeros(sees.shape, dtype=model.dtype)
        mask.masked_fill_(~sees, torch.finfo(model.dtype).min)
        depths = _padded([pack.depths for pack in packs], width)
        inputs = {"attention_mask": mask, "position_ids": depths}
    named = {"input_ids": ids, **inputs}
    return PackBatch({k: v.to(model.device) for k, v in named.items()}, slots)


def split_by_tokens(lengths: Sequence[int], budget: int) -> Iterator[tuple[int, int]]:
    """Cut rows in order of length into batches; a single row always makes one.

    Args:
        lengths: Tokens of each row, never falling.
        budget: Most tokens of a batch, padding counted.

    Yields:
        Where each batch begins and ends.
    """
    start = 0
    for stop in range(1, len(lengths) + 1):
        last = stop == len(lengths)
        if last or (stop + 1 - start) * lengths[stop] > budget:
            yield start, stop
            start = stop


class _Builder:
    """A pack to which rows are added in dictionary order."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, ...]] = {}
        self._ids: list[int] = []
        self._depths: list[int] = []
        self._ends: list[int] = []
        self._last: tuple[int, ...] = ()
        self._path: list[int] = []

    def add(self, number: int, row: tuple[int, ...], size: int) -> bool:
        """Add a row if there is room, or if it continues where all others end."""
        shared, taken = _count_shared(self._last, row), len(self._ids)
        if shared < taken and taken + len(row) - shared > size:
            return False
        self._leave(shared)
        self._path += range(taken, taken + len(row) - shared)
        self._ids += row[shared:]
        self._depths += range(shared, len(row))
        self._ends += [0] * (len(row) - shared)
        self._last = row
        self.rows[number] = tuple(self._path)
        return True

    def build(self) -> Pack:
        """Close the pack."""
        self._leave(0)
        return Pack(tuple(self._ids), tuple(self._depths), tuple(self._ends), self.rows)

    def _leave(self, depth: int) -> None:
        for slot in self._path[depth:]:
            self._ends[slot] = len(self._ids)
        del self._path[depth:]


def _count_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the tokens that two rows begin with."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _takes_packs(model: EditableModel, longest: int) -> bool:
    reach = getattr(model.model.config.get_text_config(), "sliding_window", None)
    return model.architecture.windows and (reach is None or longest <= reach)


def _padded(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def _paths_of(pack: Pack, width: int) -> Bool[Tensor, "width width"]:
    """Which slots are on the path to each slot; padding is on its own alone."""
    slots = torch.arange(width)
    ends = torch.cat([torch.tensor(pack.ends), slots[len(pack.ids) :] + 1])
    return (slots <= slots.unsqueeze(1)) & (slots.unsqueeze(1) < ends)
