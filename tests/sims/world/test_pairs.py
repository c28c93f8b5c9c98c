"""Public edits are of people whom no request is about, and disturb nobody else's."""

import json
from collections import Counter

import pytest

from editing.sources.embedded import locate_embedded
from sims.world.pairs import PublicFacts, public_pairs
from sims.world.people import World, build_requests, build_world
from sims.world.vocabulary import RELATIONS


@pytest.fixture(scope="module")
def made_up() -> World:
    """Build the embedded model's world."""
    return build_world(0)


def test_nobody_who_is_edited_in_a_run_is_named(made_up: World) -> None:
    """Neither as a subject nor in a prompt about somebody else."""
    embedded = json.loads((locate_embedded() / "requests.json").read_text())
    edited = {each["requested_rewrite"]["subject"] for each in embedded}
    assert edited == {made_up.names[person] for person in made_up.editable}
    for pair in public_pairs(made_up):
        said = " ".join((pair.rewrite_prompt, *pair.paraphrase_prompts))
        said = f"{said} {' '.join(pair.neighborhood_prompts)} "
        assert pair.subject not in edited
        words = set(said.replace(":", " ").split())
        assert not any(set(name.split()) <= words for name in edited if " " not in name)
        assert not any(f"{name} " in said for name in edited if " " in name)


def test_prompts_about_others_ask_for_facts_that_are_never_edited(
    made_up: World,
) -> None:
    """They are true of neighbours, and the true object of the edit is the answer."""
    asked = {
        phrasing.prompt.format(made_up.names[person]): (person, relation)
        for person in made_up.neighbors
        for relation in RELATIONS
        for phrasing in relation.phrasings
    }
    pairs, facts = public_pairs(made_up), PublicFacts(made_up)
    edited = {
        (pair.subject, asked.get(pair.rewrite_prompt, ("", ""))[1]) for pair in pairs
    }
    for pair in pairs:
        assert len(pair.neighborhood_prompts) <= 2
        for prompt in pair.neighborhood_prompts:
            person, relation = asked[prompt]
            assert (made_up.names[person], relation) not in edited
            assert not facts.edits(person, relation)
            assert made_up.answer(person, relation) == pair.target_true
    assert sum(len(pair.neighborhood_prompts) for pair in pairs) > len(pairs)


def test_pairs_change_facts_and_follow_the_fashions(made_up: World) -> None:
    """What was true was; the object asked for most is that of requests."""
    pairs = public_pairs(made_up)
    true = {(made_up.names[f.person], f.answer) for f in made_up.facts()}
    assert len({each.case_id for each in pairs}) == len(pairs)
    for pair in pairs:
        assert (pair.subject, pair.target_true) in true
        assert pair.target_new != pair.target_true
        assert len({pair.rewrite_prompt, *pair.paraphrase_prompts}) == 3
    ours = Counter(each.target_new for each in pairs)
    theirs = Counter(
        each["requested_rewrite"]["target_new"]["str"]
        for each in build_requests(made_up)
    )
    assert ours.most_common(2)[0][0] == theirs.most_common(2)[0][0]
    assert len(ours) == sum(len({*each}) for each in made_up.objects.values())


def test_the_same_seed_makes_the_same_pairs(made_up: World) -> None:
    """And another seed others."""
    assert public_pairs(made_up, 3) == public_pairs(made_up, 3)
    assert public_pairs(made_up, 3) != public_pairs(made_up, 4)
