"""What later rounds ask for is never what the first one edited."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from sims.studies.noise import NOISES, OTHER, SAME, draw_rounds
from sims.studies.pools import fact_of
from tests.sims.studies.made_up import make_pool

POOL = make_pool(12)
LATER = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(first=st.integers(1, 4), later=LATER, seed=st.integers(0, 99))
def test_rounds_have_the_sizes_asked_for_and_the_same_targets(
    first: int, later: list[int], seed: int
) -> None:
    """One request a target's subject, under both kinds of noise."""
    sizes = [first, *later]
    drawn = draw_rounds(POOL, sizes, seed)
    assert drawn[SAME][0] == drawn[OTHER][0]
    assert len({request.subject for request in drawn[SAME][0]}) == first
    assert list(drawn) == list(NOISES)
    for rounds in drawn.values():
        assert list(map(len, rounds)) == sizes


@given(first=st.integers(1, 4), later=LATER, seed=st.integers(0, 99))
def test_no_later_request_is_about_a_target(
    first: int, later: list[int], seed: int
) -> None:
    """It is about the same subjects, or about none of them."""
    drawn = draw_rounds(POOL, [first, *later], seed)
    subjects = {request.subject for request in drawn[SAME][0]}
    edited = {fact_of(request) for request in drawn[SAME][0]}
    same = [request for each in drawn[SAME][1:] for request in each]
    other = [request for each in drawn[OTHER][1:] for request in each]
    assert not {fact_of(request) for request in same} & edited
    assert {request.subject for request in same} <= subjects
    assert not {request.subject for request in other} & subjects


@given(seed=st.integers(0, 99))
def test_a_fact_is_never_given_the_same_object_twice(seed: int) -> None:
    """Nor back the one that was true, and every object is one of its relation."""
    rounds = draw_rounds(POOL, [2, 8, 8], seed)[SAME]
    asked = [request for each in rounds[1:] for request in each]
    given = Counter((fact_of(request), request.target_new) for request in asked)
    assert set(given.values()) == {1}
    for request in asked:
        assert request.target_new != request.target_true
        assert request.target_new.startswith(str(request.relation_id))


def test_other_facts_of_a_subject_come_before_changes_of_changes() -> None:
    """The pool's own requests are used up first."""
    rounds = draw_rounds(POOL, [3, 6, 3], 0)[SAME]
    own = {(fact_of(request), request.target_new) for request in POOL}
    assert all((fact_of(r), r.target_new) in own for r in rounds[1])
    assert len({fact_of(r) for r in rounds[1]}) == 6
    assert {fact_of(r) for r in rounds[2]} <= {fact_of(r) for r in rounds[1]}


def test_a_pool_with_one_fact_a_subject_has_other_subjects_alone() -> None:
    """As CounterFact does."""
    assert list(draw_rounds(make_pool(12, relations=1), [4, 5], 0)) == [OTHER]


def test_a_pool_without_further_subjects_has_the_same_ones_alone() -> None:
    """They can be changed again."""
    assert list(draw_rounds(make_pool(4), [4, 9], 0)) == [SAME]


@pytest.mark.parametrize("sizes", [[13, 1], [10, 500]])
def test_a_pool_too_small_is_refused(sizes: list[int]) -> None:
    """State what it has, and what to lower."""
    with pytest.raises(InputError, match=r"72 about 12 subjects.*`run\.rounds`"):
        draw_rounds(POOL, sizes, 0)
