"""Laws of CounterFact's form: what others add to it is read, or known and left."""

import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import Question, parse_request, to_counterfact
from editing.requests.forms.counterfact import from_counterfact
from tests.editing.records import COUNTERFACT, Record, both, records_of

OTHER = {**COUNTERFACT, "alternative_subject": "Tilda Maria Varnmoor"}


def test_another_name_of_the_subject_is_a_question_of_portability() -> None:
    """The prompt with that name, and what is edited in (EasyEdit's own program)."""
    request, plain = parse_request(OTHER, "here"), parse_request(COUNTERFACT, "here")
    prompt = COUNTERFACT["requested_rewrite"]["prompt"].format(
        OTHER["alternative_subject"]
    )
    asked = Question(prompt=prompt, answers=("English",))
    assert request == plain.model_copy(update={"portability": (asked,)})
    assert parse_request(to_counterfact(request), "here") == request


def test_another_name_comes_after_the_questions_that_are_there() -> None:
    """Ours as a list, and EasyEdit's new one."""
    ours = [{"prompt": "a", "answers": ["b"]}]
    new = {"New Question": "a", "New Answer": "b"}
    for given in (ours, new):
        request = parse_request({**OTHER, "portability": given}, "here")
        first, second = request.portability
        assert first == Question(prompt="a", answers=("b",))
        assert second.answers == ("English",)
    with pytest.raises(RequestError, match="`portability`: wanted a list of objects"):
        parse_request({**OTHER, "portability": 3}, "here")


def with_texts(record: Record) -> Record:
    """Add what AKEW's files have next to a rewrite."""
    texts = {
        "prompt_full": "What is the mother tongue of Tilda Varnmoor?",
        "question": "Which language?",
        "fact_new": "The mother tongue of Tilda Varnmoor is English",
        "fact_new_uns": "Tilda Varnmoor grew up with English.",
        "unsfact_triplets_GPT": [{"subject": "a", "prompt": "{} is", "target": "b"}],
    }
    return {**record, "requested_rewrite": {**record["requested_rewrite"], **texts}}


def test_texts_next_to_a_rewrite_are_read_by_nobody() -> None:
    """The request is the same with them and without."""
    assert from_counterfact(with_texts(COUNTERFACT)) == from_counterfact(COUNTERFACT)
    wrong = with_texts(COUNTERFACT)
    wrong["requested_rewrite"]["fact_nwe"] = "x"
    with pytest.raises(RequestError, match=r"`requested_rewrite\.fact_nwe`.*fact_new`"):
        from_counterfact(wrong)


@pytest.mark.parametrize("name", both("multi_counterfact"))
def test_records_of_a_file_take_what_is_added(name: str) -> None:
    """Each of them, with all of it at once."""
    for record in records_of(name):
        more = {"alternative_subject": "X", **with_texts(record)}
        request = parse_request(more, "here")
        plain = parse_request(record, "here")
        (asked,) = request.portability
        assert asked.prompt == plain.prompt.replace("{}", "X")
        assert asked.answers == (plain.target_new,)
        assert request.model_copy(update={"portability": ()}) == plain
