"""Run a batch's rows once; what templates put before every prompt, a single time."""

from collections.abc import Iterator, Sequence
from itertools import takewhile

import torch

from editing.memit.search.full_rows import FullRows
from editing.memit.search.loss_positions import TargetRows
from editing.memit.search.prefix_cache import (
    FrozenPrefix,
    SharedPrefix,
    run_prefix,
    run_shared,
)
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow, pad_rows

WORTH = 64
"""Tokens that must be saved, for a prefix to be run by itself."""

PASS_TOKENS = 2048
"""Tokens of one pass, padding included."""

Past = list[tuple[torch.Tensor, torch.Tensor]]


def run_parts(
    model: EditableModel,
    built: TargetRows,
    parts: Sequence[Sequence[int]],
    layer: int,
) -> list[FrozenPrefix | FullRows]:
    """Run all rows and return what the blocks after `layer` need of each part's rows.

    Args:
        model: The model.
        built: The rows.
        parts: Row numbers of each part.
        layer: ``L``.
    """
    if not model.architecture.windows:
        chosen = [[built.rows[row] for row in part] for part in parts]
        return [run_prefix(model, pad_rows(c, model.device), layer) for c in chosen]
    done: list[int] = []
    pieces: list[FrozenPrefix] = []
    for length, groups in _by_length(built).items():
        for numbers, piece in _run_groups(model, built.rows, length, groups, layer):
            done += numbers
            pieces.append(piece)
    place = torch.argsort(torch.tensor(done, device=model.device))
    whole = FrozenPrefix.joined(pieces)
    del pieces
    return [whole.among(place[list(part)]) for part in parts]


def _by_length(built: TargetRows) -> dict[int, list[tuple[tuple[int, ...], list[int]]]]:
    """Group the rows of each template with what they share, by its length."""
    found: dict[int, list[tuple[tuple[int, ...], list[int]]]] = {}
    for numbers in built.by_template():
        pasts = [row.ids[: row.subject] for row in map(built.rows.__getitem__, numbers)]
        shared = _common(pasts)
        if len(shared) * (len(numbers) - 1) < WORTH:
            shared = ()
        found.setdefault(len(shared), []).append((shared, numbers))
    return found


def _run_groups(
    model: EditableModel,
    rows: Sequence[TokenRow],
    length: int,
    groups: Sequence[tuple[tuple[int, ...], list[int]]],
    layer: int,
) -> Iterator[tuple[list[int], FrozenPrefix]]:
    """Run the rows of groups whose shared prefixes are of one length."""
    past: Past = []
    if length:
        prefixes = torch.tensor([shared for shared, _ in groups], device=model.device)
        past = run_shared(model, prefixes)
    owned = [(row, owner) for owner, (_, each) in enumerate(groups) for row in each]
    owned.sort(key=lambda pair: len(rows[pair[0]].ids))
    while owned:
        chunk = owned[
            : max(_fitting([len(rows[row].ids) - length for row, _ in owned]), 1)
        ]
        owned = owned[len(chunk) :]
        batch = pad_rows([_rest(rows[row], length) for row, _ in chunk], model.device)
        owners = torch.tensor([owner for _, owner in chunk], device=model.device)
        shared = SharedPrefix(past, length, owners) if length else None
        piece = run_prefix(model, batch, layer, shared)
        assert isinstance(piece, FrozenPrefix)
        yield [row for row, _ in chunk], piece


def _common(texts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the tokens that all texts begin with."""
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    same = takewhile(lambda pair: pair[0] == pair[1], pairs)
    return tuple(token for token, _ in same)


def _rest(row: TokenRow, length: int) -> TokenRow:
    return TokenRow(row.ids[length:], row.subject - length)


def _fitting(lengths: Sequence[int]) -> int:
    """How many rows of increasing lengths fit into one pass."""
    return sum(
        (number + 1) * length <= PASS_TOKENS for number, length in enumerate(lengths)
    )
