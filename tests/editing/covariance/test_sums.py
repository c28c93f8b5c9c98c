"""Sums of ``k kᵀ``: exact in float64, and within their bound in blocks of float32."""

import pytest
import torch
from torch import Tensor

from editing.covariance.sums import (
    BLOCK,
    PANEL,
    MomentSums,
    add_products,
    full_single_precision,
    place_of_sums,
    product_precision,
)
from tests.laws import ALGEBRA, assert_same

CPU = torch.device("cpu")


def draw_keys(count: int, width: int, dtype: torch.dtype) -> Tensor:
    """Draw keys whose mean is far from zero, as those of a model are."""
    generator = torch.Generator().manual_seed(count + width)
    return (torch.randn(count, width, generator=generator) + 0.5).to(dtype)


def naive(keys: Tensor) -> Tensor:
    """Sum outer products one by one, in float64."""
    return sum(
        (torch.outer(key, key) for key in keys.double()),
        torch.zeros(keys.shape[1], keys.shape[1], dtype=torch.float64),
    )


@pytest.mark.parametrize("cuts", [(9,), (4, 5), (1, 1, 7)])
def test_sums_add_over_batches_and_layers_of_any_width(cuts: tuple[int, ...]) -> None:
    """A mean is the sum over the number of tokens."""
    keys = {0: draw_keys(9, 4, torch.float64), 3: draw_keys(9, 6, torch.float64)}
    sums = MomentSums.of_widths({0: 4, 3: 6}, CPU)
    for start, size in zip(torch.tensor((0, *cuts)).cumsum(0), cuts, strict=False):
        sums.add({k: v[int(start) : int(start) + size] for k, v in keys.items()})
    assert sums.tokens == 9
    for layer, each in keys.items():
        assert_same(sums.sums[layer].triu(), naive(each).triu(), ALGEBRA)
        assert_same(sums.means()[layer], naive(each) / 9, ALGEBRA)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_processor_products_of_low_precision_are_exact(dtype: torch.dtype) -> None:
    """They are formed in float64."""
    keys = draw_keys(300, 5, dtype)
    sums = MomentSums.of_widths({1: 5}, CPU)
    sums.add({1: keys})
    assert_same(sums.means()[1], naive(keys) / 300, 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_of_single_precision_stay_within_their_bound(dtype: torch.dtype) -> None:
    """Entry by entry: ``|error| ≤ γ Σ |k| |k|ᵀ``, over as many blocks as there are."""
    keys = draw_keys(3 * BLOCK + 100, 16, dtype)
    total = torch.zeros(16, 16, dtype=torch.float64)
    add_products(total, keys, torch.float32)
    unit = 2.0**-24
    gamma = BLOCK * unit / (1 - BLOCK * unit)
    magnitudes = keys.double().abs()
    bound = gamma * magnitudes.mT @ magnitudes
    error = (total - naive(keys)).triu().abs()
    assert bool((error <= bound).all())
    assert float(error.max()) > 0  # else float32 was not what was tried
    assert gamma < 6.2e-5


@pytest.mark.parametrize("width", [PANEL - 1, PANEL, 2 * PANEL + 7])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_panels_make_up_the_upper_half(width: int, precision: torch.dtype) -> None:
    """And a mean is symmetric to the last bit, whatever lies below the diagonal."""
    keys = draw_keys(3, width, torch.float64)
    sums = MomentSums(
        {2: torch.full((width, width), 7.0, dtype=torch.float64).tril(-1)}
    )
    add_products(sums.sums[2], keys, precision)
    sums.tokens = 3
    mean = sums.means()[2]
    assert torch.equal(mean, mean.mT)
    assert_same(mean, naive(keys) / 3, ALGEBRA if precision == keys.dtype else 1e-6)


def test_blocks_are_summed_in_double_precision() -> None:
    """One float32 sum over many blocks would lose the small ones."""
    large = torch.full((BLOCK, 1), 2.0**11)
    small = torch.full((BLOCK, 1), 2.0**-11)
    total = torch.zeros(1, 1, dtype=torch.float64)
    add_products(total, torch.cat([large, small]), torch.float32)
    assert float(total) == 2.0**32 + 2.0**-12


def test_precision_follows_device_and_keys() -> None:
    """Float32 only where float64 would be slow or is not there."""
    cuda, mps = torch.device("cuda"), torch.device("mps")
    assert product_precision(CPU, torch.bfloat16) == torch.float64
    assert product_precision(cuda, torch.bfloat16) == torch.float32
    assert product_precision(mps, torch.float32) == torch.float32
    assert product_precision(cuda, torch.float64) == torch.float64


def test_sums_lie_on_an_accelerator_only_if_it_has_room_and_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice the room."""
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 200))
    assert place_of_sums(cuda, 50) == cuda
    assert place_of_sums(cuda, 51) == CPU
    assert place_of_sums(torch.device("mps"), 1) == CPU


def test_the_precision_of_float32_is_lent_and_given_back() -> None:
    """Who allowed fewer bits gets them again."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with full_single_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
