"""When a search for a target ends before its last step."""

import pytest

from editing.memit.targets import EARLY_STOP_LOSS, compute_targets
from tests.editing.memit.test_targets import DEFINITION, EASY, REQUESTS, easy_requests
from tests.laws import assert_same
from tests.naive import naive_target
from tests.tiny import TEMPLATES, tiny_model

MODEL = tiny_model()


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_a_search_may_stop_once_every_token_is_the_likeliest(waits: int) -> None:
    """After every prompt, and so many evaluations later; each at its own step."""
    rule = EASY.model_copy(update={"stop": "top-1", "top_1_steps": waits})
    requests = [*easy_requests(), *REQUESTS[:2]]
    ours = compute_targets(MODEL, requests, TEMPLATES[:2], rule)
    alone = [
        naive_target(MODEL, each, TEMPLATES[:2], EASY, top_1=waits) for each in requests
    ]
    steps = [len(each.losses) for each in alone]
    assert len(set(steps)) >= 3, steps
    assert all(each.losses[-1] > EARLY_STOP_LOSS for each in alone)
    for mine, stopped, other in zip(ours.states, ours.stopped, alone, strict=True):
        assert_same(mine, other.target, DEFINITION)
        assert bool(stopped) == (len(other.losses) < EASY.v_num_grad_steps)


def test_the_loss_ends_a_search_whatever_else_does() -> None:
    """A rule that is never met leaves targets as they were, to the bit."""
    never = EASY.model_copy(update={"stop": "top-1", "top_1_steps": 99})
    plain = compute_targets(MODEL, easy_requests(), ["{}"], EASY)
    ours = compute_targets(MODEL, easy_requests(), ["{}"], never)
    assert ours.shift.equal(plain.shift)
