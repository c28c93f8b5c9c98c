"""Contested facts: pairs of requests, and wordings that edit or evaluate them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from editing.requests.paraphrases import phrase
from server.config import RunConfig
from sims.studies.contested import (
    MOST_PHRASINGS,
    ContestedFact,
    draw_contests,
    opposed,
    other_prompts,
    pair_up,
    word_contests,
)
from sims.studies.pools import fact_of, read_pool
from strategies.partitioning.settings import RequestsConfig
from strategies.scenario import ModelConfig
from tests.editing.records import FILES, find
from tests.sims.studies.made_up import make_pool

PROMPTS = tuple(f"{{}} is in wording {number} of" for number in range(6))


def make_request(number: int, prompt: int, paraphrases: Sequence[int]) -> EditRequest:
    """Ask for one of five objects in one of six wordings."""
    subject = f"Person {number}"
    texts = (PROMPTS[each].replace("{}", subject) for each in paraphrases)
    return EditRequest(
        case_id=number,
        prompt=PROMPTS[prompt],
        subject=subject,
        relation_id="relation",
        target_new=f"object {number % 5}",
        target_true=f"truth {number % 2}",
        paraphrase_prompts=tuple(texts),
        neighborhood_prompts=("Nobody is in",),
        attribute_prompts=("Nothing is in",),
    )


def make_record(number: int, conflict: str) -> dict[str, object]:
    """Write a record in ConflictEdit's form."""
    relation = {"id": "P1", "prompt": "{} works for", "query": "Who employs {}?"}
    edit = {
        "relation": relation,
        "subject": {"id": "Q1", "label": f"Person {number}"},
        "new_object": "Acme",
        "object": {"id": "Q2", "label": "Works"},
        "conflict_object": {"id": "Q-2", "label": conflict},
    }
    return {"edit": edit, "true_objects": []}


def draw(
    pool: Sequence[EditRequest],
    wanted: int,
    templates: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> list[ContestedFact]:
    """Draw contested facts as a study does."""
    return draw_contests(pair_up(pool, seed), pool, templates, wanted, seed)


def read_source(source: Path, world: Path) -> list[EditRequest]:
    """Read a pool as a scenario names it."""
    model, requests = ModelConfig(path=str(world)), RequestsConfig(source=str(source))
    return read_pool(RunConfig(model=model, requests=requests))


def test_a_file_of_conflicts_is_a_pool_of_pairs_and_agreeing_ones_are_not_drawn(
    world: Path, tmp_path: Path
) -> None:
    """They are counted among the pairs, though written a little differently."""
    source = tmp_path / "pairs.json"
    opposites = ["Lima", "acme ", "North", "Lima"]
    records = [
        make_record(number, opposite) for number, opposite in enumerate(opposites)
    ]
    source.write_text(json.dumps(records))
    pool = read_source(source, world)
    pairs = pair_up(pool, 0)
    assert [pair.conflicting.target_new for pair in pairs] == opposites
    assert {pair.right.target_new for pair in pairs} == {"Acme"}
    assert [pair.contradicts for pair in pairs] == [True, False, True, True]
    drawn = draw(pool, 3)
    assert {each.pair.right.subject for each in drawn} == {
        "Person 0",
        "Person 2",
        "Person 3",
    }
    with pytest.raises(InputError, match="of 4 pairs of requests, 3 contradict, and 3"):
        draw(pool, 4)


@pytest.mark.parametrize(
    ("name", "agreeing"),
    [("conflict_edit_planted", 3), ("conflict_edit_planted_sample", 7)],
)
def test_a_planted_file_has_pairs_that_agree(
    world: Path, name: str, agreeing: int
) -> None:
    """A few; all others are contested, each subject once."""
    pool = read_source(find(name), world)
    pairs = pair_up(pool, 0)
    assert len(pairs) == FILES[name].count
    assert sum(not pair.contradicts for pair in pairs) == agreeing
    subjects = {pair.right.subject for pair in pairs if pair.contradicts}
    assert {each.pair.right.subject for each in draw(pool, len(subjects))} == subjects


def test_a_planted_object_is_known_for_the_relation_and_neither_asked_nor_true() -> (
    None
):
    """Drawn anew with another seed; the prompt stays."""
    pool = make_pool(20)
    known: dict[str, set[str]] = {}
    for request in pool:
        known.setdefault(fact_of(request).relation, set()).add(request.target_new)
    pairs = pair_up(pool, 0)
    assert [pair.right for pair in pairs] == pool
    for pair in pairs:
        opposite = pair.conflicting.target_new
        assert opposite in known[fact_of(pair.right).relation]
        assert opposite not in {pair.right.target_new, pair.right.target_true}
        assert pair.conflicting.rewrite_prompt == pair.right.rewrite_prompt
    assert pair_up(pool, 0) == pairs
    assert pair_up(pool, 1) != pairs


def test_a_request_without_another_object_is_left_out() -> None:
    """Where the relation has no name, nothing is known of it but the request's own."""
    pool = [
        each.model_copy(update={"relation_id": None, "prompt": f"{{}} has {number}"})
        for number, each in enumerate(make_pool(3))
    ]
    assert pair_up(pool, 0) == []


def test_requests_are_opposed_only_if_each_asks_against_what_the_other_asks() -> None:
    """For one fact."""
    first = make_request(0, 0, ()).model_copy(update={"target_true": "object 1"})
    second = first.model_copy(
        update={"target_new": "object 1", "target_true": "object 0"}
    )
    assert opposed(first, second)
    assert not opposed(first, first)
    assert not opposed(first, second.model_copy(update={"subject": "Somebody"}))
    assert not opposed(first, second.model_copy(update={"target_true": "truth"}))
    assert not opposed(first.model_copy(update={"target_true": "truth"}), second)


def test_subjects_are_contested_once_and_those_with_most_phrasings_first() -> None:
    """By the seed; of more phrasings than are ever used none is preferred."""
    rich = [make_request(number, 0, range(1, 6)) for number in range(20)]
    poor = [
        make_request(100 + number, 0, [1]).model_copy(update={"relation_id": "poor"})
        for number in range(20)
    ]
    pool = [*poor, *rich, *rich]
    drawn = draw(pool, 20)
    subjects = [each.pair.right.subject for each in drawn]
    assert set(subjects) == {each.subject for each in rich}
    assert subjects != [each.pair.right.subject for each in draw(pool, 20, seed=1)]
    everybody = {each.pair.right.subject for each in draw(pool, 40)}
    assert len(everybody) == 40


def test_a_wording_for_evaluation_is_never_edited() -> None:
    """Wordings are a fact's paraphrases, then the pool's prompts for its relation."""
    pool = [make_request(number, number % 6, [3, 1]) for number in range(12)]
    for fact in word_contests(pair_up(pool, 0), pool, None):
        right = fact.pair.right
        wordings = [
            *fact.phrasings,
            *(t.replace(right.subject, "{}") for t in fact.held_out),
        ]
        assert set(wordings) == set(PROMPTS) - {right.prompt}
        assert len(wordings) == len(set(wordings))
        own = [PROMPTS[each] for each in (3, 1) if PROMPTS[each] != right.prompt]
        assert wordings[: len(own)] == own
        assert len(fact.held_out) == 1


def test_a_single_wording_is_edited_and_none_is_held_out() -> None:
    """Else there would be nothing to study."""
    pool = [make_request(number, 0, [1]) for number in range(6)]
    for fact in word_contests(pair_up(pool, 0), pool, None):
        assert fact.phrasings == (PROMPTS[1],)
        assert fact.held_out == ()
        assert fact.evaluated.paraphrase_prompts == ()


def test_with_templates_paraphrases_that_are_no_templates_evaluate() -> None:
    """Whatever other prompts the pool knows."""
    pool = [make_request(number, number % 2, [2, 3]) for number in range(6)]
    templates = {"relation": (PROMPTS[3], PROMPTS[4]), "*": (PROMPTS[5],)}
    for fact in word_contests(pair_up(pool, 0), pool, templates):
        subject = fact.pair.right.subject
        assert fact.phrasings == PROMPTS[3:6]
        assert fact.held_out == (PROMPTS[2].replace("{}", subject),)


def test_facts_without_further_phrasings_are_not_contested() -> None:
    """And the message states how many facts have some."""
    pool = [make_request(number, 0, []) for number in range(6)]
    with pytest.raises(InputError, match=r"6 contradict, and 0 of these .*templates"):
        draw(pool, 1)


def test_only_the_winner_is_phrased_further() -> None:
    """By exactly the phrasings of its fact, however many are wanted."""
    pool = [make_request(number, 0, range(1, 6)) for number in range(6)]
    for fact in draw(pool, 6):
        assert len(fact.phrasings) == MOST_PHRASINGS
        assert phrase(fact.loser, MOST_PHRASINGS) == [fact.loser]
        assert fact.loser.target_new == fact.pair.conflicting.target_new
        for count in range(MOST_PHRASINGS + 1):
            phrased = phrase(fact.winner, count)
            prompts = [each.prompt for each in phrased]
            assert prompts == [fact.pair.right.prompt, *fact.phrasings[:count]]
            assert {each.target_new for each in phrased} == {fact.pair.right.target_new}


def test_right_objects_are_evaluated_against_conflicting_ones() -> None:
    """In the prompt and what was held out; the neighbourhood apart, by the truth."""
    pool = [make_request(number, 0, range(1, 6)) for number in range(6)]
    for fact in draw(pool, 6):
        right, evaluated, around = fact.pair.right, fact.evaluated, fact.surroundings
        assert evaluated.rewrite_prompt == right.rewrite_prompt
        assert evaluated.target_new == right.target_new
        assert evaluated.target_true == fact.loser.target_new
        assert evaluated.paraphrase_prompts == fact.held_out
        assert evaluated.neighborhood_prompts == evaluated.attribute_prompts == ()
        assert around.neighborhood_prompts == right.neighborhood_prompts
        assert (around.target_new, around.target_true) == (
            right.target_new,
            right.target_true,
        )
        assert around.paraphrase_prompts == ()


def test_all_prompts_of_a_source_are_found_but_the_request_s_own() -> None:
    """However many there are."""
    request = make_request(0, 2, range(6))
    rest = tuple(each for each in PROMPTS if each != PROMPTS[2])
    assert other_prompts(request) == rest
    assert other_prompts(request, {"*": PROMPTS}) == rest
    assert other_prompts(request, {"another": PROMPTS}) == ()
