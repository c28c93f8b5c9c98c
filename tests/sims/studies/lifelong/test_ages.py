"""What becomes of edits, by a naive reading of the same cases."""

from hypothesis import given
from hypothesis import strategies as st

from sims.studies.lifelong.ages import Ages, read_ages

SIZES = [[1, 1], [0, 2], [2, 0]]
MADE = {0: 1, 1: 1, 2: 2, 3: 2, 4: 3, 5: 3}
EDITS = (2, 4, 6)
RIGHT = [{0, 1}, {1, 2}, {0, 2, 5}]
"""Edit 0 is lost and found again, 1 is lost, 3 and 4 were never written."""


def case_of(number: int, *, right: bool) -> dict[str, object]:
    """Make a case up."""
    return {"case_id": number, "post": {"rewrite_prompts_correct": [right]}}


def read(right: list[set[int]]) -> Ages:
    """Read cases of three rounds, each of all edits so far, in any order."""
    cases = [
        [
            case_of(edit, right=edit in said)
            for edit in reversed(MADE)
            if MADE[edit] <= number
        ]
        for number, said in enumerate(right, start=1)
    ]
    return read_ages(SIZES, cases)


def test_an_edit_that_was_never_right_is_not_forgotten() -> None:
    """And one that is right again is not forgotten any more."""
    ages = read(RIGHT)
    assert ages.made == MADE
    assert tuple(ages.edits) == EDITS
    assert [ages.forgotten(number) for number in (1, 2, 3)] == [0, 100 / 3, 25]
    assert ages.age_when_lost(1) is None
    assert ages.age_when_lost(2) == 2
    assert ages.age_when_lost(3) == 4


def test_kept_edits_are_counted_at_one_age() -> None:
    """Those too young for it are left out; at no age all written ones are right."""
    ages = read(RIGHT)
    assert [ages.kept_at(age) for age in (0, 1, 2)] == [100, 200 / 3, 50]
    assert ages.kept_at(3) is None
    assert read([set(), set(), set()]).forgotten(3) is None


@given(right=st.lists(st.sets(st.sampled_from([*MADE])), min_size=3, max_size=3))
def test_the_lives_are_those_of_the_definition(right: list[set[int]]) -> None:
    """Edit by edit."""
    ages = read(right)
    written = [edit for edit in MADE if edit in right[MADE[edit] - 1]]
    lost = [edit for edit in written if edit not in right[2]]
    if written:
        assert ages.forgotten(3) == 100 * len(lost) / len(written)
    since = []
    for edit in lost:
        number = MADE[edit]
        while edit in right[number - 1]:
            number += 1
        since.append(EDITS[number - 1] - EDITS[MADE[edit] - 1])
    assert ages.age_when_lost(3) == (sum(since) / len(since) if since else None)
