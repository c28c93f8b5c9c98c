"""What a hostile party sends is as large as it says, and as the bounds allow."""

import pytest
import torch

from editing.algebra.statistics import LayerStatistics, NormBounds
from sims.studies.trust.attacks import (
    NEARLY,
    Layer,
    allowed_keys_of_text,
    keys_of_text,
    longer_residuals,
    longest_residuals,
    pin_other,
    undo_other,
    wall,
)

BOUNDS, TYPICAL = NormBounds(5.0, 4.0), NormBounds(1.0, 2.0)
COUNT = 3


def make_layer() -> Layer:
    """Draw what a party of three edits knows; plain text has one main direction."""
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    own, other = (
        LayerStatistics(drawn(COUNT, 12), drawn(COUNT, 4), COUNT) for _ in range(2)
    )
    moment = torch.diag(torch.arange(12, 0, -1, dtype=torch.float64))
    return Layer(0, own, other, moment, BOUNDS, TYPICAL)


def mean_norm(rows: torch.Tensor, count: int = COUNT) -> float:
    """The root mean square norm that the server holds against a bound."""
    return (rows.square().sum() / count).sqrt().item()


def test_made_up_changes_are_the_own_ones_times_a_number() -> None:
    """Ten times as much, or just what is allowed."""
    layer = make_layer()
    assert torch.equal(longer_residuals(layer).residuals, 10 * layer.own.residuals)
    longest = longest_residuals(layer)
    assert mean_norm(longest.residuals) == pytest.approx(NEARLY * 4.0)
    assert torch.equal(longest.keys, layer.own.keys)


def test_another_s_edits_are_taken_back_or_held_in_place() -> None:
    """By its own keys."""
    layer = make_layer()
    assert torch.equal(undo_other(layer).cross, -layer.other.cross)
    assert torch.equal(undo_other(layer).gram, layer.other.gram)
    pinned = pin_other(layer)
    assert mean_norm(pinned.keys) == pytest.approx(NEARLY * 5.0)
    assert not pinned.cross.any()
    kept = layer.other.keys / layer.other.keys.norm()
    assert torch.allclose(pinned.keys / pinned.keys.norm(), kept)


@pytest.mark.parametrize(
    ("falsify", "key", "residual"),
    [
        (keys_of_text, TYPICAL.key, 10 * TYPICAL.residual),
        (allowed_keys_of_text, NEARLY * BOUNDS.key, NEARLY * BOUNDS.residual),
    ],
)
def test_keys_of_text_lie_in_its_main_directions(
    falsify: object, key: float, residual: float
) -> None:
    """Orthogonal, and as long as they are said to be."""
    assert callable(falsify)
    made = falsify(make_layer())
    assert made.keys.shape == (COUNT, 12)
    assert torch.allclose(made.keys @ made.keys.mT, key**2 * torch.eye(COUNT).double())
    assert not made.keys[:, COUNT:].any()
    norms = made.residuals.norm(dim=1)
    assert torch.allclose(norms, torch.full_like(norms, residual))


def test_a_wall_has_the_same_energy_in_every_direction() -> None:
    """As much as the bound on keys allows for as many edits."""
    made = wall(make_layer())
    energy = COUNT * (NEARLY * BOUNDS.key) ** 2 / 12
    assert torch.allclose(made.gram, energy * torch.eye(12).double())
    assert not made.cross.any()
