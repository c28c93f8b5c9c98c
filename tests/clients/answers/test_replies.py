"""What a client answers when an editor reads at the answers' tokens."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Message
from torch import Tensor

from clients.app import app
from editing.answers.gradients import read_answers
from editing.answers.moments import sum_moments
from editing.malmen.rule import HypernetworkRule
from editing.requests.edit_request import to_counterfact
from strategies.wire.answers import ANSWERS, read_moments
from strategies.wire.failures import read_failure
from strategies.wire.messages import Job, Phase, read_job, read_targets_reply, write_job
from tests.federation import Federation, world_requests, write_json
from tests.laws import assert_same
from tests.tiny import LAYERS

Make = Callable[..., Federation]
SHAPE = (16, 24)


@pytest.fixture
def federation(federate: Make) -> Federation:
    """Run a round in which the second party has nothing to edit."""
    made = federate(
        editor={"name": "stableedit", "settings": json.dumps({"learning_rate": 0.02})},
        parties={"requests-per-round": "[[2, 0, 1]]", "allow-empty": True},
    )
    made.run()
    return made


def asked_again(
    federation: Federation, party: int, phase: Phase, **changes: object
) -> Message:
    """Ask a party once more, with another job if that is wanted."""
    (asked,) = federation.requests_to(party, phase)
    job = read_job(asked.content).model_copy(update=changes)
    arrays = asked.content.array_records["delta"]
    content = asked.content.copy()
    content.update(write_job(Job.model_validate(job.model_dump()), arrays))
    message = Message(
        content, dst_node_id=federation.node(party), message_type=phase.value
    )
    return app(message, federation.contexts[federation.node(party)])


def test_moments_are_those_of_the_partys_requests(federation: Federation) -> None:
    """Keys and gradients of all edited layers; zeros without a request."""
    model = federation.preparation.model
    for own, reply in zip(
        federation.requests_of_parties(1),
        federation.replies(Phase.ANSWERS),
        strict=True,
    ):
        found = read_moments(reply.content, [SHAPE], products=True)[SHAPE]
        wanted = sum_moments(read_answers(model, own, LAYERS), products=True)[SHAPE]
        assert found.count == wanted.count
        assert (found.count == 0) == (not own)
        assert_same(found.total, wanted.total)
        assert_same(scatter_of(found.products), scatter_of(wanted.products))


def scatter_of(products: Tensor | None) -> Tensor:
    """Return outer products that must be there."""
    assert products is not None
    return products


def test_who_has_no_request_sends_a_summary_alone(federation: Federation) -> None:
    """Others send statistics of their answers' tokens with it."""
    first, second, _ = federation.replies(Phase.TARGETS)
    assert read_targets_reply(second.content).requests == 0
    assert "statistics" not in second.content
    tokens = read_answers(
        federation.preparation.model, federation.requests_of_parties(1)[0], LAYERS
    )
    facts = first.content.config_records["facts"]
    assert facts[f"{LAYERS[0]}.count"] == len(tokens[LAYERS[0]].keys)


def test_a_job_without_such_an_editor_is_refused(federation: Federation) -> None:
    """Server and client are then of different versions."""
    reply = asked_again(federation, 0, Phase.ANSWERS, answers=None)
    assert read_failure(reply.content) == "another protocol version"


def test_moments_that_an_editor_does_not_need_are_not_sent(
    federation: Federation,
) -> None:
    """Whatever is asked."""
    rule = HypernetworkRule(digest="0" * 64)
    reply = asked_again(federation, 0, Phase.ANSWERS, answers=rule)
    assert read_failure(reply.content) == "another protocol version"


def test_a_job_with_another_hypernetwork_is_refused(federation: Federation) -> None:
    """The node's own copy is compared with what the job says."""
    rule = HypernetworkRule(digest="0" * 64)
    reply = asked_again(federation, 0, Phase.TARGETS, answers=rule)
    assert read_failure(reply.content) == "another hypernetwork"


def test_a_question_without_the_pooled_moments_is_refused(
    federation: Federation,
) -> None:
    """Or with others than those of the edited layers."""
    (asked,) = federation.requests_to(0, Phase.TARGETS)
    del asked.content[ANSWERS]
    reply = asked_again(federation, 0, Phase.TARGETS)
    assert read_failure(reply.content) == "another protocol version"


def test_requests_that_change_between_the_exchanges_are_refused(
    federate: Make, tmp_path: Path
) -> None:
    """The first of them keeps their digest."""
    requests = [to_counterfact(each) for each in world_requests()[:2]]
    file = write_json(tmp_path / "own.json", requests)
    made = federate(
        {0: {"requests-path": str(file)}},
        editor={"name": "ultraedit"},
        parties={"requests-per-round": 2, "count": 1},
    )
    made.run()
    write_json(file, requests[::-1])
    reply = asked_again(made, 0, Phase.TARGETS)
    assert read_failure(reply.content) == "requests that changed during the round"
