"""The outcome of a round adds up what the parties send."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import pytest
import torch
from flwr.app import ArrayRecord, Message
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError
from editing.editors.system import System
from editing.post_steps.steps import PostStep
from strategies.merges.base import NOWHERE, Merge, MergeContext
from strategies.merges.pooled import CollabEditMerge
from strategies.rounds.exchange import Refusal
from strategies.rounds.memory import Memory
from strategies.rounds.state import EditedLayer, RoundOutcome, write_own_prior
from strategies.wire.messages import OwnPrior, TargetsReply, write_job
from strategies.wire.priors import read_grams, read_pooled_covariance
from tests.laws import D_IN, D_OUT, draw_pairs, draw_prior, draw_statistics
from tests.strategies.transport import JOB, over_the_wire

LAYERS = (1, 11)
WIDTHS = dict.fromkeys(LAYERS, D_IN)
PRIOR = OwnPrior(covariance="c", weight=2.0, memory_weight=0.5)


def test_counts_and_residuals_of_all_parties_add_up() -> None:
    """Over every field; sums are over edited and known requests."""
    outcome = RoundOutcome()
    outcome.targets[5] = TargetsReply(
        requests=3, known=1, left_out=2, residual_norm=4.0, residual_ratio=0.5
    )
    outcome.targets[6] = TargetsReply(
        requests=2, residual_norm=1.5, residual_ratio=0.25
    )
    assert (outcome.requests, outcome.known, outcome.left_out) == (5, 1, 2)
    assert outcome.examined == 6
    assert (outcome.residual_norm, outcome.residual_ratio) == (5.5, 0.75)
    assert outcome.idle == outcome.unedited == []


def test_a_party_without_requests_differs_from_one_whose_were_left_out() -> None:
    """The one is missing, the other has got what it wanted."""
    outcome = RoundOutcome(refusals=[Refusal(9, "it is late")])
    outcome.targets[5] = TargetsReply(requests=0)
    outcome.targets[6] = TargetsReply(requests=0, known=2)
    outcome.targets[7] = TargetsReply(requests=0, left_out=1)
    assert (outcome.idle, outcome.unedited) == ([5], [6, 7])
    missing = outcome.missing(lambda node: f"party {node}")
    assert missing == "party 9: it is late; party 5: it has no request"
    assert RoundOutcome().missing(str) == "nobody"


def test_a_refused_party_s_requests_count_only_once_the_round_is_merged() -> None:
    """Before that it contributes nothing; afterwards only its likelihood is missed."""
    outcome = RoundOutcome()
    outcome.targets |= {n: TargetsReply(requests=n) for n in (5, 6)}
    outcome.refuse(Refusal(5, "it sent no numbers"))
    assert outcome.requests == 6
    outcome.merged = True
    outcome.refuse(Refusal(6, "it did not evaluate"))
    assert outcome.requests == 6
    assert [each.node for each in outcome.refusals] == [5, 6]


class Recorded(PostStep):
    """A step that scales, shifts, and notes what it was given."""

    name: Literal["recorded"] = "recorded"
    factor: float = 1.0
    shift: float = 0.0
    paper: ClassVar[str] = "none"
    summary: ClassVar[str] = "none"
    seen: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def __call__(self, delta: Tensor, weight: Tensor, original: Tensor) -> Tensor:
        """Scale and shift."""
        self.seen.append((weight, original))
        return self.factor * delta + self.shift


class WeightMerge(Merge):
    """A merge that gives back the weight, and the parties' numbers as its first row."""

    name: str = "weight"
    paper: ClassVar[str] = "none"
    needs: ClassVar[Literal["sum", "each"]] = "each"
    reads_weight: ClassVar[bool] = True

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],  # noqa: ARG002
        system: System,  # noqa: ARG002
        context: MergeContext = NOWHERE,
    ) -> Tensor:
        """Return the weight, with the numbers in it."""
        found = context.require_weight(self.name).clone()
        found[0, : len(context.parties)] = torch.tensor(context.parties).double()
        return found


def test_a_merge_reads_the_weight_as_the_round_begins_and_who_is_there() -> None:
    """In float64, whatever the model's precision; unknown, it is an error."""
    original = draw_pairs(D_OUT)[0].half()
    total = draw_pairs(D_OUT, 1)[0]
    layer = EditedLayer("w", D_OUT, D_IN, Memory(draw_prior(), 1.0, 0.0))
    known = replace(layer, original=original)
    parts = [draw_statistics(2), draw_statistics(1)]
    for before in (None, total):
        expected = original.double() if before is None else original.double() + before
        expected[0, :2] = torch.tensor([3.0, 7.0])
        found = known.merge(WeightMerge(), parts, before, 1, [3, 7])
        assert torch.equal(found, expected)
    with pytest.raises(InputError, match="`weight` merges whole weights"):
        layer.merge(WeightMerge(), parts, None, 1)


def test_steps_after_the_merge_are_taken_in_order_with_both_weights() -> None:
    """As the round begins, and before any edit; without steps nothing changes."""
    original, total = draw_pairs(D_OUT)[0], draw_pairs(D_OUT, 1)[0]
    plain = EditedLayer("w", D_OUT, D_IN, Memory(draw_prior(), 1.0, 0.0))
    parts, merge = [draw_statistics(3)], CollabEditMerge()
    delta = plain.merge(merge, parts, total, 2)
    assert torch.equal(delta, System(plain.memory.prior()).solve(parts[0]))
    steps = (Recorded(shift=1.0), Recorded(factor=2.0))
    Recorded.seen.clear()
    editor = plain.editor.model_copy(update={"post": steps})
    finished = replace(plain, editor=editor, original=original)
    assert torch.equal(finished.merge(merge, parts, total, 2), 2 * (delta + 1))
    for weight, before in Recorded.seen:
        assert torch.equal(weight, original + total)
        assert torch.equal(before, original)
    with pytest.raises(InputError, match="`recorded`, `recorded` read the weight of w"):
        replace(plain, editor=editor).merge(merge, parts, total, 2)


def edited_layers() -> dict[int, EditedLayer]:
    """Two layers that remember an edit, other ones each."""
    memories = {
        layer: Memory(draw_prior(layer), 2.0, 0.5).remember(
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
    record = write_own_prior(prior, edited_layers())
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
            assert edited.memory.grams is not None
            assert torch.equal(grams[layer], edited.memory.grams)
        if travels:
            upper = edited.memory.covariance.triu()
            assert torch.equal(covariances[layer], upper + upper.triu(1).mT)


def test_parties_that_do_not_solve_are_sent_nothing() -> None:
    """The record that goes with the job is empty."""
    message = send(None)
    assert read_grams(message) == {}
    assert read_pooled_covariance(message, WIDTHS) == {}
