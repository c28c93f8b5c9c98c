"""Question answering: one prediction for each token of an answer.

MEMIT's evaluation of zsRE asks for each token of an answer, given those before it,
whether it is the most likely one, and takes the share of right ones. Tokens are put
after the prompt as numbers; a tokenizer's BOS stands before the prompt and never
inside or before an answer.
"""

from collections.abc import Mapping, Sequence

from editing.evaluation.likelihoods import Likelihood
from editing.evaluation.metrics import KINDS
from editing.requests.edit_request import EditRequest
from editing.requests.forms.benchmarks import TEACHER_FORCED

QUESTIONS = ("locality", "portability", *TEACHER_FORCED)
"""The kinds of questions with answers of their own that are read token by token."""

Predicted = Mapping[str, tuple[int, ...]]
"""By question, the tokens that a model predicts in the place of its first answer."""


def asks_questions(request: EditRequest) -> bool:
    """Whether single tokens are counted: in zsRE and KnowEdit, not in CounterFact."""
    return bool(request.target_true is None or request.locality or request.portability)


def hits_of(likelihoods: Sequence[Likelihood]) -> list[bool]:
    """Whether each token is right, of that answer of several that is most right."""
    best = max(likelihoods, key=lambda each: sum(each.hits) / len(each.hits))
    return list(best.hits)


def same_tokens(before: Sequence[int], after: Sequence[int]) -> list[bool]:
    """Whether two models predict the same, token for token."""
    return [old == new for old, new in zip(before, after, strict=True)]


def question_metrics(post: Mapping[str, object]) -> dict[str, float]:
    """Reduce a case's tokens to shares: inside a prompt first, then over prompts.

    ``rewrite_token_acc``, ``paraphrase_token_acc`` and ``neighborhood_token_acc`` are
    of prompts with the request's objects, ``locality_acc`` and ``portability_acc`` of
    questions with answers of their own, as are those of a benchmark's own questions,
    such as ``wikibigedit_multi_hop_acc``. ``locality_unchanged`` is the share of tokens
    that the unedited model predicted too.
    """
    fields = {
        **{f"{kind}_token_acc": f"{kind}_prompts_token_correct" for kind in KINDS},
        **{f"{kind}_acc": f"{kind}_questions_correct" for kind in QUESTIONS},
        "locality_unchanged": "locality_questions_unchanged",
    }
    metrics = {}
    for name, field in fields.items():
        prompts = post.get(field)
        if prompts:
            assert isinstance(prompts, list)
            metrics[name] = sum(sum(p) / len(p) for p in prompts) / len(prompts)
    return metrics
