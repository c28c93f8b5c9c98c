"""Who holds requests that a hypernetwork is trained on, and training on one machine.

A step's batch is chosen by a public rule: a request is in it if a SHA-256 of seed, step
and the request itself, as a share of all hashes, is below the step's share. So the
batch of parties is that of their union, whoever holds what, and the server learns no
request.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import torch

from editing.algebra.deltas import applied
from editing.algebra.statistics import LayerStatistics, pool
from editing.answers.gradients import read_answers
from editing.answers.moments import Moments, sum_moments
from editing.answers.pairs import AnswerPairs
from editing.malmen.hypernetwork import Hypernetwork
from editing.malmen.losses import Texts, read_scores, sum_losses
from editing.malmen.settings import TrainingSettings
from editing.malmen.sums import LossSums
from editing.malmen.trainer import (
    ByLayer,
    Parties,
    StepRecord,
    Trainer,
    shape_for,
    start,
)
from editing.malmen.training import Gradients, add_gradients, differentiate
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest


def choose_batch(
    requests: Sequence[EditRequest], settings: TrainingSettings, step: int
) -> list[EditRequest]:
    """Choose those of the requests that a step edits, each by itself.

    The step's share is drawn evenly from a tenth of `TrainingSettings.share` to all of
    it, so that the hypernetwork learns small and large batches.
    """
    seed = settings.seed
    share = settings.share * (0.1 + 0.9 * _draw(seed, step))
    return [
        each
        for each in requests
        if _draw(seed, step, each.rewrite_prompt, each.target_new) < share
    ]


def _draw(*said: int | str) -> float:
    """Draw a number from 0 to 1, the same wherever it is drawn."""
    digest = hashlib.sha256(json.dumps(said).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


@dataclass(frozen=True, slots=True)
class Holder(Parties):
    """What one party computes of its requests.

    Attributes:
        model: The model, which training does not change.
        requests: The party's.
        layers: Edited blocks, in ascending order.
        settings: Of the training.
    """

    model: EditableModel
    requests: Sequence[EditRequest]
    layers: Sequence[int]
    settings: TrainingSettings
    _last: dict[int, dict[int, AnswerPairs]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def moments(self) -> Moments:
        """Sum the moments of keys and gradients of all its requests."""
        (moments,) = sum_moments(self._read(self.requests)).values()
        return moments

    def statistics(self, step: int, net: Hypernetwork) -> dict[int, LayerStatistics]:
        """Compute statistics of the step's batch."""
        return net.statistics(self._pairs(step))

    def losses(self, step: int, updates: ByLayer) -> LossSums:
        """Sum losses and their gradients on the model with the batch's update."""
        model = self.model
        texts = Texts.of_requests(model, self._batch(step))
        before = read_scores(model, texts.local)
        delta = {model.weight_name(layer): each for layer, each in updates.items()}
        with applied(delta, model.model):
            weight = self.settings.local_weight
            return sum_losses(model, texts, self.layers, before, weight)

    def gradients(self, step: int, net: Hypernetwork, weights: ByLayer) -> Gradients:
        """Compute the gradients of ``Σ ⟨k M, v⟩`` over the step's batch."""
        return differentiate(net, self._pairs(step), weights)

    def _batch(self, step: int) -> list[EditRequest]:
        return choose_batch(self.requests, self.settings, step)

    def _pairs(self, step: int) -> dict[int, AnswerPairs]:
        """Read the step's batch, once for both exchanges that need it."""
        if step not in self._last:
            self._last.clear()
            self._last[step] = self._read(self._batch(step))
        return self._last[step]

    def _read(self, requests: Sequence[EditRequest]) -> dict[int, AnswerPairs]:
        return read_answers(self.model, requests, self.layers)


@dataclass(frozen=True, slots=True)
class Together(Parties):
    """Several parties on one machine, whose sums are added in their order."""

    holders: Sequence[Holder]

    def moments(self) -> Moments:
        """Add the parties' moments up."""
        return reduce(add, (each.moments() for each in self.holders))

    def statistics(self, step: int, net: Hypernetwork) -> dict[int, LayerStatistics]:
        """Pool the parties' statistics, layer by layer."""
        found = [each.statistics(step, net) for each in self.holders]
        return {layer: pool([each[layer] for each in found]) for layer in found[0]}

    def losses(self, step: int, updates: ByLayer) -> LossSums:
        """Add the parties' losses and gradients up."""
        return reduce(add, (each.losses(step, updates) for each in self.holders))

    def gradients(self, step: int, net: Hypernetwork, weights: ByLayer) -> Gradients:
        """Add the parties' gradients up."""
        return add_gradients(
            each.gradients(step, net, weights) for each in self.holders
        )


def train(
    model: EditableModel,
    parties: Sequence[Sequence[EditRequest]],
    layers: Sequence[int],
    settings: TrainingSettings,
    on_step: Callable[[StepRecord], None] = lambda _: None,
    dtype: torch.dtype = torch.float32,
) -> Hypernetwork:
    """Train on one machine: the reference for several parties.

    Args:
        model: The model whose edits are learnt; it is unchanged afterwards.
        parties: The requests of each; their union is what counts.
        layers: Edited blocks, in ascending order.
        settings: Of the training.
        on_step: Called after each step.
        dtype: The hypernetwork's precision.
    """
    model.check_layers(layers)
    own = [Holder(model, requests, layers, settings) for requests in parties]
    together = Together(own)
    shape = shape_for({layer: model.widths(layer) for layer in layers}, settings)
    net = start(together, shape, settings, dtype)
    trainer = Trainer(together, settings, net)
    for record in trainer.run():
        on_step(record)
    return trainer.net
