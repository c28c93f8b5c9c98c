"""The exchange before statistics, of editors that read at the answers' tokens.

The moments of the round's keys and gradients are summed over the parties, added to those
of earlier rounds, and sent to all with the question for statistics. They are kept with
the first edited layer of each shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import Message
from torch import Tensor

from editing.answers.moments import ByShape, Moments, Shape, pool_moments
from editing.answers.rule import AnswerRule
from editing.answers.vectors import (
    check_moments,
    name_shape,
    read_vectors,
    vector_lengths,
    write_vectors,
)
from strategies.rounds.limits import Limits
from strategies.rounds.state import EditedLayer
from strategies.wire.answers import write_moments


@dataclass(frozen=True, slots=True)
class AnswerSum:
    """What is summed, and what it can be.

    Attributes:
        rule: How values are made.
        layers: All edited layers, with bounds on their keys.
    """

    rule: AnswerRule
    layers: Mapping[int, EditedLayer]

    @property
    def shapes(self) -> dict[Shape, list[int]]:
        """The layers of each shape, in ascending order."""
        found: dict[Shape, list[int]] = {}
        for layer, edited in sorted(self.layers.items()):
            found.setdefault((edited.d_out, edited.d_in), []).append(layer)
        return found

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each vector, by its name."""
        return vector_lengths(self.shapes, products=self.rule.whitens)

    def check(
        self, vectors: Mapping[str, Tensor], limits: Limits, number: int, party: int
    ) -> dict[Shape, Moments]:
        """Read moments, and hold them to what the party's requests can have.

        What no requests can have is a `StatisticsError`.

        Args:
            vectors: What a party sent, or the sum of all.
            limits: How many requests a party has, and how long keys may be.
            number: The round.
            party: The party's number.
        """
        moments = read_vectors(vectors, self.shapes, products=self.rule.whitens)
        rows = limits.requests_of(number, party) * limits.rows
        for shape, layers in self.shapes.items():
            longest = max(self.layers[layer].bounds.key for layer in layers)
            check_moments(moments[shape], shape, rows * len(layers), longest)
        return moments


@dataclass(slots=True)
class AnswerMoments:
    """The moments of a run, round after round.

    Attributes:
        rule: How values are made.
        layers: All edited layers; their bounds and what is kept of them change here.
        pooled: Of all rows so far, those of the round under way included.
    """

    rule: AnswerRule
    layers: dict[int, EditedLayer]
    pooled: ByShape = field(default_factory=dict)

    @property
    def sum(self) -> AnswerSum:
        """What the exchange sums."""
        return AnswerSum(self.rule, self.layers)

    def take(self, found: ByShape) -> None:
        """Add a round's moments to those of earlier rounds, and bound its values.

        Values are bounded by what no row can exceed, whatever the others are.
        """
        self.pooled = pool_moments([self._earlier(), found])
        for shape, layers in self.sum.shapes.items():
            longest = self.rule.longest(shape, self.pooled[shape].count)
            for layer in layers:
                edited = self.layers[layer]
                bounds = replace(edited.bounds, residual=longest)
                self.layers[layer] = replace(edited, bounds=bounds)

    def attach(self, messages: Sequence[Message]) -> None:
        """Send the pooled moments with the question for statistics."""
        for message in messages:
            message.content.update(write_moments(self.pooled))

    def keep(self) -> None:
        """Keep the moments of a round that is over, for the rounds to come."""
        for shape, (first, *_) in self.sum.shapes.items():
            own = write_vectors({shape: self.pooled[shape]})
            edited = self.layers[first]
            self.layers[first] = replace(edited, kept={**edited.kept, **own})

    def _earlier(self) -> ByShape:
        found = {}
        for shape, (first, *_) in self.sum.shapes.items():
            kept = self.layers[first].kept
            if f"{name_shape(shape)}.count" in kept:
                products = self.rule.whitens
                found |= read_vectors(kept, [shape], products=products)
        return found
