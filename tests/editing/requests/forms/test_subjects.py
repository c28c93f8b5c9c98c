"""Laws of subjects: one that is taken out of a text can be put back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import RequestError
from editing.requests.forms.subjects import take_subject_out

WORDS = st.text(st.characters(exclude_characters="{}", categories=("L", "N", "P")))


@given(before=WORDS, subject=WORDS.filter(bool), after=WORDS)
def test_a_subject_that_is_taken_out_can_be_put_back(
    before: str, subject: str, after: str
) -> None:
    """Whatever signs it has, the prompt with it is the text again."""
    text = f"{before} {subject} {after}"
    prompt, spelled = take_subject_out(text, subject, "src")
    assert spelled == subject
    assert prompt.count("{}") == 1
    assert prompt.replace("{}", spelled) == text


@pytest.mark.parametrize(
    ("text", "subject", "prompt", "spelled"),
    [
        ("Is it in Italy?", "it", "Is {} in Italy?", "it"),
        ("Italy has it", "it", "Italy has {}", "it"),
        ("Who is Bo's Bo?", "Bo", "Who is {}'s Bo?", "Bo"),
        ("Kielers know", "Kiel", "{}ers know", "Kiel"),
        ("who is ada  QUILL?", "Ada Quill", "who is {}?", "ada  QUILL"),
        ("who is ada\u00a0quill?", " Ada\tQuill ", "who is {}?", "ada\u00a0quill"),
        ("ada met Ada", "Ada", "ada met {}", "Ada"),
        ("What is C++ (1.0)?", "C++ (1.0)", "What is {}?", "C++ (1.0)"),
    ],
)
def test_a_subject_is_found_as_it_is_spelled(
    text: str, subject: str, prompt: str, spelled: str
) -> None:
    """Words before parts of words, and the exact spelling before a loose one."""
    assert take_subject_out(text, subject, "src") == (prompt, spelled)


@pytest.mark.parametrize("text", ["Who is Bo?", "", "Ada", "{} Ada Quill", "AdaQuill"])
def test_a_subject_that_is_not_there_is_refused(text: str) -> None:
    """By the field that should name it."""
    with pytest.raises(RequestError, match=r"^`src` (does not name|holds)"):
        take_subject_out(text, "Ada Quill", "src")
