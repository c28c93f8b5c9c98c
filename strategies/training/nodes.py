"""Training with nodes: each sum of a step is one exchange with all of them.

A step needs every party in all of its exchanges: the batch of a step is that of the
union, and a party that is lost in the middle would leave its part in some sums alone.
So the loss of a party, or a reply that is invalid, ends the training, which continues
after its last completed step.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TypeVar

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from torch import Tensor

from editing.algebra.encodings import decode
from editing.algebra.statistics import LayerStatistics, StatisticsError, Total
from editing.answers.moments import Moments, Shape
from editing.answers.vectors import check_moments
from editing.malmen.hypernetwork import Hypernetwork
from editing.malmen.settings import TrainingSettings
from editing.malmen.sums import LossSums
from editing.malmen.trainer import ByLayer, Parties
from editing.malmen.training import Gradients, add_gradients
from strategies.rounds.limits import Limits
from strategies.rounds.registry import PartyRegistry
from strategies.training.records import (
    Question,
    name_layers,
    read_gradients,
    read_losses,
    write_question,
)
from strategies.wire.answers import read_moments
from strategies.wire.messages import (
    Job,
    Phase,
    read_statistics,
    read_targets_reply,
)
from strategies.wire.replies import NUMBER_BYTES, SMALL_BYTES

Found = TypeVar("Found")

ROUND = 1
"""The round whose requests are trained on."""


class LostPartyError(AggregationError):
    """A party is missing from a step of training."""

    def __init__(self, step: int, why: str) -> None:
        """Say which step is not made, and what to do."""
        super().__init__(
            f"Training stops after {step} steps: {why}. A step is a sum over all "
            "parties; resume once they are all there, or leave one out with "
            "`parties.without`."
        )


@dataclass(slots=True)
class Nodes(Parties):
    """The parties of a federation.

    Attributes:
        grid: Flower's connection to the nodes.
        registry: Whose round `ROUND` has begun.
        job: What every message carries.
        widths: ``d_out`` and ``d_in`` of each edited layer, which are the same.
        settings: Of the training.
        limits: What a party can send.
        most: Bytes that any reply may have.
        left_out: How many nodes were left out before the first step.
    """

    grid: Grid
    registry: PartyRegistry
    job: Job
    widths: Mapping[int, Shape]
    settings: TrainingSettings
    limits: Limits
    most: float = field(init=False)
    left_out: int = field(init=False)
    _step: int = 0

    def __post_init__(self) -> None:
        """Bound what replies may have by the largest, gradients of all tensors."""
        d_out, d_in = self.shape
        width, count = d_out + d_in, len(self.widths)
        of_net = self.settings.blocks * width * 2 * (self.settings.rank + count + 1)
        largest = max(of_net, count * d_out * d_in)
        self.left_out = len(self.registry.outcomes[ROUND].refusals)
        self.most = float(SMALL_BYTES + NUMBER_BYTES * largest)

    @property
    def shape(self) -> Shape:
        """The shape of the edited layers."""
        return next(iter(self.widths.values()))

    def moments(self) -> Moments:
        """Sum the moments of all requests, each party's checked before."""

        def read(reply: Message) -> Moments:
            found = read_moments(reply.content, [self.shape], products=False)
            most = self._rows(reply) * len(self.widths)
            check_moments(found[self.shape], self.shape, most, math.inf)
            return found[self.shape]

        replies = self._ask(Phase.BEGIN, Question(settings=self.settings), {})
        return reduce(add, self._read(replies, read), Moments.zero(self.shape))

    def statistics(self, step: int, net: Hypernetwork) -> dict[int, LayerStatistics]:
        """Pool the parties' statistics of the step's batch."""
        self._step = step
        totals = {layer: Total() for layer in self.widths}
        for layer, total in totals.items():
            total.add(self._none(layer))
        replies = self._ask(Phase.VALUES, self._question(net), net.tensors)
        for found in self._read(replies, self._decode):
            for layer, each in found.items():
                totals[layer].add(each)
        return {layer: total.statistics() for layer, total in totals.items()}

    def losses(self, step: int, updates: ByLayer) -> LossSums:
        """Sum losses and their gradients on the model with the batch's update."""
        self._step = step
        question = Question(settings=self.settings, step=step)
        replies = self._ask(Phase.LOSSES, question, name_layers(updates))
        found = self._read(replies, lambda each: read_losses(each.content, self.widths))
        return reduce(add, found)

    def gradients(self, step: int, net: Hypernetwork, weights: ByLayer) -> Gradients:
        """Sum the gradients of ``Σ ⟨k M, v⟩`` by the hypernetwork's tensors."""
        self._step = step
        given = {**net.tensors, **name_layers(weights)}
        replies = self._ask(Phase.GRADIENTS, self._question(net), given)
        return add_gradients(
            self._read(replies, lambda each: read_gradients(each.content, net))
        )

    def _question(self, net: Hypernetwork) -> Question:
        return Question(settings=self.settings, step=self._step, shape=net.shape)

    def _ask(
        self, phase: Phase, question: Question, given: Mapping[str, Tensor]
    ) -> Iterator[Message]:
        """Ask all parties, and yield their replies in the order of the parties."""
        messages = self.registry.address(phase, self.job, ArrayRecord())
        for message in messages:
            write_question(message.content, question, given)
        yield from self.registry.exchange(self.grid, ROUND, messages, self.most)
        outcome = self.registry.outcomes[ROUND]
        if len(outcome.refusals) > self.left_out:
            missing = outcome.missing(self.registry.parties.label)
            raise LostPartyError(self._step, missing)

    def _read(
        self, replies: Iterator[Message], read: Callable[[Message], Found]
    ) -> Iterator[Found]:
        """Read replies one by one; an invalid one is a `LostPartyError`."""
        for reply in replies:
            try:
                yield read(reply)
            except StatisticsError as error:
                node = reply.metadata.src_node_id
                name = self.registry.parties.label(node)
                raise LostPartyError(self._step, f"{name}: {error}") from None

    def _rows(self, reply: Message) -> float:
        """Return the most rows of one layer that a party has."""
        party = self.registry.parties.number_of(reply.metadata.src_node_id)
        return self.limits.requests_of(ROUND, party) * self.limits.rows

    def _decode(self, reply: Message) -> dict[int, LayerStatistics]:
        """Decode a party's statistics; of no row, nothing."""
        rows = read_targets_reply(reply.content).requests
        if rows > self._rows(reply):
            raise StatisticsError(f"it edits {rows} answer tokens, more than it has")
        if rows == 0:
            return {}
        d_out, d_in = self.shape
        encoding = self.job.encoding
        found = {
            layer: decode(
                read_statistics(reply.content, layer, ROUND),
                d_in,
                d_out,
                None,
                encoding,
            )
            for layer in self.widths
        }
        if any(each.count != rows for each in found.values()):
            raise StatisticsError("its layers are of other numbers of answer tokens")
        return found

    def _none(self, layer: int) -> LayerStatistics:
        d_out, d_in = self.widths[layer]
        zero = Moments.zero((d_out, d_in)).total
        return LayerStatistics.of_pairs(
            zero.new_zeros(0, d_in), zero.new_zeros(0, d_out)
        )
