"""Laws of what is measured of generated texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.fluency import find_splitter, ngram_entropy
from editing.evaluation.generated_texts import add_texts, measure_texts
from editing.evaluation.perplexity import essence_score
from editing.evaluation.references import References, read_references
from editing.requests.edit_request import EditRequest
from tests.tiny import tiny_model, tiny_requests

MODEL = tiny_model()
CONFIG = EvaluationConfig(generation=True, max_tokens=16)
ESSENCE = "Ada Lovelace plays the harp in Rome"


def requests() -> list[EditRequest]:
    """Two requests with generation prompts, the same one twice, and one without."""
    first, second, third, *_ = tiny_requests()
    prompts = ("Ada Lovelace lives in", "Ada Lovelace", "Ada Lovelace")
    return [
        first.model_copy(update={"generation_prompts": prompts, "relation_id": "P1"}),
        second.model_copy(update={"generation_prompts": ("Ben , who",)}),
        third,
    ]


@pytest.fixture
def references(tmp_path: Path) -> References:
    """Snippets about the first request's object."""
    samples = [
        {"name": "Ada Lovelace", "text": ESSENCE},
        {"name": "Gus", "text": "Gus works at Acme in Oslo"},
    ]
    entry = {"relation_id": "P1", "target_id": "Q5", "samples": samples}
    path = tmp_path / "attribute_snippets.json"
    path.write_text(json.dumps([entry]))
    return read_references(path)


def test_texts_and_their_entropy_stand_under_memits_names() -> None:
    """One text a prompt; a request without prompts has neither."""
    first, second, third = measure_texts(MODEL, requests(), CONFIG, seed=0)
    texts: Any = first["text"]
    assert [text.split()[0] for text in texts] == ["Ada"] * 3
    assert texts[1] != texts[2]
    assert first["ngram_entropy"] == ngram_entropy(texts, find_splitter())
    assert first.keys() == second.keys() == {"text", "ngram_entropy"}
    assert third == {}


def test_the_seed_and_the_request_draw() -> None:
    """Whatever other requests are there."""
    together = measure_texts(MODEL, requests(), CONFIG, seed=0)
    assert measure_texts(MODEL, requests()[1:2], CONFIG, seed=0) == together[1:2]
    assert measure_texts(MODEL, requests(), CONFIG, seed=1) != together


def test_references_are_compared_where_they_know_the_object(
    references: References,
) -> None:
    """By the relation and the new object's number; else they are left out."""
    asked = requests()
    plain = measure_texts(MODEL, asked, CONFIG, 0, references=references)
    assert all("reference_score" not in each for each in plain)
    known = {request.case_id: "Q5" for request in asked}
    first, second, third = measure_texts(
        MODEL, asked, CONFIG, 0, references=references, target_ids=known
    )
    texts: Any = first["text"]
    assert first["reference_score"] == references.score(texts, "P1", "Q5")
    assert first["essence_score"] == essence_score(MODEL, ESSENCE)
    assert first["essence_text"] == [ESSENCE]
    assert "reference_score" not in second
    assert third == {}
    other = measure_texts(
        MODEL, asked, CONFIG, 0, references=references, target_ids={10: "Q6"}
    )
    assert other == plain


def test_metrics_of_texts_are_means_over_the_cases_that_have_them(
    references: References,
) -> None:
    """Entropies and scores a hundred times, a perplexity as it is; parties add up."""
    asked = requests()
    fields: Any = measure_texts(
        MODEL, asked, CONFIG, 0, references=references, target_ids={10: "Q5"}
    )
    cases = add_texts(evaluate_requests(MODEL, asked, CONFIG), fields)
    sums = sum_cases(cases)
    means = sums.means()
    entropies = [each["ngram_entropy"] for each in fields[:2]]
    assert means["ngram_entropy"] == pytest.approx(100 * sum(entropies) / 2)
    assert means["reference_score"] == pytest.approx(100 * fields[0]["reference_score"])
    assert means["essence_score"] == fields[0]["essence_score"]
    assert sums.counts["ngram_entropy"] == 2
    split = sum_cases(cases[:1]) + sum_cases(cases[1:])
    assert split.means() == pytest.approx(means)
