"""Training a hypernetwork: steps of three sums, wherever the requests are.

A step's batch is chosen by a public rule: a request is in it if a SHA-256 of seed, step
and the request itself, as a share of all hashes, is below `share`. So the batch of
parties is that of their union, whoever holds what, and the server learns no request.

`Holder` computes what one party sends; `Together` sums it on one machine, and a server
sums it over messages. `Trainer` makes the steps of either.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from editing.algebra.deltas import applied
from editing.algebra.statistics import LayerStatistics, pool
from editing.answers.gradients import read_answers
from editing.answers.moments import Moments, sum_moments
from editing.answers.pairs import AnswerPairs
from editing.base.errors import InputError
from editing.malmen.hypernetwork import RIDGES, Hypernetwork, HypernetworkShape
from editing.malmen.losses import LossSums, Texts, read_scores, sum_losses
from editing.malmen.settings import TrainingSettings
from editing.malmen.training import (
    Adam,
    Gradients,
    add_gradients,
    differentiate,
    ridge_gradients,
    solve,
)
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest

ByLayer = Mapping[int, Tensor]


class Parties(ABC):
    """Who holds the requests; each call is a sum over all of them."""

    @abstractmethod
    def moments(self) -> Moments:
        """Sum the moments of keys and gradients of all requests."""

    @abstractmethod
    def statistics(self, step: int, net: Hypernetwork) -> dict[int, LayerStatistics]:
        """Sum the statistics of the step's batch, by layer."""

    @abstractmethod
    def losses(self, step: int, updates: ByLayer) -> LossSums:
        """Sum losses and their gradients on the model with the batch's update."""

    @abstractmethod
    def gradients(self, step: int, net: Hypernetwork, weights: ByLayer) -> Gradients:
        """Sum the gradients of ``Σ ⟨k M, v⟩`` by the hypernetwork's tensors."""


def choose_batch(
    requests: Sequence[EditRequest], seed: int, step: int, share: float
) -> list[EditRequest]:
    """Choose those of the requests that a step edits, each by itself."""
    return [each for each in requests if _draw(each, seed, step) < share]


def _draw(request: EditRequest, seed: int, step: int) -> float:
    """Draw a number from 0 to 1, the same wherever the request is."""
    said = [seed, step, request.rewrite_prompt, request.target_new]
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

    def moments(self) -> Moments:
        """Sum the moments of keys and gradients of all its requests."""
        (moments,) = sum_moments(self._read(self.requests)).values()
        return moments

    def statistics(self, step: int, net: Hypernetwork) -> dict[int, LayerStatistics]:
        """Compute statistics of the step's batch."""
        return net.statistics(self._read(self._batch(step)))

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
        return differentiate(net, self._read(self._batch(step)), weights)

    def _batch(self, step: int) -> list[EditRequest]:
        settings = self.settings
        return choose_batch(self.requests, settings.seed, step, settings.share)

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


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is known of a step once it is made.

    Attributes:
        step: Counted from 1.
        edits: Answer tokens that were edited.
        texts: Texts that the loss was read from.
        general: The loss of those in other words, over the number of all texts.
        local: The divergence of those about something else, over the same number.
        ridges: ``e^λ`` of each layer after the step.
    """

    step: int
    edits: int
    texts: int
    general: float
    local: float
    ridges: tuple[float, ...] = ()


def start(
    parties: Parties,
    shape: HypernetworkShape,
    settings: TrainingSettings,
    dtype: torch.dtype = torch.float32,
) -> Hypernetwork:
    """Make the hypernetwork that training begins with, from moments of all requests.

    Args:
        parties: Who holds the requests.
        shape: The hypernetwork's.
        settings: Of the training.
        dtype: The hypernetwork's precision.

    Raises:
        InputError: If there is no request.
    """
    moments = parties.moments()
    if moments.count == 0:
        raise InputError("There is no request to train a hypernetwork on.")
    generator = torch.Generator().manual_seed(settings.seed)
    net = Hypernetwork.fresh(shape, moments, generator, settings.value_rate, dtype)
    ridges = torch.full_like(net.tensors[RIDGES], settings.ridge).log()
    return net.with_tensors({RIDGES: ridges})


def shape_for(
    widths: Mapping[int, tuple[int, int]], settings: TrainingSettings
) -> HypernetworkShape:
    """Choose the sizes of a hypernetwork.

    Args:
        widths: ``d_out`` and ``d_in`` of each edited layer, in ascending order.
        settings: Of the training.

    Raises:
        InputError: If the layers differ in shape.
    """
    if len({*widths.values()}) != 1:
        raise InputError(
            "A hypernetwork serves layers of one shape, and these are "
            f"{dict(widths)}. Choose others with `editing.layers`."
        )
    ((d_out, d_in),) = {*widths.values()}
    return HypernetworkShape(
        layers=tuple(widths),
        d_in=d_in,
        d_out=d_out,
        rank=settings.rank,
        blocks=settings.blocks,
    )


@dataclass(slots=True)
class Trainer:
    """Makes steps, one after the other.

    Attributes:
        parties: Who holds the requests.
        settings: Of the training.
        net: As it is by now.
        optimizer: Its state is all that steps leave besides.
    """

    parties: Parties
    settings: TrainingSettings
    net: Hypernetwork
    optimizer: Adam = field(init=False)

    def __post_init__(self) -> None:
        """Start with a fresh optimizer."""
        self.optimizer = Adam(self.settings.rate)

    def run(self) -> Iterator[StepRecord]:
        """Make all steps that the settings ask for."""
        while self.optimizer.steps < self.settings.steps:
            yield self.step()

    def step(self) -> StepRecord:
        """Make one step."""
        number, settings = self.optimizer.steps, self.settings
        found, made = self.differentiate(number)
        self.optimizer.rate = settings.rate * (1 - number / max(settings.steps, 1))
        self.net = self.net.with_tensors(self.optimizer.step(self.net.tensors, found))
        ridges = tuple(float(each.exp()) for each in self.net.tensors[RIDGES])
        return replace(made, ridges=ridges)

    def differentiate(self, number: int) -> tuple[dict[str, Tensor], StepRecord]:
        """Compute the gradients of a step in three exchanges, and what it saw.

        They are of the mean loss over all texts; see `editing.malmen.training`.
        """
        net, parties = self.net, self.parties
        pooled = parties.statistics(number, net)
        solved = solve(net, pooled)
        losses = parties.losses(number, {k: s.delta for k, s in solved.items()})
        share = 1 / max(losses.texts, 1)
        pulled = {
            layer: each.pull_back(share * losses.gradients[layer])
            for layer, each in solved.items()
        }
        weights = {layer: each for layer, (each, _) in pulled.items()}
        found = dict(parties.gradients(number, net, weights))
        found |= ridge_gradients(net, {k: each for k, (_, each) in pulled.items()})
        made = StepRecord(
            step=number + 1,
            edits=max(each.count for each in pooled.values()),
            texts=losses.texts,
            general=share * losses.general,
            local=share * losses.local,
        )
        return found, made


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
