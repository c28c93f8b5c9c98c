"""Laws of phrasings: one fact in other words, and never another fact."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from editing.requests.paraphrases import phrase, read_templates, unedited_paraphrases

REQUEST = EditRequest(
    case_id=7,
    prompt="The mother tongue of {} is",
    subject="Tilda Varnmoor",
    target_new="English",
    target_true="French",
    relation_id="P103",
    paraphrase_prompts=(
        "It rained. Tilda Varnmoor, a native",
        "Tilda Varnmoor spoke the language",
    ),
    neighborhood_prompts=("Osric Pell is a native speaker of",),
    attribute_prompts=("M.T. Brandle is a native speaker of",),
    generation_prompts=("Tilda Varnmoor was born in",),
)
PROMPTS = st.lists(st.sampled_from([f"{n} of {{}} is" for n in range(6)]), max_size=8)


def with_paraphrases(*texts: str, subject: str = "Tilda Varnmoor") -> EditRequest:
    """Give the request other paraphrases, and maybe another subject."""
    changes = {"paraphrase_prompts": texts, "subject": subject}
    return REQUEST.model_copy(update=changes)


def prompts(requests: list[EditRequest]) -> list[str]:
    """The wordings alone."""
    return [request.prompt for request in requests]


def write(folder: Path, value: object) -> Path:
    """Put JSON into a file."""
    path = folder / "templates.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_copy_asks_the_same_in_other_words() -> None:
    """The request stays whole; a copy holds nothing that evaluates an edit."""
    first, *copies = phrase(REQUEST, 2)
    assert first is REQUEST
    assert copies == [
        EditRequest(
            case_id=7,
            prompt=prompt,
            subject="Tilda Varnmoor",
            target_new="English",
            target_true="French",
            relation_id="P103",
        )
        for prompt in ("It rained. {}, a native", "{} spoke the language")
    ]


def test_a_copy_reads_as_the_paraphrase_does() -> None:
    """Word for word."""
    copies = phrase(REQUEST, 2)[1:]
    assert tuple(each.rewrite_prompt for each in copies) == REQUEST.paraphrase_prompts


@pytest.mark.parametrize("count", range(5))
def test_as_many_copies_as_wanted_or_as_there_are(count: int) -> None:
    """The first ones."""
    assert phrase(REQUEST, count) == phrase(REQUEST, 99)[: count + 1]
    assert len(phrase(REQUEST, count)) == 1 + min(count, 2)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Darrieux", "She spoke the language"),
        ("Darrieux", "Darrieux, born Darrieux, spoke"),
        ("Darrieux", "Darrieux spoke {} and"),
        ("Darrieux", "She spoke {} and"),
    ],
)
def test_a_paraphrase_without_one_subject_is_no_prompt(subject: str, text: str) -> None:
    """There would be no place for the subject, or two."""
    request = with_paraphrases(text, "So spoke Darrieux:", subject=subject)
    assert prompts(phrase(request, 9)[1:]) == ["So spoke {}:"]


@given(own=PROMPTS, count=st.integers(0, 9))
def test_no_wording_comes_twice(own: list[str], count: int) -> None:
    """Nor the request's own again, from paraphrases and templates alike."""
    request = with_paraphrases(
        *(each.replace("{}", REQUEST.subject) for each in own)
    ).model_copy(update={"prompt": "0 of {} is"})
    others = [each for each in dict.fromkeys(own) if each != "0 of {} is"]
    wanted = ["0 of {} is", *others[:count]]
    assert prompts(phrase(request, count)) == wanted
    assert prompts(phrase(request, count, {"P103": own})) == wanted
    assert prompts(phrase(request, count, {"P103": own, "*": own})) == wanted


def test_templates_take_the_place_of_paraphrases() -> None:
    """The relation's own first, then those of any relation, and no other relation's."""
    templates = {"P1": ["{} eats"], "*": ["Well, {} is"], "P103": ["{} speaks"]}
    assert prompts(phrase(REQUEST, 9, templates)[1:]) == ["{} speaks", "Well, {} is"]
    nameless = REQUEST.model_copy(update={"relation_id": None})
    assert prompts(phrase(nameless, 9, templates)[1:]) == ["Well, {} is"]
    assert phrase(REQUEST, 9, {"P1": ["{} eats"]}) == [REQUEST]
    assert phrase(REQUEST, 9, {}) == [REQUEST]


@given(own=PROMPTS, listed=PROMPTS, count=st.integers(0, 9), bare=st.booleans())
def test_a_paraphrase_evaluates_or_is_edited_and_never_both(
    own: list[str], listed: list[str], count: int, bare: bool
) -> None:
    """Whether copies come from paraphrases or from templates that say the same."""
    request = with_paraphrases(
        "Of Tilda Varnmoor, Tilda Varnmoor said",
        *(each.replace("{}", REQUEST.subject) for each in own),
    )
    phrasings = phrase(request, count, None if bare else {"*": listed})
    said = {copy.rewrite_prompt for copy in phrasings[1:]}
    left = unedited_paraphrases(request, phrasings)
    assert said.isdisjoint(left)
    assert said | set(left) >= set(request.paraphrase_prompts)
    assert [each for each in request.paraphrase_prompts if each in left] == list(left)
    assert unedited_paraphrases(request, [request]) == request.paraphrase_prompts


def test_a_negative_count_is_refused() -> None:
    """It would cut copies off from after."""
    with pytest.raises(InputError, match=r"At least 0 extra phrasings.*got -1"):
        phrase(REQUEST, -1)


def test_templates_are_read_as_they_are(tmp_path: Path) -> None:
    """In their order, by relation."""
    path = write(tmp_path, {"P103": ["{} speaks", " so {}"], "*": ["{} is"], "P1": []})
    wanted = {"P103": ("{} speaks", " so {}"), "*": ("{} is",), "P1": ()}
    assert read_templates(path) == wanted


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["{} speaks"], "wanted a JSON object, got list"),
        ({}, "holds no templates"),
        ({"P103": []}, "holds no templates"),
        ({"P103": "{} speaks"}, r"relation `P103`: wanted a list of prompts, got '"),
        ({"P1": ["{} is"], "P2": ["{} is", "is"]}, r"relation `P2`: template 2 wants"),
        ({"*": ["{} and {}"]}, r"relation `\*`: template 1 wants.*got '\{\} and \{\}'"),
        ({"*": [3]}, r"relation `\*`: template 1 wants.*got 3"),
    ],
)
def test_bad_templates_are_named(tmp_path: Path, value: object, message: str) -> None:
    """By file, relation and place."""
    with pytest.raises(InputError, match=message) as caught:
        read_templates(write(tmp_path, value))
    assert str(caught.value).startswith(str(tmp_path / "templates.json"))


def test_templates_that_are_not_there_or_not_json_are_named(tmp_path: Path) -> None:
    """With the reason."""
    path = tmp_path / "templates.json"
    with pytest.raises(InputError, match=r"templates\.json: cannot be read"):
        read_templates(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"templates\.json: not JSON"):
        read_templates(path)
