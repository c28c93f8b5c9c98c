"""The shared rotation: what the server receives depends on pooled statistics alone."""

import torch
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from strategies.secure.rotation import derive_rotation, rotation_columns
from tests.laws import assert_same

KEY = derive_rotation(b"s" * 32, "run", 1, 5)
ROUNDING = 1e-13


def rotation(size: int, key: bytes = KEY) -> Tensor:
    """Give the whole rotation."""
    return rotation_columns(key, size, slice(0, size))


def test_it_is_orthogonal_and_determined_by_its_key() -> None:
    """Another round, layer or secret has another one."""
    whole = rotation(12)
    assert_same(whole @ whole.mT, torch.eye(12, dtype=torch.float64), ROUNDING)
    assert torch.equal(whole, rotation(12))
    assert torch.equal(rotation_columns(KEY, 12, slice(3, 5)), whole[:, 3:5])
    others = [("run", 2, 5), ("run", 1, 6), ("other", 1, 5)]
    keys = [derive_rotation(b"s" * 32, *parts) for parts in others]
    for key in (*keys, derive_rotation(b"t" * 32, "run", 1, 5)):
        assert not torch.allclose(rotation(12, key), whole, atol=1e-3)


def test_all_directions_are_alike() -> None:
    """Over many keys a column has a mean of 0 and entries of variance ``1/N``."""
    size, draws = 4, 2000
    columns = torch.stack(
        [
            rotation_columns(derive_rotation(b"s" * 32, n), size, slice(0, 1))[:, 0]
            for n in range(draws)
        ]
    )
    assert columns.mean(0).abs().max() < 4 / (size * draws) ** 0.5
    assert (columns.square().mean(0) - 1 / size).abs().max() < 0.03


def test_parties_rows_add_up_to_a_rotation_of_all_pairs() -> None:
    """With the pooled gram and cross; rows that nobody uses are zero."""
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(n, 5, dtype=torch.float64, generator=draw) for n in (2, 0, 3)]
    starts, total = (0, 3, 4), torch.zeros(8, 5, dtype=torch.float64)
    for start, part in zip(starts, parts, strict=True):
        total += rotation_columns(KEY, 8, slice(start, start + len(part))) @ part
    pooled = LayerStatistics.of_pairs(torch.cat(parts)[:, :3], torch.cat(parts)[:, 3:])
    found = LayerStatistics.of_pairs(total[:, :3], total[:, 3:], 5)
    assert_same(found.gram, pooled.gram, ROUNDING)
    assert_same(found.cross, pooled.cross, ROUNDING)


def test_two_sets_of_edits_with_equal_statistics_are_received_alike() -> None:
    """Other edits ``P K`` with ``P`` orthogonal have the same pooled statistics.

    For each rotation ``Q`` of the first there is one of the second, ``Q Pᵀ``, as likely
    as it, that makes the server receive the same numbers: whatever it computes, it
    cannot tell them apart.
    """
    draw = torch.Generator().manual_seed(1)
    pairs = torch.randn(6, 9, dtype=torch.float64, generator=draw)
    transform = rotation(6, derive_rotation(b"p" * 32))
    others = transform @ pairs
    assert (others - pairs).norm() > 0.5 * pairs.norm()
    first, second = rotation(6), rotation(6) @ transform.mT
    split = (slice(0, 2), slice(2, 3), slice(3, 6))
    received = [
        sum(turn[:, own] @ edits[own] for own in split)
        for turn, edits in ((first, pairs), (second, others))
    ]
    assert_same(received[0], received[1], ROUNDING)  # type: ignore[arg-type]
