"""Laws of taking an update back: no bit is lost, whatever the rounding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.reversal import bound_of_rounding, plan_reversal, subtract, undo

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SEEDS = st.integers(0, 2**16)
SIZES = st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1.0, 100.0])


def draw(size: float, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Draw a weight with all kinds of values in it, and an update so large."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 50, generator=generator, dtype=torch.float64)
    weight[:, :3] = torch.tensor([0.0, -0.0, 1e-7])
    update = size * torch.randn(6, 50, generator=generator, dtype=torch.float64)
    return weight.to(dtype), update.float()


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Compare bytes: −0 is not 0."""
    return bytes(first.contiguous().view(torch.uint8).flatten().tolist()) == bytes(
        second.contiguous().view(torch.uint8).flatten().tolist()
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=SIZES, seed=SEEDS)
def test_what_is_kept_undoes_the_edit_bit_for_bit(
    dtype: torch.dtype, size: float, seed: int
) -> None:
    """Whatever the update's size against the weight."""
    weight, update = draw(size, seed, dtype)
    edited = weight + update.to(dtype)
    reversal, _ = plan_reversal(weight, edited, update)
    assert same_bits(undo(edited, update, reversal), weight)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=SEEDS)
def test_a_transposed_weight_is_given_back_the_same(
    dtype: torch.dtype, seed: int
) -> None:
    """Positions count entries as they are read, not as they lie in memory."""
    weight, update = (each.mT for each in draw(0.1, seed, dtype))
    edited = weight + update.to(dtype)
    reversal, _ = plan_reversal(weight, edited, update)
    assert same_bits(undo(edited, update, reversal), weight)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=SIZES, seed=SEEDS)
def test_what_subtraction_misses_is_counted_and_bounded(
    dtype: torch.dtype, size: float, seed: int
) -> None:
    """By its definition, and by the bound that knows nothing of the weight."""
    weight, update = draw(size, seed, dtype)
    edited = weight + update.to(dtype)
    _, missed = plan_reversal(weight, edited, update)
    back = subtract(edited, update)
    pairs = zip(back.flatten().tolist(), weight.flatten().tolist(), strict=True)
    gaps = [abs(one - other) for one, other in pairs]
    assert missed.largest == max(gaps)
    assert missed.count >= sum(gap > 0 for gap in gaps)
    assert missed.largest <= bound_of_rounding(edited, update)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=SIZES, seed=SEEDS)
def test_what_is_kept_is_never_larger_than_the_weight(
    dtype: torch.dtype, size: float, seed: int
) -> None:
    """And nothing is kept where subtraction is exact."""
    weight, update = draw(size, seed, dtype)
    reversal, missed = plan_reversal(weight, weight + update.to(dtype), update)
    assert reversal.size <= weight.numel() * weight.element_size()
    if reversal.positions is not None:
        assert reversal.size == missed.count * (4 + weight.element_size())


def test_a_small_edit_keeps_little() -> None:
    """An update of a hundredth of the weight misses few entries in any precision."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(200, 300, generator=generator)
    update = 0.01 * torch.randn(200, 300, generator=generator)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        held = weight.to(dtype)
        reversal, missed = plan_reversal(held, held + update.to(dtype), update)
        assert 0 < missed.count < 0.03 * weight.numel()
        assert reversal.size < 0.1 * held.numel() * held.element_size()
