"""Rounds on one machine, and the same by parties through the whole pipeline."""

import pytest
import torch
from torch import Tensor

from editing.algebra.deltas import add_deltas, applied
from editing.algebra.statistics import pool
from editing.answers.gradients import read_answers
from editing.answers.moments import ByShape, pool_moments, sum_moments
from editing.answers.pipeline import AnswerState, edit_answers
from editing.answers.rule import Given
from editing.answers.standardised import StandardisedRule
from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_request
from editing.requests.edit_request import EditRequest
from tests.laws import assert_same
from tests.tiny import LAYERS, tiny_model, tiny_requests

RULES = {
    "ultraedit": StandardisedRule(learning_rate=0.02, ridge=1.0),
    "stableedit": StandardisedRule(learning_rate=0.02, ridge=1.0, floor=1e-6),
}
BARE = EditRequest(case_id=1, prompt="who lives in Rome ?", target_new="Ada of Lima .")
ROUNDS: tuple[tuple[list[EditRequest], ...], ...] = (
    ([*tiny_requests(3)], [BARE], []),
    ([], [tiny_requests()[5], tiny_requests()[3]], [tiny_requests()[4]]),
)
"""By round, the requests of three parties; one has none."""

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def by_parties(model: EditableModel, rule: StandardisedRule) -> dict[str, Tensor]:
    """Exchange moments, then statistics, party by party."""
    delta: dict[str, Tensor] = {}
    moments: ByShape = {}
    for parties in ROUNDS:
        with applied(delta, model.model):
            read = [read_answers(model, own, LAYERS) for own in parties]
        own = [sum_moments(each, products=rule.whitens) for each in read]
        moments = pool_moments([moments, *own])
        sent = [rule.statistics(each, Given(moments)) for each in read]
        solved = {
            model.weight_name(k): rule.solve(k, pool([each[k] for each in sent]))
            for k in LAYERS
        }
        delta = add_deltas(delta, solved)
    return delta


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("editor", RULES)
def test_parties_edit_as_one_machine_does(editor: str, dtype: torch.dtype) -> None:
    """Over two rounds, the second on the model as the first left it."""
    model, rule = tiny_model(dtype=dtype), RULES[editor]
    state: AnswerState | None = None
    for parties in ROUNDS:
        requests = [request for own in parties for request in own]
        state = edit_answers(model, requests, LAYERS, rule, state)
    assert state is not None
    assert state.moments[16, 24].count == 2 * sum(
        len(request.target_new.split())
        for parties in ROUNDS
        for own in parties
        for request in own
    )
    for name, update in by_parties(model, rule).items():
        assert_same(update, state.delta[name], TOLERANCE[dtype])


@pytest.mark.parametrize("editor", RULES)
def test_an_edit_makes_its_answers_likelier(editor: str) -> None:
    """With a subject and without one; the model itself is left as it was."""
    model, requests = tiny_model(), [*tiny_requests(), BARE]
    before = losses(model, requests)
    state = edit_answers(model, requests, LAYERS, RULES[editor])
    assert losses(model, requests) == before
    with applied(state.delta, model.model):
        after = losses(model, requests)
    assert sum(after) < 0.97 * sum(before)


def losses(model: EditableModel, requests: list[EditRequest]) -> list[float]:
    """Negative log-likelihoods of answers."""
    work = [Continuation(*tokenize_request(model.tokenizer, each)) for each in requests]
    return [each.nll for each in compute_likelihoods(model, work)]
