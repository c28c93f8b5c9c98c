"""Small hypernetworks as if they had been trained: every tensor does something."""

from pathlib import Path

import torch
from torch import Tensor

from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from editing.malmen.files import FILE, save_hypernetwork
from editing.malmen.hypernetwork import Hypernetwork, HypernetworkShape
from tests.tiny import LAYERS


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


def save_tiny_hypernetwork(folder: Path, seed: int = 0) -> Path:
    """Save one for the edited layers of `tests.tiny.tiny_model` in a folder."""
    shape = HypernetworkShape(layers=LAYERS, d_in=24, d_out=16, rank=3)
    net = draw_hypernetwork(shape, seed, rate=0.02, dtype=torch.float32)
    save_hypernetwork(net, folder / FILE)
    return folder / FILE
