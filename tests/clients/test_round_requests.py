"""A round's requests are those that it began with, whatever is written meanwhile."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message

from clients.own_requests import ChangedRequestsError
from clients.round_requests import digest_requests, validate_unchanged
from clients.selection import Asked
from clients.settings import ClientConfig
from clients.storage import PrivateFolder
from editing.hyperparameters.config import Plan
from editing.requests.edit_request import EditRequest, to_counterfact
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.scenario import ModelConfig
from strategies.wire.messages import Job, ModelIdentity, Phase
from tests.clients.nodes import HANDS, own_files
from tests.federation import (
    Federation,
    assert_same_delta,
    edit_in_rounds,
    world_requests,
    write_json,
)
from tests.laws import ALGEBRA
from tests.tiny import PARAMETERS, TEMPLATES

Make = Callable[..., Federation]

PLAN = Plan(parameters=PARAMETERS, schedule="layerwise", templates=TEMPLATES)
JOB = Job(identity=ModelIdentity(weights="w", tokenizer="t"), plan=PLAN, round=1)
SOURCE = Path("/home/ada/requests.json")
CONFIG = ClientConfig(
    model=ModelConfig(),
    requests=RequestsConfig(),
    parties=PartiesConfig(),
    party=2,
    own_requests=SOURCE,
)
COMPARING = CONFIG.model_copy(update={"parties": PartiesConfig(deduplicate=True)})
ASKED = [Asked(2, 1, place, world_requests()[place]) for place in range(3)]
CHANGED = [*ASKED[:2], replace(ASKED[2], request=world_requests()[3])]

OTHERS: dict[str, object] = {
    "case_id": 7,
    "case_name": "seven",
    "target_space": "never",
    "prompt": "the employer of {} is",
    "subject": "Gus Stone",
    "target_new": "Acme Inc",
    "target_true": None,
    "relation_id": "P108",
    "locality": ({"prompt": "Hal lives in", "answers": ("Rome",)},),
    "portability": ({"prompt": "Hal lives in", "answers": ("Oslo",)},),
    "benchmark_questions": (
        {"kind": "mquake_edit", "prompt": "Hal lives in", "answers": ("Oslo",)},
    ),
}
"""Another value for each field of a request; for lists of prompts, another prompt."""


def test_the_digest_tells_every_field_of_every_request() -> None:
    """Those that only evaluate an edit, too: cases would be of other prompts."""
    before = ASKED[1].request
    found = {digest_requests(ASKED)}
    for name in EditRequest.model_fields:
        other = {**before.model_dump(), name: OTHERS.get(name, ("Gus lives in",))}
        changed = EditRequest.model_validate(other)
        assert changed != before, name
        found.add(digest_requests([ASKED[0], replace(ASKED[1], request=changed)]))
    assert len(found) == 1 + len(EditRequest.model_fields)
    assert digest_requests(list(ASKED)) in found


def test_the_digest_tells_whose_requests_they_are_and_in_which_order() -> None:
    """Targets are kept by row."""
    first, second, third = ASKED
    cases: list[list[Asked]] = [
        [],
        [first],
        [first, second],
        [second, first],
        [first, second, third],
        [replace(first, party=0), second],
        [replace(first, place=5), second],
    ]
    assert len(set(map(digest_requests, cases))) == len(cases)


@pytest.mark.parametrize(
    ("config", "first", "later"),
    [
        (CONFIG, Phase.TARGETS, [Phase.STATISTICS, Phase.MEMORY, Phase.EVALUATE]),
        (
            COMPARING,
            Phase.TOKENS,
            [Phase.TARGETS, Phase.STATISTICS, Phase.MEMORY, Phase.EVALUATE],
        ),
    ],
    ids=["plain", "compared"],
)
def test_other_requests_than_the_round_began_with_are_refused_until_it_begins_again(
    tmp_path: Path, config: ClientConfig, first: Phase, later: list[Phase]
) -> None:
    """The first exchange is that of tokens if they are compared, else of targets."""
    folder = PrivateFolder(tmp_path)
    validate_unchanged(folder, config, JOB, ASKED, first.value)
    for phase in later:
        validate_unchanged(folder, config, JOB, ASKED, phase.value)
        with pytest.raises(ChangedRequestsError, match="was changed while round 1"):
            validate_unchanged(folder, config, JOB, CHANGED, phase.value)
    validate_unchanged(folder, config, JOB, CHANGED, first.value)
    for phase in later:
        validate_unchanged(folder, config, JOB, CHANGED, phase.value)
        with pytest.raises(ChangedRequestsError, match=str(SOURCE)):
            validate_unchanged(folder, config, JOB, ASKED, phase.value)


def test_each_round_party_and_part_of_a_run_is_held_by_itself(tmp_path: Path) -> None:
    """A round that this node saw nothing of binds it to nothing."""
    folder = PrivateFolder(tmp_path)
    validate_unchanged(folder, CONFIG, JOB, ASKED, Phase.TARGETS.value)
    statistics = Phase.STATISTICS.value
    for changes in ({"round": 2}, {"label": "ties"}):
        other = JOB.model_copy(update=changes)
        validate_unchanged(folder, CONFIG, other, CHANGED, statistics)
    neighbour = CONFIG.model_copy(update={"party": 1})
    validate_unchanged(folder, neighbour, JOB, CHANGED, statistics)
    with pytest.raises(ChangedRequestsError):
        validate_unchanged(folder, CONFIG, JOB, CHANGED, statistics)


def test_a_node_that_missed_the_tokens_keeps_what_its_targets_are_of(
    tmp_path: Path,
) -> None:
    """Its folder was emptied meanwhile, say."""
    folder = PrivateFolder(tmp_path)
    validate_unchanged(folder, COMPARING, JOB, ASKED, Phase.TARGETS.value)
    with pytest.raises(ChangedRequestsError):
        validate_unchanged(folder, COMPARING, JOB, CHANGED, Phase.STATISTICS.value)


@pytest.mark.parametrize("compares", [False, True], ids=["plain", "compared"])
def test_a_file_that_changes_in_a_round_costs_its_party_that_round(
    federate: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, compares: bool
) -> None:
    """The others go on, its operator reads why, and the server hears a class of it.

    The next round takes what the file then holds.
    """
    federation = federate(
        node_configs=own_files(tmp_path),
        run={"rounds": 2},
        parties={"requests-per-round": 1, "deduplicate": compares},
    )
    changed = tmp_path / "requests_1.json"
    first = Phase.TOKENS if compares else Phase.TARGETS

    def rewrite(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == first.value:
            other = [to_counterfact(request) for request in reversed(HANDS[1])]
            write_json(tmp_path / "draft", other).replace(changed)
        return reply

    federation.tampers[1] = rewrite
    with caplog.at_level(logging.ERROR):
        strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == federation.node(1)
    assert refusal.reason == "it reported requests that changed during the round"
    assert strategy.registry.outcomes[2].refusals == []
    assert f"{changed}: was changed while round 1" in caplog.text
    assert changed.name.encode() not in federation.said()
    rounds = [
        [HANDS[0][0], HANDS[2][0]],
        [HANDS[0][1], HANDS[1][-2], HANDS[2][1]],
    ]
    expected = edit_in_rounds(federation.preparation, rounds, 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)
