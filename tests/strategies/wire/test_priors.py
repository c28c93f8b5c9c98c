"""Matrices of a prior survive the wire, and those of another width are refused."""

import pytest
import torch
from flwr.app import ArrayRecord

from editing.algebra.statistics import StatisticsError
from strategies.wire.messages import write_job
from strategies.wire.priors import read_grams, read_pooled_covariance, write_prior
from tests.laws import D_IN, draw_prior, draw_statistics
from tests.strategies.transport import JOB, over_the_wire

LAYERS = (1, 11)
WIDTHS = dict.fromkeys(LAYERS, D_IN)
GRAMS = {layer: draw_statistics(3, seed=layer).gram for layer in LAYERS}
COVARIANCES = {layer: draw_prior(layer) for layer in LAYERS}


def test_grams_and_covariances_survive_the_wire_bit_for_bit() -> None:
    """Layer 1 is not mistaken for layer 11, nor a gram for a covariance."""
    record = write_prior(GRAMS, COVARIANCES)
    sent = over_the_wire(write_job(JOB, ArrayRecord(), prior=record))
    grams, covariances = read_grams(sent), read_pooled_covariance(sent, WIDTHS)
    for layer in LAYERS:
        assert torch.equal(grams[layer], GRAMS[layer])
        assert torch.equal(covariances[layer], symmetric(COVARIANCES[layer]))


def symmetric(drawn: torch.Tensor) -> torch.Tensor:
    """Mirror the upper half: a drawn covariance may differ from its mirror image."""
    upper = drawn.triu()
    return upper + upper.triu(1).mT


def test_nothing_is_read_from_a_job_without_a_prior() -> None:
    """Of parties that do not solve."""
    for job in (
        write_job(JOB, ArrayRecord(), prior=write_prior({}, {})),
        write_job(JOB, ArrayRecord()),
    ):
        message = over_the_wire(job)
        assert read_grams(message) == {}
        assert read_pooled_covariance(message, WIDTHS) == {}


def test_a_covariance_of_another_width_is_refused() -> None:
    """The party holds another model, or the server sends nonsense."""
    record = write_prior({}, COVARIANCES)
    sent = over_the_wire(write_job(JOB, ArrayRecord(), prior=record))
    with pytest.raises(StatisticsError, match="another model"):
        read_pooled_covariance(sent, dict.fromkeys(LAYERS, D_IN + 1))
