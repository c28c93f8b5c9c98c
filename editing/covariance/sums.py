"""Sums of ``k kᵀ`` over tokens, and how precisely they are formed.

Sums and products are symmetric, so their upper halves are formed, in panels of rows.
On a CPU, and for keys in double precision, products are formed and summed in float64.
Float32 would be faster there, and too coarse: an edit goes where the covariance has
its smallest eigenvalues, which on the embedded model lie 4e-8 below the largest, and a
layer's delta would differ by 1e-3. On a GPU, where float64 is slow, keys in lower
precision are multiplied in float32 in blocks of ``BLOCK`` tokens and the blocks are
summed in float64: an entry of a block ``K`` then differs from the exact one by at most
``γ · (|K|ᵀ |K|)ᵢⱼ`` with ``γ = n u / (1 − n u)``, ``n = BLOCK`` and ``u = 2⁻²⁴``
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., equation 3.13), which
is 6.1e-5 and less than rounding each key to bfloat16.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 1024
"""Tokens whose products are summed in float32 before they are added in float64."""

PANEL = 256
"""Rows of a sum that are formed together, each from the panel's first column on."""

DOUBLE, SINGLE = "float64", f"float32 in blocks of {BLOCK}, summed in float64"


class MomentSums:
    """Running ``Σ k kᵀ`` of several layers over the same tokens.

    Attributes:
        sums: By layer, ``d_in × d_in`` in float64; on and above the diagonal.
        tokens: Number of keys in each sum.
    """

    def __init__(
        self, sums: Mapping[int, Float[Tensor, "_ _"]], tokens: int = 0
    ) -> None:
        """Continue from sums, which are changed in place."""
        self.sums, self.tokens = dict(sums), tokens

    @classmethod
    def of_widths(cls, widths: Mapping[int, int], device: torch.device) -> "MomentSums":
        """Start from zeros, on the device if it has room."""
        zeros = {
            layer: torch.zeros(width, width, dtype=torch.float64)
            for layer, width in widths.items()
        }
        return cls.resumed(zeros, 0, device)

    @classmethod
    def resumed(
        cls,
        sums: Mapping[int, Float[Tensor, "_ _"]],
        tokens: int,
        device: torch.device,
    ) -> "MomentSums":
        """Continue from sums, on the device if it has room."""
        place = place_of_sums(device, 8 * sum(each.numel() for each in sums.values()))
        return cls({layer: each.to(place) for layer, each in sums.items()}, tokens)

    def add(self, keys: Mapping[int, Float[Tensor, "n _"]]) -> None:
        """Add the products of keys, of the same tokens in every layer."""
        for layer, total in self.sums.items():
            key = keys[layer]
            add_products(total, key, product_precision(key.device, key.dtype))
        self.tokens += len(next(iter(keys.values())))

    def means(self) -> dict[int, Float[Tensor, "_ _"]]:
        """Return the mean of ``k kᵀ`` of each layer, on the CPU."""
        return {
            layer: (total.triu() + total.triu(1).mT).cpu() / self.tokens
            for layer, total in self.sums.items()
        }


def product_precision(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the precision in which products of keys are formed."""
    exact = device.type == "cpu" or dtype == torch.float64
    return torch.float64 if exact else torch.float32


def add_products(
    total: Float[Tensor, "d_in d_in"],
    keys: Float[Tensor, "n d_in"],
    precision: torch.dtype,
) -> None:
    """Add ``Σ k kᵀ`` in place to the upper half of a float64 sum.

    In blocks if products are float32. What is below the diagonal means nothing.
    """
    if precision == torch.float64:
        exact = keys.to(total.device, precision)
        for panel, left, right in _panels(total, exact):
            panel.addmm_(left.mT, right)
        return
    with full_single_precision():
        for block in keys.to(precision).split(BLOCK):
            for panel, left, right in _panels(total, block):
                panel.add_((left.mT @ right).to(total.device))


def _panels(
    total: Float[Tensor, "d_in d_in"], keys: Float[Tensor, "n d_in"]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cut a sum into panels; yield each with the columns of keys that it is of."""
    for start in range(0, len(total), PANEL):
        stop = start + PANEL
        yield total[start:stop, start:], keys[:, start:stop], keys[:, start:]


def place_of_sums(device: torch.device, size: int) -> torch.device:
    """Return a GPU with float64 and twice the room; else the CPU."""
    if device.type != "cuda" or 2 * size > torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device


@contextmanager
def full_single_precision() -> Iterator[None]:
    """Keep GPUs from multiplying float32 in fewer bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
