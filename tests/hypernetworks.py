"""Small hypernetworks as if they had been trained: every tensor does something."""

import torch
from torch import Tensor

from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from editing.malmen.hypernetwork import Hypernetwork, HypernetworkShape


def draw_hypernetwork(
    shape: HypernetworkShape,
    seed: int = 0,
    rate: float = 0.1,
    dtype: torch.dtype = torch.float64,
) -> Hypernetwork:
    """Draw one, with noise on all that is not 0 or 1 after training.

    Args:
        shape: Its sizes.
        seed: Of everything that is drawn.
        rate: ``η`` of every layer, to the noise.
        dtype: Its precision.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    moments = Moments.of_pairs(AnswerPairs(draw(9, shape.d_in), draw(9, shape.d_out)))
    net = Hypernetwork.fresh(shape, moments, generator, rate, torch.float64)
    noisy = {
        name: each if name in {"mean", "scale"} else each + 0.1 * draw(*each.shape)
        for name, each in net.tensors.items()
    }
    return Hypernetwork(shape, {name: each.to(dtype) for name, each in noisy.items()})
