"""Laws of the normal form, in which spellings of one text are equal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.requests.normalise import normalise


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("  Tilda \t\n Varnmoor ", "tilda varnmoor"),
        ("STRASSE", normalise("Straße")),
        ("Cafe\u0301", "caf\u00e9"),
        ("\uff21\uff22\u00a0\u2460", "ab 1"),
        ("\U0001d400\U0001d401", "ab"),
        ("\u03b1\u0345\u0301", normalise("\u03b1\u0301\u0345")),
        ("\u201cEnglish.\u201d", "english"),
        ("'What is it?' ", "what is it"),
        ("...is {}, also known as:", "...is {}, also known as"),
        ("O'Neill, Jr.", "o'neill, jr"),
        ("C++", "c++"),
        ("?!", "?!"),
    ],
)
def test_spellings_of_one_text_have_one_form(text: str, form: str) -> None:
    """Compatible signs, case, space, quotation marks around, punctuation after."""
    assert normalise(text) == form


@given(text=st.text())
def test_a_normal_form_is_its_own(text: str) -> None:
    """Normalising twice is normalising once."""
    assert normalise(normalise(text)) == normalise(text)


@given(text=st.text())
def test_the_form_is_that_of_any_spelling(text: str) -> None:
    """Each of Unicode's normal forms, and spaces around, come to one."""
    for name in ("NFC", "NFD", "NFKC", "NFKD"):
        spelt = unicodedata.normalize(name, text)
        assert normalise(f" {spelt}\n") == normalise(text)
