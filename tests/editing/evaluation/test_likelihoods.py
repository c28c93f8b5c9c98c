"""Laws of likelihoods: what one token at a time shows, and no row is run twice."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editing.evaluation import likelihoods
from editing.evaluation.likelihoods import (
    Continuation,
    compute_likelihoods,
    share_rows,
    split_by_tokens,
)
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_target, tokenize_text
from tests.tiny import said_by, tiny_model, tiny_model_of_tuples

ROUNDING = 1e-12
"""Relative difference that another batch may leave in float64."""

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
@given(batch_size=st.integers(1, 21), order=st.permutations(range(20)))
def test_no_batch_and_no_order_changes_a_likelihood(
    batch_size: int, order: list[int]
) -> None:
    """Padding reaches no number."""
    items = continuations()
    expected = compute_likelihoods(MODEL, items)
    found = compute_likelihoods(MODEL, [items[index] for index in order], batch_size)
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
    """After each batch of rows, up to all of them."""
    counts: list[int] = []
    compute_likelihoods(MODEL, continuations(), 3, counts.append)
    assert counts == sorted(set(counts))
    assert counts[-1] == len(continuations())
    assert len(counts) == 3


def count_rows(items: list[Continuation]) -> list[int]:
    """Evaluate, and return the lengths of the rows that the model was given."""
    lengths: list[int] = []

    def note(_: object, __: object, given: dict[str, torch.Tensor]) -> None:
        lengths.extend(given["attention_mask"].sum(dim=1).tolist())

    hook = MODEL.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        compute_likelihoods(MODEL, items)
    finally:
        hook.remove()
    return sorted(lengths)


def test_what_answers_have_in_common_is_run_once() -> None:
    """Of five answers to four tokens, those of one token need no row of their own."""
    prompt = tokenize_text(MODEL.tokenizer, "Ada Lovelace works for")
    answers = [(3,), (4,), (3, 4), (3, 4, 5), (6, 7)]
    items = [Continuation(prompt, answer) for answer in answers]
    assert count_rows(items[:2]) == [4]
    assert count_rows(items) == [5, 6]
    assert count_rows(items * 3) == [5, 6]
    found = compute_likelihoods(MODEL, items * 3)
    assert found[:5] == found[5:10] == found[10:]
    for item, evaluated in zip(items, found, strict=False):
        assert evaluated.nll == pytest.approx(
            compute_likelihoods(MODEL, [item])[0].nll, rel=ROUNDING
        )


ROWS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), max_size=12
)


@given(rows=ROWS)
def test_kept_rows_are_those_that_no_other_begins_with(
    rows: list[tuple[int, ...]],
) -> None:
    """And each row gets the place of one that begins with it."""
    kept, hosts = share_rows(rows)
    distinct = set(rows)
    assert len(kept) == len(set(kept))
    assert set(kept) == {
        row
        for row in distinct
        if not any(o != row and o[: len(row)] == row for o in distinct)
    }
    for row, host in zip(rows, hosts, strict=True):
        assert kept[host][: len(row)] == row


@given(
    lengths=st.lists(st.integers(1, 9), max_size=20).map(sorted),
    size=st.integers(1, 6),
    budget=st.integers(1, 30),
)
def test_batches_hold_every_row_once_and_fit(
    lengths: list[int], size: int, budget: int
) -> None:
    """In rows and in tokens, unless one row alone is longer; none could be larger."""
    batches = list(split_by_tokens(lengths, size, budget))
    assert [i for start, stop in batches for i in range(start, stop)] == list(
        range(len(lengths))
    )
    for start, stop in batches:
        rows, width = stop - start, lengths[stop - 1]
        assert rows == 1 or (rows <= size and rows * width <= budget)
        if stop < len(lengths) and rows < size:
            assert (rows + 1) * lengths[stop] > budget


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
