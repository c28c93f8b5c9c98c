"""Laws of metrics that add."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.evaluation.answers import answer_locality, measure_answers
from editing.evaluation.cases import evaluate_requests, predict_locality, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.generated_texts import add_texts, measure_texts
from editing.evaluation.metrics import RANGES, MetricSums, harmonic_mean
from editing.requests.edit_request import Question
from editing.requests.forms import benchmarks
from editing.requests.questions import BenchmarkQuestion
from tests.tiny import tiny_model, tiny_requests

NAMES = st.sampled_from(["rewrite_success", "rewrite_acc", "paraphrase_diff", "x"])
CASES = st.dictionaries(NAMES, st.integers(-4, 4).map(float)).map(
    lambda found: MetricSums(found, dict.fromkeys(found, 1))
)
SUMS = st.lists(CASES, max_size=4).map(lambda cases: sum(cases, MetricSums()))


@given(a=SUMS, b=SUMS, c=SUMS)
def test_sums_are_a_commutative_monoid(
    a: MetricSums, b: MetricSums, c: MetricSums
) -> None:
    """Over every field; so parties' metrics add up in any order."""
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + MetricSums() == a


@given(cases=st.lists(CASES, max_size=6), cut=st.integers(0, 6))
def test_sums_of_parties_are_those_of_all_cases(
    cases: list[MetricSums], cut: int
) -> None:
    """However they are split."""
    parts = [sum(part, MetricSums()) for part in (cases[:cut], cases[cut:])]
    assert parts[0] + parts[1] == sum(cases, MetricSums())


@pytest.mark.parametrize(
    ("values", "mean"),
    [([5.0] * 3, 5), ([100.0, 50.0], 200 / 3), ([100.0, 0.0], 0), ([30.0], 30)],
)
def test_the_score_is_a_harmonic_mean(values: list[float], mean: float) -> None:
    """One part that fails is not made good by the others."""
    assert harmonic_mean(values) == pytest.approx(mean)


def test_every_metric_of_a_party_has_a_range_and_lies_in_it() -> None:
    """Whatever requests bring along: questions, texts, prompts of other subjects."""
    model, config = (
        tiny_model(),
        EvaluationConfig(generation=True, attribute_prompts=True, max_tokens=20),
    )
    asked = (Question(prompt="Hal North plays the", answers=("drum", "harp")),)
    requests = [
        each.model_copy(
            update={
                "locality": asked,
                "portability": asked,
                "benchmark_questions": tuple(
                    BenchmarkQuestion(
                        kind=kind, prompt="Q: who lives in Oslo ? A:", answers=("drum",)
                    )
                    for kind in (*benchmarks.TEACHER_FORCED, *benchmarks.ANSWERED)
                ),
                "attribute_prompts": ("Gus works for",),
                "paraphrase_prompts": (f"{each.subject} is", f"the {each.subject} is"),
                "neighborhood_prompts": ("Hal lives in",),
                "generation_prompts": (f"{each.subject} is",),
            }
        )
        for each in tiny_requests()
    ]
    before = predict_locality(model, requests)
    said = answer_locality(model, requests, config)
    cases = evaluate_requests(model, requests, config, before=before)
    cases = add_texts(cases, measure_texts(model, requests, config, seed=0))
    cases = add_texts(cases, measure_answers(model, requests, config, before=said))
    found = sum_cases(cases)
    assert len(found.sums) > 15
    for name, total in found.sums.items():
        least, most = RANGES[name]
        assert least * found.counts[name] <= total <= most * found.counts[name]
    never = {"attribute_token_acc", "reference_score"}
    assert set(RANGES) - set(found.sums) == never
