"""The steps of a training, whoever holds the requests.

`Parties` gives the sums of a step: on one machine (`editing.malmen.holders.Together`),
or over messages. `Trainer` solves, and moves the hypernetwork.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.answers.moments import Moments
from editing.base.errors import InputError
from editing.malmen.hypernetwork import RIDGES, Hypernetwork, HypernetworkShape
from editing.malmen.settings import TrainingSettings
from editing.malmen.sums import LossSums
from editing.malmen.training import (
    Adam,
    Gradients,
    ridge_gradients,
    solve,
)

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
