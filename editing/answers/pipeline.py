"""Editing at the answers on one machine: the reference for several parties."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from editing.algebra.deltas import add_deltas, applied
from editing.answers.gradients import BATCH_SIZE, read_answers
from editing.answers.moments import ByShape, pool_moments, sum_moments
from editing.answers.rule import AnswerRule, Given
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest


@dataclass(frozen=True, slots=True)
class AnswerState:
    """What a round leaves to the next.

    Attributes:
        delta: All updates so far by parameter name, in float64.
        moments: Of the rows of all rounds so far.
    """

    delta: Mapping[str, Float[Tensor, "d_out d_in"]] = field(default_factory=dict)
    moments: ByShape = field(default_factory=dict)


def edit_answers(
    model: EditableModel,
    requests: Sequence[EditRequest],
    layers: Sequence[int],
    rule: AnswerRule,
    state: AnswerState | None = None,
    batch_size: int = BATCH_SIZE,
    model_path: str = "",
) -> AnswerState:
    """Edit with a round's requests on one machine.

    All layers are read on the model as the round begins. The model is unchanged
    afterwards; use `editing.algebra.deltas.applied` to edit it.

    Args:
        model: The unedited model.
        requests: The round's.
        layers: The edited blocks, in ascending order.
        rule: How values are made; `editing.malmen.rule.complete` has read its files.
        state: What earlier rounds left; None before the first.
        batch_size: Texts that are run at a time.
        model_path: The model's files, next to which a rule may have a file.
    """
    model.check_layers(layers)
    before = state or AnswerState()
    with applied(before.delta, model.model):
        pairs = read_answers(model, requests, layers, batch_size=batch_size)
    found = sum_moments(pairs, products=rule.whitens)
    moments = pool_moments([before.moments, found])
    given = Given(moments, model_path)
    solved = {
        model.weight_name(layer): rule.solve(layer, each)
        for layer, each in rule.statistics(pairs, given).items()
    }
    return AnswerState(add_deltas(before.delta, solved), moments)
