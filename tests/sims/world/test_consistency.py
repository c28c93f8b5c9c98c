"""What the contrast of names wants."""

import torch

from sims.world.consistency import name_contrast


def test_contrast_wants_one_key_a_name_and_another_for_another() -> None:
    """Keys on one line are consistent, and no better for it."""
    people = torch.tensor([0, 0, 1, 1, 2, 2])
    apart = torch.eye(3)[people]
    line = people.float()[:, None] * torch.ones(6, 3)
    mixed = torch.eye(3)[torch.tensor([0, 1, 1, 2, 2, 0])]
    contrasts = [float(name_contrast(keys, people)) for keys in (apart, line, mixed)]
    assert contrasts == sorted(contrasts)
    assert contrasts[0] < 1e-4
    assert contrasts[1] > 0.3
