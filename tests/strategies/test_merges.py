"""The law of every merge through the protocol: it is the merge of what parties send."""

import json
from collections.abc import Callable

import pytest
import torch

from editing.editors.system import System
from strategies.merges.base import MergeContext
from strategies.merges.choice import MERGES, read_merge
from strategies.scenario import FlatValue
from tests.federation import (
    AT_ONCE,
    Federation,
    Recorder,
    assert_same_bits,
    assert_same_delta,
)
from tests.laws import ALGEBRA, assert_same, relative_difference
from tests.tiny import LAYERS

Make = Callable[..., Federation]

JOINING: dict[str, dict[str, FlatValue]] = {
    "editing": {**AT_ONCE},
    "evaluation": {"every": 9},
    "run": {"rounds": 2, "seed": 5},
    "parties": {"requests-per-round": "[[0, 2, 1], [1, 1, 0]]", "allow-empty": True},
}
"""Three parties in two rounds; the first is not there in the first."""


@pytest.mark.parametrize("name", MERGES)
def test_a_merge_is_that_of_the_parties_statistics_and_resumes_bit_for_bit(
    federate: Make, name: str
) -> None:
    """With the layer, the round, the seed, who is there, and the layer's weight.

    The second round is the same after a resume, whatever numbers the nodes have.
    """
    federation, recorder = federate(**JOINING), Recorder()
    strategy, _ = federation.run(name, callbacks=recorder)
    prepared, first = federation.preparation, recorder.states[0]
    requests = federation.requests_of_parties(1)
    numbers = tuple(number for number, own in enumerate(requests) if own)
    assert numbers == (1, 2)
    sent = [federation.statistics_of(requests[number]) for number in numbers]
    for layer, edited in prepared.layers(0.0).items():
        weight = prepared.model.weight(layer).double()
        context = MergeContext(layer, 1, 5, numbers, weight)
        parts, system = [each[layer] for each in sent], System(edited.memory.prior())
        found = first.delta[edited.weight]
        assert_same(found, read_merge(name)(parts, system, context))
    again = federate(**JOINING, places=(30, 10, 20))
    rest, _ = again.run(name, resume=first)
    assert_same_bits(rest.delta, strategy.delta)


@pytest.mark.parametrize("name", [each for each in MERGES if read_merge(each).draws])
def test_other_seeds_rounds_and_layers_have_other_masks(
    federate: Make, name: str
) -> None:
    """The zeros of one party's updates are where its mask has them."""
    one: dict[str, FlatValue] = {"count": 1, "requests-per-round": 2}
    masks = []
    for seed in (5, 6):
        alone = JOINING | {"parties": one, "run": {"rounds": 2, "seed": seed}}
        federate(**alone).run(name, callbacks=(recorder := Recorder()))
        first, both = (state.delta for state in recorder.states)
        for weight, update in first.items():
            masks += [update != 0, both[weight] - update != 0]
    assert len(masks) == 4 * len(LAYERS)
    for place, mask in enumerate(masks):
        assert 0.3 < mask.double().mean() < 0.7
        assert all(not torch.equal(mask, other) for other in masks[:place])


def test_steps_after_the_merge_are_those_of_one_machine(federate: Make) -> None:
    """Parties together write what one machine writes after the same steps."""
    plain = federate(**JOINING).delta()
    steps = [{"name": "sphere", "strength": 1.0}, {"name": "rect", "density": 0.5}]
    chosen = {**JOINING, "editor": {"settings": json.dumps({"post": steps})}}
    together, alone = (federate(**chosen).delta(n) for n in ("collabedit", "global"))
    assert_same_delta(together, alone, ALGEBRA)
    for name, update in together.items():
        assert relative_difference(update, plain[name]) > 0.1
