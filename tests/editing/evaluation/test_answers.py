"""Laws of generated answers: each is what its prompt alone gives, and is compared."""

from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from editing.base.errors import InputError
from editing.evaluation.answers import (
    END,
    answer_locality,
    answer_metrics,
    find_stops,
    generate_answers,
    measure_answers,
    normalize,
)
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.generated_texts import add_texts
from editing.evaluation.metrics import MetricSums
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow, tokenize_texts
from editing.requests.edit_request import EditRequest, parse_record, parse_request
from tests.editing.records import MQUAKE, QAEDIT
from tests.tiny import tiny_model, tiny_requests

FAMILIES = (
    "gpt2",
    "gptj",
    "gpt_neo",
    "llama",
    "mistral",
    "qwen3",
    "gemma3_text, uncapped",
    "bloom",
)
"""Learned, rotary and no positions; attention to all that is before, and to some."""

PROMPTS = (
    "Ada",
    "the employer of Dora Stone is",
    "one day , said Ben , they found that the old map is under the red",
    "Hal lives in",
    "Ada Lovelace works",
)
MOST = 6
CONFIG = EvaluationConfig(answer_tokens=MOST)


def rows_of(model: EditableModel) -> list[TokenRow]:
    """Tokenize the prompts, which are of several lengths."""
    return tokenize_texts(model.tokenizer, list(PROMPTS))


def answer_alone(model: EditableModel, prompt: TokenRow, most: int = MOST) -> str:
    """By the definition: the whole text is run again for each token."""
    ids, said = list(prompt.ids), ""
    for _ in range(most):
        with torch.no_grad():
            scores = model.model(input_ids=torch.tensor([ids])).logits[0, -1]
        token = int(scores.argmax())
        if token in find_stops(model):
            break
        ids.append(token)
        said = str(
            model.tokenizer.decode(ids[len(prompt.ids) :], skip_special_tokens=True)
        ).lstrip()
        if end := END.search(said):
            return said[: end.end()].strip()
    return said.strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_together_are_those_of_each_prompt_alone(family: str) -> None:
    """With a cache as without one, and whatever the batch."""
    model = tiny_model(family)
    rows = rows_of(model)
    alone = [answer_alone(model, row) for row in rows]
    assert len(set(alone)) > 1
    for size in (1, 2, 64):
        assert generate_answers(model, rows, MOST, batch_size=size) == alone


@settings(max_examples=8)
@given(order=st.permutations(range(len(PROMPTS))), size=st.integers(1, 6))
def test_an_answer_does_not_depend_on_its_place(order: list[int], size: int) -> None:
    """Nor on repetitions, which are answered once."""
    asked = [ROWS[place] for place in (*order, order[0])]
    counts: list[int] = []
    found = generate_answers(MODEL, asked, MOST, counts.append, size)
    assert found == [ALONE[place] for place in (*order, order[0])]
    assert counts == sorted(counts)
    assert counts[-1] == len(asked)


MODEL = tiny_model()
ROWS = rows_of(MODEL)
ALONE = [answer_alone(MODEL, row) for row in ROWS]


def always(model: EditableModel, words: Sequence[str], eos: object) -> EditableModel:
    """Make a model say words in turn after each other, whatever the prompt.

    Its scores are those of the last word alone: each is followed by the next.
    """
    ids = [int(str(model.tokenizer.convert_tokens_to_ids(word))) for word in words]

    class Said(type(model)):  # type: ignore[misc]
        def head(self, states: torch.Tensor) -> torch.Tensor:
            scores = torch.zeros(len(states), len(model.tokenizer))
            scores[:, ids[min(self.count[0], len(ids) - 1)]] = 1
            self.count[0] += 1
            return scores

    lent = Said(model.model, model.tokenizer, model.architecture)
    object.__setattr__(lent, "count", [0])
    lent.model.generation_config = GenerationConfig(eos_token_id=eos)
    return lent


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("Acme", "Works", ".", "The", "old"), "Acme Works."),
        (("Acme", "Inc", "then", "one", "day", "they", "found"), "Acme Inc then one"),
        (("Acme", "Inc", "music", "day"), "Acme Inc"),
        (("Oslo", "?", "You", "You"), "Oslo?"),
    ],
)
def test_an_answer_ends_where_the_model_ends_it(
    words: tuple[str, ...], answer: str
) -> None:
    """At a sentence's end, at the most tokens, at an end of text: `music` here."""
    model = tiny_model()
    stop = model.tokenizer.convert_tokens_to_ids("music")
    lent = always(model, words, [0, stop])
    assert generate_answers(lent, rows_of(model)[:1], 4) == [answer]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Paris. He lives there", "Paris."),
        ("Paris\nQ: who", "Paris\n"),
        ("St. Petersburg. It", "St. Petersburg."),
        ("the U.S. Navy since 1990. Then", "the U.S. Navy since 1990."),
        ("J. R. R. Tolkien, who", None),
        ("3.5 of them", None),
        ("Paris.", None),
        ('"Paris." He', '"Paris."'),
        ("really! Yes", "really!"),
    ],
)
def test_a_line_or_a_sentence_ends_an_answer(text: str, answer: str | None) -> None:
    """A full stop within a number, a name or at the very end does not."""
    found = END.search(text)
    assert (found and text[: found.end()].rstrip(' "')) == (
        answer and answer.rstrip(' "')
    )


def test_no_answer_is_longer_than_the_model_reads() -> None:
    """Where a prompt leaves two tokens, an answer has two at most."""
    words = ["the"] * (MODEL.longest_input - 2)
    (row,) = tokenize_texts(MODEL.tokenizer, [" ".join(words)])
    (found,) = generate_answers(MODEL, [row], MOST)
    assert found == answer_alone(MODEL, row, most=2)


def test_the_object_changes_what_is_compared_and_nothing_else() -> None:
    """Neither what it is nor how long it is reaches the model."""
    requests = tiny_requests()
    longer = [
        each.model_copy(update={"target_new": "Acme Works Group Inc of Oslo"})
        for each in requests
    ]
    both = [measure_answers(MODEL, each, CONFIG) for each in (requests, longer)]
    answers = [
        [each[f"{kind}_prompts_generated"] for each in found]
        for kind in ("rewrite", "paraphrase")
        for found in both
    ]
    assert answers[0] == answers[1]
    assert answers[2] == answers[3]
    assert all(isinstance(each, list) for each in answers[0])


def test_the_models_own_answer_is_exact_and_more_of_it_contains_it() -> None:
    """Case, articles and punctuation aside; another object is neither."""
    (request,) = tiny_requests(1)
    (row,) = tokenize_texts(MODEL.tokenizer, [request.rewrite_prompt])
    (said,) = generate_answers(MODEL, [row], MOST)
    first = said.split()[0]
    for target, exact, contains in (
        (f"The {said.upper()} !", True, True),
        (first, False, True),
        ("Petersburg", False, False),
    ):
        asked = request.model_copy(update={"target_new": target})
        (found,) = measure_answers(MODEL, [asked], CONFIG)
        assert found["rewrite_prompts_generated"] == [said]
        assert found["rewrite_prompts_generated_exact"] == [exact]
        assert found["rewrite_prompts_generated_contains"] == [contains]


def test_a_prompt_without_paraphrases_is_answered_itself() -> None:
    """And nothing is said of paraphrases."""
    bare = tiny_requests(1)[0].model_copy(update={"paraphrase_prompts": ()})
    (found,) = measure_answers(MODEL, [bare], CONFIG)
    assert {name.partition("_")[0] for name in found} == {"rewrite"}
    assert "paraphrase_generated_exact" not in answer_metrics(found)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        (" an  apple,\ta day ", "apple day"),
        ("U.S.A.", "usa"),
        ("theatre of a man", "theatre of man"),
        ("Marie-Curie\u2019s", "mariecurie\u2019s"),
        ("The", ""),
    ],
)
def test_answers_are_normalized_as_squad_has_it(text: str, plain: str) -> None:
    """In lower case, without ASCII punctuation, articles and further spaces."""
    assert normalize(text) == plain


def test_answers_of_parties_add_up_to_those_of_all_requests() -> None:
    """And each metric is the mean over requests of the share of its prompts."""
    requests = tiny_requests()
    cases = evaluate_requests(MODEL, requests, CONFIG)
    # The model's own answer is the object of two of them.
    own = measure_answers(MODEL, requests, CONFIG)
    targets = [str(found["rewrite_prompts_generated"][0]) for found in own[:2]]  # type: ignore[index]
    requests[:2] = [
        each.model_copy(update={"target_new": target})
        for each, target in zip(requests, targets, strict=False)
    ]
    cases = add_texts(cases, measure_answers(MODEL, requests, CONFIG))
    pooled = sum_cases(cases)
    apart = sum_cases(cases[:2]) + sum_cases(cases[2:])
    assert pooled.sums.keys() == apart.sums.keys()
    assert pooled.counts == apart.counts
    assert {**pooled.sums} == pytest.approx({**apart.sums})
    for kind in ("rewrite", "paraphrase"):
        for measure in ("exact", "contains"):
            hits = [
                case["post"][f"{kind}_prompts_generated_{measure}"]  # type: ignore[index]
                for case in cases
            ]
            mean = sum(sum(each) / len(each) for each in hits) / len(hits)
            assert pooled.means()[f"{kind}_generated_{measure}"] == 100 * mean
    assert pooled.sums["rewrite_generated_exact"] >= 2


def alone(prompt: str) -> str:
    """What the model answers to a finished text, by the definition."""
    (row,) = tokenize_texts(MODEL.tokenizer, [prompt])
    return answer_alone(MODEL, row)


def mquake_case(right: Sequence[bool]) -> list[EditRequest]:
    """Make a case of one edit, two steps and two questions, some answered as wanted."""
    asked = ["who is Ada ?", "who is Ben ?", "the employer of Dora ?", "Hal lives ?"]
    said = [alone(f"Q: {question} A:") for question in asked]
    assert len(set(said)) > 1
    known = [
        each if hit else "Petersburg" for each, hit in zip(said, right, strict=True)
    ]
    record = {
        "requested_rewrite": [
            {
                "prompt": "{} is",
                "subject": "Ada",
                "target_new": {"str": "Acme"},
                "question": asked[0],
            }
        ],
        "questions": asked[2:],
        "new_answer": known[2],
        "new_answer_alias": [f"The {known[3].upper()}"],
        "new_single_hops": [
            {"question": asked[0], "answer": "Acme", "answer_alias": [known[0]]},
            {"question": asked[1], "answer": known[1], "answer_alias": ["Kiel"]},
        ],
    }
    return parse_record(record, "here")


@settings(max_examples=8, deadline=None)
@given(
    cases=st.lists(
        st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=3
    )
)
def test_mquake_counts_edits_whole_chains_and_any_question(
    cases: list[tuple[bool, ...]],
) -> None:
    """Its edit-wise, instance-wise and multi-hop accuracy, aliases included."""
    found = MetricSums()
    for right in cases:
        posts = measure_answers(MODEL, mquake_case(right), CONFIG)
        found += sum_cases([{"post": each} for each in posts])
    size = len(cases)
    assert {n: v for n, v in found.means().items() if n.startswith("mquake")} == {
        "mquake_edit_acc": pytest.approx(100 * sum(c[0] for c in cases) / size),
        "mquake_instance_acc": pytest.approx(
            100 * sum(c[0] and c[1] for c in cases) / size
        ),
        "mquake_multi_hop_acc": pytest.approx(
            100 * sum(c[2] or c[3] for c in cases) / size
        ),
    }


def test_mquakes_questions_stand_after_examples() -> None:
    """And no others do; what the model cannot read is refused by the request."""
    examples = "Q: who is Ben ? A: Cleo"
    shown = CONFIG.model_copy(update={"examples": f"{examples}\n"})
    requests = [*parse_record(MQUAKE, "here"), parse_request(QAEDIT, "here", 1)]
    found = measure_answers(MODEL, requests, shown)
    asked = {
        kind: [
            f"{examples}\n{q.prompt}"
            for q in requests[0].benchmark_questions
            if q.kind == kind
        ]
        for kind in ("mquake_edit", "mquake_instance", "mquake_multi_hop")
    }
    for kind, prompts in asked.items():
        said = [alone(prompt) for prompt in prompts]
        assert found[0][f"{kind}_questions_generated"] == said
    bare = measure_answers(MODEL, requests, CONFIG)
    assert found[1] == bare[1]
    assert found[0] != bare[0]
    endless = CONFIG.model_copy(update={"examples": "Ada " * MODEL.longest_input})
    with pytest.raises(InputError, match="Request 0: "):
        measure_answers(MODEL, requests, endless)


def test_a_case_of_several_rewrites_is_counted_once() -> None:
    """Its edits one by one, its chain and its questions with the last of them."""
    record = deepcopy(MQUAKE)
    record["requested_rewrite"] *= 2
    requests = parse_record(record, "here")
    cases = [{"post": each} for each in measure_answers(MODEL, requests, CONFIG)]
    counts = sum_cases(cases).counts
    assert counts["mquake_edit_acc"] == 2
    assert counts["mquake_instance_acc"] == counts["mquake_multi_hop_acc"] == 1


def test_answers_to_questions_of_locality_are_those_before_the_edit() -> None:
    """QAEdit's: word for word, and whether they were right or not."""
    texts = ["who is Ada", "the employer of Dora Stone is"]
    record = {
        **QAEDIT,
        "locality": [{"loc": each, "loc_ans": "Kiel"} for each in texts],
    }
    requests = [parse_request(record, "here"), *tiny_requests(1)]
    before = answer_locality(MODEL, requests, CONFIG)
    assert before == [[alone(each) for each in texts], []]
    bare, _ = measure_answers(MODEL, requests, CONFIG)
    assert "qaedit_locality_unchanged" not in answer_metrics(bare)
    for old, share in ((before, 1.0), ([[before[0][0], "Kiel"], []], 0.5)):
        same, none = measure_answers(MODEL, requests, CONFIG, before=old)
        assert answer_metrics(same)["qaedit_locality_unchanged"] == share
        assert "qaedit_locality_unchanged" not in answer_metrics(none)


def test_the_settings_say_when_answers_are_generated() -> None:
    """After the last round unless they say otherwise."""
    asks = {
        when: [
            EvaluationConfig(generated_answers=when).of_round(last=last).asks_answers
            for last in (False, True)
        ]
        for when in ("last", "every", "never")
    }
    assert asks == {
        "last": [False, True],
        "every": [True, True],
        "never": [False, False],
    }
    assert EvaluationConfig() == EvaluationConfig(
        generated_answers="last", answer_tokens=32
    )
