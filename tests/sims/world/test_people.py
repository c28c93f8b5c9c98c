"""Laws of the generated world and of the requests about it."""

from collections import Counter

import pytest

from editing.requests.edit_request import EditRequest, parse_request, sample_requests
from sims.world.people import (
    NEIGHBORHOOD_PROMPTS,
    World,
    build_requests,
    build_world,
    held_out_facts,
)
from sims.world.vocabulary import RELATIONS


@pytest.fixture(scope="module")
def world() -> World:
    """The world of seed 0."""
    return build_world(0)


@pytest.fixture(scope="module")
def requests(world: World) -> list[EditRequest]:
    """Its pool of requests."""
    records = build_requests(world)
    return [parse_request(each, "pool", i) for i, each in enumerate(records)]


def test_a_world_is_its_seed(world: World) -> None:
    """The same seed gives the same world."""
    assert build_world(0) == world
    assert build_world(1).names != world.names
    assert build_requests(build_world(0)) == build_requests(world)


def test_nobody_shares_a_name(world: World) -> None:
    """A subject is one person."""
    assert len(set(world.names)) == world.population.total


def test_names_are_of_one_word_and_of_two(world: World) -> None:
    """Keys of both are edited."""
    assert Counter(name.count(" ") for name in world.names).keys() == {0, 1}


def test_no_name_is_part_of_another(world: World) -> None:
    """A prompt names one person."""
    words = {word for name in world.names if " " in name for word in name.split()}
    assert not words & {name for name in world.names if " " not in name}


def test_kinds_of_people_share_nobody_and_leave_nobody_out(world: World) -> None:
    """Who is evaluated as a neighbour is never edited."""
    people = [*world.editable, *world.neighbors, *world.bystanders]
    assert people == list(range(world.population.total))


def test_relations_share_no_object(world: World) -> None:
    """An object tells its relation."""
    counts = Counter(each for objects in world.objects.values() for each in objects)
    assert set(counts.values()) == {1}


def test_a_request_asks_for_another_object_of_its_relation(
    world: World, requests: list[EditRequest]
) -> None:
    """What is new is possible and not true."""
    for request in requests:
        assert request.relation_id is not None
        assert request.target_new in world.objects[request.relation_id]
        assert request.target_new != request.target_true


def test_paraphrases_are_in_both_directions_in_equal_shares(
    requests: list[EditRequest],
) -> None:
    """Half of them tell the relation before the name."""
    for request in requests:
        assert request.rewrite_prompt not in request.paraphrase_prompts
        assert len(set(request.paraphrase_prompts)) == 4
        first = [p.startswith(request.subject) for p in request.paraphrase_prompts]
        assert sum(first) == 2


def test_rewrite_prompts_are_of_either_direction(requests: list[EditRequest]) -> None:
    """Neither direction is the easy one."""
    first = sum(request.prompt.startswith("{}") for request in requests)
    assert 0.4 < first / len(requests) < 0.6


def test_neighborhood_prompts_are_on_others_of_whom_the_true_object_is_true(
    world: World, requests: list[EditRequest]
) -> None:
    """Neighbours share the relation and the true object."""
    relations = {relation.name: relation for relation in RELATIONS}
    neighbors = {world.names[person]: person for person in world.neighbors}
    for request in requests:
        relation = relations[request.relation_id or ""]
        forms = {
            phrasing.prompt.format(name): person
            for phrasing in relation.phrasings
            for name, person in neighbors.items()
        }
        asked = [forms[prompt] for prompt in request.neighborhood_prompts]
        assert len(set(asked)) == NEIGHBORHOOD_PROMPTS
        assert {world.answer(each, relation) for each in asked} == {request.target_true}


def test_no_request_is_about_someone_in_a_neighborhood_or_held_out(
    world: World, requests: list[EditRequest]
) -> None:
    """What is kept is about people who are never edited."""
    edited = {request.subject for request in requests}
    assert edited == {world.names[person] for person in world.editable}
    prompts = [p for request in requests for p in request.neighborhood_prompts]
    prompts += [fact["prompt"] for fact in held_out_facts(world)]
    words = [name for name in edited if " " in name]
    assert not any(name in prompt for name in words for prompt in prompts)


def test_held_out_facts_are_in_no_request(
    world: World, requests: list[EditRequest]
) -> None:
    """They are held out of evaluating too."""
    used = {p for request in requests for p in request.neighborhood_prompts}
    assert used.isdisjoint(fact["prompt"] for fact in held_out_facts(world))


def test_three_draws_of_a_hundred_have_distinct_subjects(
    requests: list[EditRequest],
) -> None:
    """The pool is large enough for ten parties of ten."""
    for seed in (0, 1, 2):
        drawn = sample_requests(requests, 100, seed)
        assert len({request.subject for request in drawn}) == 100
