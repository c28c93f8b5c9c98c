"""Laws of ConflictEdit's form: the right side is asked for."""

from copy import deepcopy

import pytest

from editing.requests.conflicts import read_conflicts
from editing.requests.edit_request import (
    read_requests,
)
from editing.requests.forms.conflictedit import from_conflict_edit
from tests.editing.records import (
    CONFLICT,
    both,
    find,
)


@pytest.mark.parametrize("name", both("conflict_edit", "conflict_edit_planted"))
def test_conflictedit_asks_for_the_right_side(name: str) -> None:
    """Numbered in turn; both sides are what `read_conflicts` reads."""
    requests, pairs = read_requests(find(name)), read_conflicts(find(name))
    assert [each.case_id for each in requests] == list(range(len(pairs)))
    for request, pair in zip(requests, pairs, strict=True):
        assert request.model_copy(update={"case_id": pair.right.case_id}) == pair.right


def test_objects_of_conflictedit_are_texts_or_have_one() -> None:
    """The planted object is the true target, or else what was known before."""
    wanted = from_conflict_edit(CONFLICT)
    assert wanted["target_new"] == "the North School"
    assert wanted["target_true"] == "the West School"
    assert wanted["paraphrase_prompts"] == ("Where did Ada Quill study?",)
    spelled = deepcopy(CONFLICT)
    spelled["edit"]["new_object"] = {"id": "Q2", "label": "the North School"}
    spelled["edit"]["conflict_object"] = "the West School"
    spelled["edit"]["subject"] = "Ada Quill"
    assert from_conflict_edit(spelled) == wanted
    del spelled["edit"]["conflict_object"]
    assert from_conflict_edit(spelled)["target_true"] == "the South School"
