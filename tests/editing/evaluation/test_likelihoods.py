"""Laws of likelihoods: what one token at a time shows, and no row is run twice."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editing.evaluation import likelihoods
from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_target, tokenize_text
from tests.families import SINGLE_ONLY, VARIANTS
from tests.tiny import said_by, tiny_model, tiny_model_of_tuples

ROUNDING = 1e-12
"""Relative difference that another batch may leave in float64."""

SINGLE = 1e-5
"""The same, where norms or tables of positions are in single precision."""

MODEL = tiny_model()
PROMPTS = [
    "Ada Lovelace works for",
    "the employer of Dora Stone is",
    "one day , said Ben , they found that old red map under the stairs of",
    "Hal",
]


def continuations() -> list[Continuation]:
    """Let every prompt go on with what the model says, and with what it does not."""
    texts = [
        (prompt, answer)
        for prompt in PROMPTS
        for answer in (
            said_by(MODEL, prompt, 1),
            said_by(MODEL, prompt, 3),
            "Acme Works Group",
            f"{said_by(MODEL, prompt, 1)} Oslo",
            "Lima",
        )
    ]
    return [
        Continuation(
            tokenize_text(MODEL.tokenizer, prompt),
            tokenize_target(MODEL.tokenizer, answer),
        )
        for prompt, answer in texts
    ]


def naive_likelihood(model: EditableModel, item: Continuation) -> tuple[float, bool]:
    """Read the answer's tokens one by one, each after those before."""
    ids, costs, hits = list(item.prompt.ids), [], []
    for token in item.answer:
        scores = model.model(input_ids=torch.tensor([ids])).logits[0, -1]
        costs.append(-scores.log_softmax(dim=-1)[token].item())
        hits.append(int(scores.argmax()) == token)
        ids.append(token)
    return sum(costs) / len(costs), all(hits)


def naive_predictions(model: EditableModel, item: Continuation) -> tuple[int, ...]:
    """Take the likeliest token after each beginning of the answer."""
    said = []
    for count in range(len(item.answer)):
        ids = torch.tensor([[*item.prompt.ids, *item.answer[:count]]])
        said.append(int(model.model(input_ids=ids).logits[0, -1].argmax()))
    return tuple(said)


def test_likelihoods_are_those_of_one_token_at_a_time() -> None:
    """Of one token or several, right, half right and wrong."""
    items = continuations()
    for item, found in zip(items, compute_likelihoods(MODEL, items), strict=True):
        nll, correct = naive_likelihood(MODEL, item)
        assert found.nll == pytest.approx(nll, rel=ROUNDING)
        assert found.correct == correct
        assert found.predicted == naive_predictions(MODEL, item)
        assert found.hits == tuple(map(int.__eq__, found.predicted, item.answer))
    verdicts = [found.correct for found in compute_likelihoods(MODEL, items)]
    assert verdicts == [True, True, False, False, False] * len(PROMPTS)


@settings(max_examples=8)
@given(batch_tokens=st.integers(1, 80), order=st.permutations(range(20)))
def test_no_batch_and_no_order_changes_a_likelihood(
    batch_tokens: int, order: list[int]
) -> None:
    """Padding reaches no number."""
    items = continuations()
    expected = compute_likelihoods(MODEL, items)
    found = compute_likelihoods(MODEL, [items[index] for index in order], batch_tokens)
    for ours, index in zip(found, order, strict=True):
        assert ours.nll == pytest.approx(expected[index].nll, rel=ROUNDING)
        assert ours.correct == expected[index].correct


def test_blocks_may_return_tuples() -> None:
    """The same likelihoods."""
    items = continuations()
    for ours, theirs in zip(
        compute_likelihoods(tiny_model_of_tuples(), items),
        compute_likelihoods(MODEL, items),
        strict=True,
    ):
        assert ours.nll == pytest.approx(theirs.nll, rel=ROUNDING)


def test_half_precision_scores_are_compared_in_single() -> None:
    """A likelihood of several digits, not of two."""
    model, items = tiny_model(dtype=torch.bfloat16), continuations()
    digits = [found.nll for found in compute_likelihoods(model, items)]
    assert any(torch.tensor(nll).bfloat16().item() != nll for nll in digits)


def test_progress_counts_continuations() -> None:
    """After each batch, up to all of them."""
    counts: list[int] = []
    compute_likelihoods(MODEL, continuations(), 1, counts.append)
    assert counts == sorted(set(counts))
    assert counts[-1] == len(continuations())
    assert len(counts) == 2


def count_tokens(items: list[Continuation]) -> list[int]:
    """Evaluate, and return how many tokens the model was given in each batch."""
    counts: list[int] = []

    def note(_: object, __: object, given: dict[str, torch.Tensor]) -> None:
        counts.append(given["input_ids"].numel())

    hook = MODEL.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        compute_likelihoods(MODEL, items)
    finally:
        hook.remove()
    return counts


def test_what_answers_have_in_common_is_run_once() -> None:
    """Of five answers to four tokens, only one of two and one of three add tokens."""
    prompt = tokenize_text(MODEL.tokenizer, "Ada Lovelace works for")
    answers = [(3,), (4,), (3, 4), (3, 4, 5), (6, 7)]
    items = [Continuation(prompt, answer) for answer in answers]
    assert count_tokens(items[:2]) == [4]
    assert count_tokens(items) == [4 + 2 + 1]
    assert count_tokens(items * 3) == [4 + 2 + 1]
    found = compute_likelihoods(MODEL, items * 3)
    assert found[:5] == found[5:10] == found[10:]
    for item, evaluated in zip(items, found, strict=False):
        assert evaluated.nll == pytest.approx(
            compute_likelihoods(MODEL, [item])[0].nll, rel=ROUNDING
        )


def test_the_head_reads_positions_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same result, however many go together."""
    items = continuations()
    expected = compute_likelihoods(MODEL, items)
    for size in (1, 3, 7):
        monkeypatch.setitem(likelihoods.HEAD_POSITIONS, "cpu", size)
        for ours, theirs in zip(
            compute_likelihoods(MODEL, items), expected, strict=True
        ):
            assert ours.nll == pytest.approx(theirs.nll, rel=ROUNDING)
            assert ours.predicted == theirs.predicted


def test_nothing_to_evaluate_is_evaluated() -> None:
    """A case may have no prompts of a kind."""
    assert compute_likelihoods(MODEL, []) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family_has_the_likelihoods_of_one_token_at_a_time(variant: str) -> None:
    """Though its last network runs only where answers are."""
    dtype = torch.float32 if variant in SINGLE_ONLY else torch.float64
    model, items = tiny_model(variant, dtype), continuations()[:3]
    for item, found in zip(items, compute_likelihoods(model, items), strict=True):
        nll, _ = naive_likelihood(model, item)
        assert found.nll == pytest.approx(nll, rel=SINGLE)


@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_the_last_network_runs_at_answers_alone(variant: str) -> None:
    """Of five answers to four tokens: at the last of these, and after three tokens."""
    model = tiny_model(variant)
    prompt = tokenize_text(model.tokenizer, "Ada Lovelace works for")
    answers = [(3,), (4,), (3, 4), (3, 4, 5), (6, 7)]
    counts: list[int] = []
    network = model.block(model.block_count - 1).get_submodule("mlp")
    hook = network.register_forward_hook(
        lambda _, given, __: counts.append(given[0].shape[:-1].numel())
    )
    try:
        compute_likelihoods(model, [Continuation(prompt, each) for each in answers])
    finally:
        hook.remove()
    assert counts == [1 + 3]
