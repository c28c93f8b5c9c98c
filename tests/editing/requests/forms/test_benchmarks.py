"""Questions in the form of benchmarks' programs."""

from editing.requests.forms.benchmarks import (
    ANSWERED,
    TEACHER_FORCED,
    ask_in_form,
)


def test_a_question_is_asked_with_all_its_answers() -> None:
    """What has no question, or no answer, is not asked."""
    (asked,) = ask_in_form("mquake_edit", "Who?", "Ada", None, "Ada Quill")
    assert asked == {
        "kind": "mquake_edit",
        "prompt": "Q: Who? A:",
        "answers": ("Ada", "Ada Quill"),
    }
    assert ask_in_form("mquake_edit", None, "Ada") == ()
    assert ask_in_form("mquake_edit", "Who?", None) == ()


def test_every_kind_is_asked_in_one_way() -> None:
    """Token by token or freely."""
    assert not {*TEACHER_FORCED} & {*ANSWERED}
    assert len({*TEACHER_FORCED, *ANSWERED}) == len(TEACHER_FORCED) + len(ANSWERED)
