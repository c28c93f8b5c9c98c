"""Laws of loss positions: the rows of a batch and where its loss reads them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.memit.search.loss_positions import (
    LossPositions,
    build_rows,
    find_positions,
    pack_windows,
    renumber,
)
from editing.models.token_rows import TokenRow, tokenize_prompt, tokenize_target
from tests.tiny import TEMPLATES, tiny_model, tiny_requests

MODEL = tiny_model()
REQUESTS = tiny_requests()
CPU = torch.device("cpu")


def test_each_request_has_a_row_after_every_template_and_one_for_its_essence() -> None:
    """In this order; a row ends before the last token that it shall predict."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    expected = []
    for owner, request in enumerate(REQUESTS):
        answer = tokenize_target(MODEL.tokenizer, request.target_new)
        for template in TEMPLATES:
            row = tokenize_prompt(
                MODEL.tokenizer, template, request.prompt, request.subject
            )
            expected.append((row.followed_by(answer[:-1]), owner, answer))
        ids = tuple(MODEL.tokenizer(request.subject)["input_ids"])
        expected.append((TokenRow(ids, len(ids) - 1), owner, ()))
    assert list(zip(built.rows, built.owners, built.answers, strict=True)) == expected
    assert built.contexts == len(TEMPLATES)


def test_places_predict_every_token_of_every_answer() -> None:
    """A place's next token is the answer's, and a request's weights add up to 1."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    places = find_positions(built, CPU, torch.float64).rewriting
    found: dict[int, list[int]] = {}
    for row, column, token, owner in zip(
        places.rows.tolist(),
        places.columns.tolist(),
        places.tokens.tolist(),
        places.owners.tolist(),
        strict=True,
    ):
        assert built.owners[row] == owner
        text = built.rows[row]
        following = (*text.ids, built.answers[row][-1])
        assert following[text.subject + column + 1] == token
        found.setdefault(row, []).append(token)
    assert {row: tuple(each) for row, each in found.items()} == {
        row: answer for row, answer in enumerate(built.answers) if answer
    }
    totals = torch.zeros(len(REQUESTS), dtype=torch.float64)
    totals.index_add_(0, places.owners, places.weights)
    assert torch.allclose(totals, torch.ones_like(totals))


def test_weights_are_the_same_for_each_template_and_each_token_of_it() -> None:
    """The mean over prompts of the mean over tokens."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    places = find_positions(built, CPU, torch.float64).rewriting
    sizes = torch.tensor([len(built.answers[row]) for row in places.rows.tolist()])
    assert torch.allclose(places.weights, 1 / (len(TEMPLATES) * sizes.double()))


def test_the_essence_is_read_at_the_subject_once_for_each_request() -> None:
    """The window's first column."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    essence = find_positions(built, CPU, torch.float64).essence
    assert essence.owners.tolist() == list(range(len(REQUESTS)))
    assert essence.columns.tolist() == [0] * len(REQUESTS)
    assert [built.answers[row] for row in essence.rows.tolist()] == [()] * len(REQUESTS)


@settings(max_examples=20)
@given(kept=st.sets(st.integers(0, 5), min_size=1))
def test_places_among_some_requests_are_those_of_them_alone(kept: set[int]) -> None:
    """As if the others had never been there."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    owners = torch.tensor(sorted(kept))
    rows = torch.tensor([i for i, owner in enumerate(built.owners) if owner in kept])
    found = find_positions(built, CPU, torch.float64).among(rows, owners)
    alone = find_positions(
        build_rows(MODEL, [REQUESTS[i] for i in sorted(kept)], TEMPLATES),
        CPU,
        torch.float64,
    )
    for ours, theirs in (
        (found.rewriting, alone.rewriting),
        (found.essence, alone.essence),
    ):
        for name in ("rows", "columns", "tokens", "weights", "owners"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    most=st.integers(1, 60),
    slack=st.integers(0, 40),
)
def test_parts_have_every_row_once_and_keep_to_their_sizes(
    widths: list[int], most: int, slack: int
) -> None:
    """Padding is what rows are narrower than the widest of their part."""
    parts = pack_windows(widths, most, slack)
    together = [row for part in parts for row in part]
    assert sorted(together) == list(range(len(widths)))
    for part in parts:
        widest = max(widths[row] for row in part)
        assert len(part) == 1 or len(part) * widest <= most
        for width in {widths[row] for row in part}:
            count = sum(widths[row] == width for row in part)
            assert count * (widest - width) <= slack


def test_few_rows_are_one_part_and_many_are_parts_of_one_width() -> None:
    """What padding may cost is what a part costs."""
    assert pack_windows([2, 1, 3], 100, 10) == [[2, 0, 1]]
    many = pack_windows([2] * 30 + [3] * 30, 100, 10)
    assert [len(part) for part in many] == [30, 30]
    assert [len(part) for part in pack_windows([2] * 30, 30, 10)] == [15, 15]


def test_rows_of_a_template_are_found() -> None:
    """KL rows are the last group."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    *groups, essences = built.by_template()
    assert len(groups) == len(TEMPLATES)
    assert [built.owners[row] for row in essences] == list(range(len(REQUESTS)))
    assert not any(built.answers[row] for row in essences)
    for template, group in zip(TEMPLATES, groups, strict=True):
        before = MODEL.tokenizer(template.partition("{}")[0])["input_ids"]
        for row in group:
            assert list(built.rows[row].ids[: len(before)]) == before


def test_positions_of_parts_below_one_another_are_those_of_all_rows() -> None:
    """Rows are counted on; owners stay."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    cut = len(TEMPLATES) + 3
    numbers = range(len(built.rows))
    parts = [
        find_positions(built.among(part), CPU, torch.float64)
        for part in (numbers[:cut], numbers[cut:])
    ]
    joined = LossPositions.joined(parts, [cut, len(numbers) - cut])
    whole = find_positions(built, CPU, torch.float64)
    for ours, theirs in (
        (joined.rewriting, whole.rewriting),
        (joined.essence, whole.essence),
    ):
        for name in ("rows", "columns", "tokens", "weights", "owners"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_some_rows_keep_their_owners_and_answers() -> None:
    """And can be read, whether they are KL rows or not."""
    built = build_rows(MODEL, REQUESTS, TEMPLATES)
    some = built.among([9, 4, 2])
    assert some.rows == [built.rows[9], built.rows[4], built.rows[2]]
    assert some.owners == [1, 0, 0]
    assert some.answers == [(), (), built.answers[2]]
    essence = find_positions(built.among([9, 4]), CPU, torch.float64)
    assert essence.essence.owners.tolist() == [1, 0]
    assert len(essence.rewriting.rows) == len(essence.rewriting.weights) == 0


def test_picking_takes_rows_and_columns() -> None:
    """The definition."""
    places = find_positions(build_rows(MODEL, REQUESTS, TEMPLATES), CPU, torch.float64)
    states = torch.randn(len(REQUESTS) * (len(TEMPLATES) + 1), 20, 2)
    picked = places.rewriting.pick(states)
    for state, row, column in zip(
        picked, places.rewriting.rows, places.rewriting.columns, strict=True
    ):
        assert torch.equal(state, states[row, column])


@given(
    kept=st.lists(st.integers(0, 9), min_size=1, unique=True),
    old=st.lists(st.integers(0, 9), min_size=1),
)
def test_renumbering_gives_the_place_among_the_kept(
    kept: list[int], old: list[int]
) -> None:
    """Or −1 for what was not kept."""
    expected = [kept.index(number) if number in kept else -1 for number in old]
    assert renumber(torch.tensor(kept), torch.tensor(old)).tolist() == expected


def test_a_row_must_fit_with_its_answer() -> None:
    """Not only its prompt: 61 + 1 + 2 tokens fit, and one more does not."""
    request = REQUESTS[0].model_copy(
        update={"prompt": "the " * 60 + "{} for", "subject": "Ada"}
    )
    build_rows(MODEL, [request.model_copy(update={"target_new": "Acme Inc"})], ["{}"])
    with pytest.raises(InputError, match=r"Request 10: .* 65 tokens .* reads 64"):
        build_rows(MODEL, [request.model_copy(update={"target_new": "a b c"})], ["{}"])
