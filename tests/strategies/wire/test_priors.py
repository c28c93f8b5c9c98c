"""What parties that solve alone are sent, and nobody else."""

import pytest
import torch
from flwr.app import ArrayRecord, Message

from editing.algebra.statistics import StatisticsError
from strategies.rounds.memory import Memory
from strategies.rounds.state import EditedLayer
from strategies.wire.messages import OwnPrior, write_job
from strategies.wire.priors import read_grams, read_pooled_covariance, write_prior
from tests.laws import D_IN, D_OUT, draw_prior, draw_statistics
from tests.strategies.transport import JOB, over_the_wire

LAYERS = (1, 11)
WIDTHS = dict.fromkeys(LAYERS, D_IN)
PRIOR = OwnPrior(covariance="c", weight=2.0, memory_weight=0.5)


def edited_layers() -> dict[int, EditedLayer]:
    """Two layers that remember an edit, other ones each."""
    memories = {
        layer: Memory.of_covariance(draw_prior(layer), 2.0, 0.5).remember(
            draw_statistics(3, seed=layer).gram
        )
        for layer in LAYERS
    }
    return {
        layer: EditedLayer(f"h.{layer}", D_OUT, D_IN, memory)
        for layer, memory in memories.items()
    }


def send(prior: OwnPrior | None) -> Message:
    """Send what goes with the job."""
    record = write_prior(prior, edited_layers())
    return over_the_wire(write_job(JOB, ArrayRecord(), prior=record))


@pytest.mark.parametrize("travels", [True, False])
@pytest.mark.parametrize("memory_weight", [0.0, 0.5])
def test_a_party_is_sent_what_it_cannot_know_bit_for_bit(
    travels: bool, memory_weight: float
) -> None:
    """Grams if they count, and the covariance of all texts if it is one."""
    changes = {"travels": travels, "memory_weight": memory_weight}
    sent = send(PRIOR.model_copy(update=changes))
    grams, covariances = read_grams(sent), read_pooled_covariance(sent, WIDTHS)
    assert tuple(grams) == (LAYERS if memory_weight else ())
    assert tuple(covariances) == (LAYERS if travels else ())
    for layer, edited in edited_layers().items():
        if memory_weight:
            assert torch.equal(grams[layer], edited.memory.grams)
        if travels:
            assert torch.equal(covariances[layer], symmetric(edited))


def symmetric(edited: EditedLayer) -> torch.Tensor:
    """A drawn covariance may differ from its mirror image in the last bit."""
    upper = edited.memory.covariance.triu()
    return upper + upper.triu(1).mT


def test_parties_that_do_not_solve_are_sent_nothing() -> None:
    """Nor is anything read from a job that brings no record."""
    for message in (send(None), over_the_wire(write_job(JOB, ArrayRecord()))):
        assert read_grams(message) == {}
        assert read_pooled_covariance(message, WIDTHS) == {}


def test_a_covariance_of_another_width_is_refused() -> None:
    """The party holds another model, or the server sends nonsense."""
    sent = send(PRIOR.model_copy(update={"travels": True}))
    with pytest.raises(StatisticsError, match="another model"):
        read_pooled_covariance(sent, dict.fromkeys(LAYERS, D_IN + 1))
