"""Laws of further questions: each has its prompt and answers, or names what lacks."""

import pytest

from editing.base.errors import RequestError
from editing.requests.forms.easyedit import ask, has_new_question, read_new_question
from tests.editing.records import KNOW_ZSRE, RECENT

NEW = {"New Question": "Is it?", "New Answer": "yes", "Recalled Relation": "(a, b, c)"}


def test_a_new_question_is_read_by_its_published_names() -> None:
    """The recalled relation is read by nobody; several answers will do."""
    assert read_new_question(NEW) == ({"prompt": "Is it?", "answers": ("yes",)},)
    several = {"New Question": "Is it?", "New Answer": [["yes", "it is"]]}
    assert read_new_question(several)[0]["answers"] == ("yes", "it is")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"New Question": " "}, r"^`portability\.New Question`: is empty\.$"),
        (
            {"New Answer": []},
            r"^`portability\.New Answer`: is empty; wants a text or a list",
        ),
        ({"New Questions": "a"}, r"did you mean `portability\.New Question`\?$"),
    ],
)
def test_a_bad_new_question_is_named(change: dict[str, object], message: str) -> None:
    """By the field as the record spells it."""
    with pytest.raises(RequestError, match=message):
        read_new_question({**NEW, **change})


def test_a_new_question_is_distinguished_from_probes_by_kind() -> None:
    """By any one of its fields."""
    assert all(has_new_question({name: value}) for name, value in NEW.items())
    for record in (RECENT, KNOW_ZSRE):
        assert not has_new_question(record["portability"])
    assert not has_new_question([NEW])
    assert not has_new_question(None)


def test_no_prompt_asks_nothing() -> None:
    """And a prompt asks for its one answer."""
    assert ask(None, "a") == ()
    assert ask("Is it?", "yes") == read_new_question(NEW)
