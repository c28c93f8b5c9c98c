"""The exchange before statistics, of editors that read at the answers' tokens.

The moments of the round's keys and gradients are summed over the parties, added to
those of earlier rounds, and sent to all with the question for statistics. They are kept
with the first edited layer of each shape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import Message
from flwr.serverapp import Grid
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
from strategies.wire.messages import Job


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

    @property
    def none(self) -> dict[Shape, Moments]:
        """The moments of no request."""
        products = self.rule.whitens
        return {each: Moments.zero(each, products=products) for each in self.shapes}

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


Whole = Sequence[int] | None
"""Nodes all of which must still be present for a sum; None asks for nobody."""

SumAnswers = Callable[
    [Grid, Job, Sequence[Message], AnswerSum, Whole], tuple[dict[Shape, Moments], Whole]
]
"""Sums the moments of a round; gives also who has to be there for its statistics."""


@dataclass(slots=True)
class AnswerMoments:
    """The moments of a run, round after round.

    Attributes:
        rule: How values are made; None for editors of targets.
        layers: All edited layers; their bounds and what is kept of them change here.
        pooled: Of all rows so far, those of the round under way included.
    """

    rule: AnswerRule | None
    layers: dict[int, EditedLayer]
    pooled: ByShape = field(default_factory=dict)

    @property
    def sum(self) -> AnswerSum | None:
        """What the exchange sums; None if values need no moments."""
        rule = self.rule
        return AnswerSum(rule, self.layers) if rule is not None and rule.pools else None

    def pool(
        self,
        total: SumAnswers,
        grid: Grid,
        job: Job,
        ask: Callable[[], list[Message]],
        whole: Whole,
    ) -> Whole:
        """Sum the round's moments, and add them to those of earlier rounds.

        Values are bounded by what no row can exceed, whatever the others are.

        Args:
            total: How the round sums.
            grid: Flower's connection to the nodes.
            job: Says which round.
            ask: Writes the question to each party.
            whole: Nodes all of which must be in the round.

        Returns:
            The nodes all of which must be in the statistics.
        """
        asked = self.sum
        if asked is None:
            return whole
        found, whole = total(grid, job, ask(), asked, whole)
        self.pooled = pool_moments([self._earlier(asked), found])
        for shape, layers in asked.shapes.items():
            longest = asked.rule.longest(shape, self.pooled[shape].count)
            for layer in layers:
                edited = self.layers[layer]
                bounds = replace(edited.bounds, residual=longest)
                self.layers[layer] = replace(edited, bounds=bounds)
        return whole

    def attach(self, messages: list[Message]) -> list[Message]:
        """Send the pooled moments with the question for statistics."""
        for message in messages if self.sum is not None else ():
            message.content.update(write_moments(self.pooled))
        return messages

    def keep(self) -> None:
        """Keep the moments of a round that is over, for the rounds to come."""
        shapes = {} if self.sum is None else self.sum.shapes
        for shape, (first, *_) in shapes.items():
            own = write_vectors({shape: self.pooled[shape]})
            edited = self.layers[first]
            self.layers[first] = replace(edited, kept={**edited.kept, **own})

    def _earlier(self, asked: AnswerSum) -> ByShape:
        found: dict[Shape, Moments] = {}
        for shape, (first, *_) in asked.shapes.items():
            kept = self.layers[first].kept
            if f"{name_shape(shape)}.count" in kept:
                products = asked.rule.whitens
                found |= read_vectors(kept, [shape], products=products)
        return found
