"""What a hostile party may send instead of its own statistics.

It knows the model, the prior and the bounds, as every party does, and has guessed the
requests of one other party.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, NormBounds

NEARLY = 0.999
"""Just within a bound."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What the hostile party knows of a layer.

    Attributes:
        place: Of the edited layers; 0 is the first.
        own: Its honest statistics.
        other: Those of party 0, which it has guessed.
        moment: ``C₀``.
        bounds: How long keys and residuals may be by default.
        typical: ``√tr(C₀)``, and how far a target may be from a hidden state.
    """

    place: int
    own: LayerStatistics
    other: LayerStatistics
    moment: Float[Tensor, "d_in d_in"]
    bounds: NormBounds
    typical: NormBounds

    def rows(
        self,
        keys: Float[Tensor, "n d_in"],
        residuals: Float[Tensor, "n d_out"],
    ) -> LayerStatistics:
        """Return statistics of made-up edits, as many as the own ones."""
        return LayerStatistics(keys, residuals, self.own.count)

    def top_keys(self, length: float) -> Float[Tensor, "n d_in"]:
        """Return the directions in which text has most of its energy, one an edit."""
        directions = torch.linalg.eigh(self.moment.double()).eigenvectors
        keys: Tensor = length * directions[:, -self.own.count :].mT
        return keys

    def random_residuals(self, length: float) -> Float[Tensor, "n d_out"]:
        """Draw residuals of a length, one an edit."""
        generator = torch.Generator().manual_seed(self.place)
        width = self.own.residuals.shape[1]
        drawn = torch.randn(
            self.own.count, width, generator=generator, dtype=torch.float64
        )
        rows: Tensor = length * drawn / drawn.norm(dim=1, keepdim=True)
        return rows


Falsify = Callable[[Layer], LayerStatistics]


@dataclass(frozen=True, slots=True)
class Attack:
    """What a hostile party does.

    Attributes:
        falsify: Makes its statistics of a layer; the honest ones if None.
        settings: Further settings of the run.
        places: The edited layers in which it does so; all if None.
        success: The efficacy that it reports of its own requests; none if None.
    """

    falsify: Falsify | None = None
    settings: tuple[str, ...] = ()
    places: tuple[int, ...] | None = None
    success: float | None = None


def longer_residuals(layer: Layer) -> LayerStatistics:
    """Ask for ten times the change."""
    return layer.rows(layer.own.keys, 10 * layer.own.residuals)


def longest_residuals(layer: Layer) -> LayerStatistics:
    """Ask for the largest change that is allowed."""
    rows, edits = layer.own.residuals, layer.own.count**0.5
    allowed = NEARLY * edits * layer.bounds.residual / rows.norm().item()
    return layer.rows(layer.own.keys, allowed * rows)


def keys_of_text(layer: Layer) -> LayerStatistics:
    """Change what the model does with most of its text."""
    return layer.rows(
        layer.top_keys(layer.typical.key),
        layer.random_residuals(10 * layer.typical.residual),
    )


def allowed_keys_of_text(layer: Layer) -> LayerStatistics:
    """Do the same as strongly as the bounds allow."""
    return layer.rows(
        layer.top_keys(NEARLY * layer.bounds.key),
        layer.random_residuals(NEARLY * layer.bounds.residual),
    )


def wall(layer: Layer) -> LayerStatistics:
    """Claim keys in every direction, none of which may change the weight."""
    d_out, d_in = layer.own.residuals.shape[1], layer.own.keys.shape[1]
    unit = torch.eye(d_in, dtype=torch.float64)
    gram = layer.own.count * (NEARLY * layer.bounds.key) ** 2 / d_in * unit
    cross = torch.zeros(d_out, d_in, dtype=torch.float64)
    return LayerStatistics.of_sums(gram, cross, layer.own.count)


def undo_other(layer: Layer) -> LayerStatistics:
    """Take back what party 0 asks for."""
    return layer.rows(layer.other.keys, -layer.other.residuals)


def pin_other(layer: Layer) -> LayerStatistics:
    """Hold party 0's keys in place, as firmly as the bounds allow."""
    rows, edits = layer.other.keys, layer.own.count**0.5
    allowed = NEARLY * edits * layer.bounds.key / rows.norm().item()
    return layer.rows(allowed * rows, 0 * layer.other.residuals)


HONEST = "none"

ATTACKS = {
    HONEST: Attack(),
    "residuals × 10": Attack(longer_residuals),
    "keys of plain text": Attack(keys_of_text),
    "dense gram c·I": Attack(wall, ('run.encoding="dense"',)),
    "party 0's keys, −R": Attack(undo_other),
    "party 0's keys, −R, false report": Attack(undo_other, success=0.0),
    "party 0's keys, R = 0": Attack(pin_other),
    "longest residuals": Attack(longest_residuals),
    "longest keys of plain text": Attack(allowed_keys_of_text),
    "the same, first layer": Attack(allowed_keys_of_text, places=(0,)),
    "the same, second layer": Attack(allowed_keys_of_text, places=(1,)),
    "false report": Attack(success=0.0),
}
"""By what tables and figures call them."""
