"""Every metric has the id of its definition, and unlike ones stand apart."""

import pytest

from editing.evaluation.cases import evaluate_requests
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.definitions import (
    define,
    define_all,
    define_figures,
    find_unlike,
    name_apart,
)
from editing.evaluation.metrics import (
    ANSWERED,
    BENCHMARK_ANSWERED,
    DIAGNOSIS,
    GENERATED,
    RANGES,
)
from tests.tiny import tiny_model, tiny_requests

ALL = (*RANGES, *DIAGNOSIS, *GENERATED, "score", "held_out_acc")


def test_every_metric_has_an_id_of_its_own() -> None:
    """Two of one id would be one metric; what is no metric has none."""
    ids = {name: define(name) for name in ALL}
    assert len(set(ids.values())) == len(ids)
    assert all(".v1" in each for each in ids.values())
    assert ids["rewrite_acc"] == "counterfact.rewrite.teacher-forced.v1"
    with pytest.raises(KeyError):
        define("rewrite_mood")
    assert define_all(["rewrite_acc", "seconds"]).keys() == {"rewrite_acc"}


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ({"answer_tokens": 8}, {*ANSWERED, *BENCHMARK_ANSWERED}),
        (
            {"examples": "Q: who ? A: Ada"},
            {name for name in BENCHMARK_ANSWERED if name.startswith("mquake")},
        ),
        ({"top_k": 1}, {"ngram_entropy", "reference_score"}),
        ({"max_tokens": 50}, {"ngram_entropy", "reference_score"}),
        ({"every": 3, "generated_answers": "every", "generation": True}, set()),
    ],
)
def test_a_setting_that_changes_a_metric_changes_its_id(
    setting: dict[str, object], changed: set[str]
) -> None:
    """And when something is measured changes none."""
    config = EvaluationConfig.model_validate(setting)
    assert {name for name in ALL if define(name) != define(name, config)} == changed


def test_a_case_says_how_the_figures_in_it_were_found() -> None:
    """Likelihoods are no figures: who reads them computes the metrics."""
    (case,) = evaluate_requests(tiny_model(), tiny_requests(1))
    assert define_figures(case) == {}
    post = {"rewrite_prompts_generated_exact": [True], "ngram_entropy": 3.0}
    config = EvaluationConfig(answer_tokens=8, max_tokens=50)
    assert define_figures({"post": post}, config) == {
        "rewrite_generated_exact": "wild.rewrite.generated-exact.v1.tokens-8",
        "ngram_entropy": "rome.ngram-entropy.v1.top-5.tokens-50",
    }
    post = {
        "mquake_multi_hop_questions_acc": [True],
        "qaedit_locality_questions_unchanged": [True],
    }
    assert define_figures({"post": post}, config) == {
        "mquake_multi_hop_acc": "mquake.multi-hop.generated-any.v1.tokens-8",
        "qaedit_locality_unchanged": "wild.locality.generated-unchanged.v1.tokens-8",
    }
    named = define("wikibigedit_multi_hop_acc")
    assert named == "wikibigedit.multi-hop.teacher-forced-token.v1"


def test_figures_of_one_name_have_one_definition() -> None:
    """The usual one keeps the bare name; names of like figures are left alone."""
    usual = define_all(["rewrite_generated_exact", "rewrite_acc"])
    other = usual | {"rewrite_generated_exact": "another.v2"}
    figures = {"rewrite_generated_exact": 10.0, "rewrite_acc": 20.0}
    unlike = find_unlike([usual, {}, other, usual])
    assert unlike == {"rewrite_generated_exact"}
    assert name_apart(figures, usual, unlike) == figures
    assert name_apart(figures, other, unlike) == {
        "rewrite_generated_exact.another.v2": 10.0,
        "rewrite_acc": 20.0,
    }
    assert find_unlike([other, other]) == set()
    assert name_apart(figures, other, set()) == figures
