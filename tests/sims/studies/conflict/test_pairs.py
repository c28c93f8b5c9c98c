"""Drawing requests that contradict each other, and saying who asks when."""

import json
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.requests.normalise import normalise
from server.config import RunConfig
from sims.studies.conflict.pairs import (
    NEXT,
    ORDERS,
    OTHERS,
    SAME,
    arrange,
    bare,
    draw_contest,
)
from sims.studies.conflict.study import Conflict
from sims.studies.pools import fact_of
from tests.sims.studies.made_up import configure, make_pool

SMALL = ("parties.count=3", "parties.requests-per-round=4")


def small(*overrides: str) -> RunConfig:
    """Read the study's scenario for four facts."""
    return configure(Conflict(), *SMALL, *overrides)


def write_pairs(path: Path, subjects: list[str], *, agree: bool = False) -> Path:
    """Write records of ConflictEdit's form."""
    edits = [
        {
            "relation": {"id": "employer", "prompt": "{} works for"},
            "subject": subject,
            "new_object": "Works",
            "object": "Acme Inc",
            "conflict_object": "works" if agree else "Group",
        }
        for subject in subjects
    ]
    path.write_text(json.dumps([{"edit": edit} for edit in edits]))
    return path


def test_each_fact_is_asked_for_in_two_ways() -> None:
    """Neither of which is true, and both of which the pool knows of the relation."""
    pool = make_pool(40)
    contest = draw_contest(pool, small(), 0)
    assert len(contest.pairs) == 4
    for a, b in zip(contest.a, contest.b, strict=True):
        assert a in pool
        assert (a.subject, a.prompt) == (b.subject, b.prompt)
        objects = {a.target_new, b.target_new, a.target_true}
        assert len({normalise(str(each)) for each in objects}) == 3
        assert b.target_true == a.target_true
        known = {r.target_new for r in pool if fact_of(r).relation == a.relation_id}
        assert b.target_new in known


def test_subjects_are_all_distinct() -> None:
    """Those of pairs, of spare ones and of what nobody contradicts."""
    contest = draw_contest(make_pool(40), small(), 0)
    subjects = [pair.right.subject for pair in contest.pairs + contest.spare]
    subjects += [each.subject for own in contest.others for each in own]
    assert len(subjects) == len(set(subjects)) == 40
    assert [len(own) for own in contest.others] == [OTHERS] * 3


def test_a_seed_draws_the_same_facts_and_another_one_does_not() -> None:
    """Pairs and others alike."""
    first, again, other = (
        draw_contest(make_pool(40), small(), seed) for seed in (3, 3, 4)
    )
    assert first == again
    assert first.a != other.a
    assert first.others != other.others


def test_one_party_asks_for_a_and_all_others_for_b() -> None:
    """Each with its own other requests."""
    contest = draw_contest(make_pool(40), small(), 0)
    sides = [side for side, _ in contest.sides]
    assert sides == [contest.a, contest.b, contest.b]
    assert tuple(own for _, own in contest.sides) == contest.others


def test_a_fact_whose_relation_knows_no_third_object_is_passed_over() -> None:
    """It cannot be contradicted."""
    pool = [each.model_copy(update={"target_new": "Works"}) for each in make_pool(40)]
    with pytest.raises(InputError, match=r"wants 4 facts .* the pool has 0 such facts"):
        draw_contest(pool, small(), 0)


@pytest.mark.parametrize("overrides", [("parties.count=2",), ()])
def test_what_is_too_small_is_refused(overrides: tuple[str, ...]) -> None:
    """Two parties have no majority; few subjects leave none for the others."""
    pool = make_pool(40 if overrides else 18)
    reason = "got 2 parties" if overrides else "the pool 14 further subjects"
    with pytest.raises(InputError, match=reason):
        draw_contest(pool, small(*overrides), 0)


def test_pairs_of_a_file_stand_for_those_of_the_pool(tmp_path: Path) -> None:
    """As many as there are facts; the rest is spare."""
    names = [f"Writer {number}" for number in range(6)]
    file = write_pairs(tmp_path / "pairs.json", names)
    contest = draw_contest(make_pool(40), small(), 0, file)
    drawn = [pair.right.subject for pair in contest.pairs + contest.spare]
    assert sorted(drawn) == names
    assert {request.target_new for request in contest.a} == {"Works"}
    assert {request.target_new for request in contest.b} == {"Group"}
    assert len(contest.pairs) == 4
    other = draw_contest(make_pool(40), small(), 1, file)
    assert contest.a != other.a


@pytest.mark.parametrize("agree", [False, True])
def test_pairs_that_agree_or_repeat_a_subject_do_not_count(
    tmp_path: Path, agree: bool
) -> None:
    """And too few are refused by the file's name."""
    names = [f"Writer {number}" for number in range(5)] if agree else ["Writer"] * 5
    file = write_pairs(tmp_path / "pairs.json", names, agree=agree)
    has = f"pairs.json has {0 if agree else 1} such facts"
    with pytest.raises(InputError, match=has):
        draw_contest(make_pool(40), small(), 0, file)


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_says_when_the_second_side_is_asked_for(order: str) -> None:
    """Nothing is lost, and no party takes another's part."""
    a, b, c, d = ((each,) for each in make_pool(4)[::6])
    rounds = arrange([a, c], [b, d], order)
    assert rounds == {SAME: ((a + b, c + d),), NEXT: ((a, c), (b, d))}[order]


def test_bare_requests_have_no_prompts_that_evaluate_them() -> None:
    """Unless paraphrases are edited with them; what is asked for stays."""
    (request,) = asked = tuple(make_pool(1)[:1])
    (plain,), (phrased,) = (
        bare(asked, small()),
        bare(asked, small("requests.phrasings=1")),
    )
    assert plain.paraphrase_prompts == plain.neighborhood_prompts == ()
    assert phrased.paraphrase_prompts == request.paraphrase_prompts
    assert phrased.neighborhood_prompts == ()
    assert plain.rewrite_prompt == request.rewrite_prompt
    assert plain.target_new == request.target_new
