"""Second moments add, and are read from the wire as they were written."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.second_moments import (
    FACTOR,
    MOST_TOKENS,
    TRIANGLE,
    MomentBounds,
    TextMoment,
    read_moment,
    read_triangle,
    triangle_width,
    write_moment,
    write_triangle,
)
from editing.algebra.statistics import StatisticsError
from tests.laws import assert_same, draw_pairs

WIDTH = 12
SEEDS = st.integers(0, 2**16)


def keys_of(tokens: int, seed: int = 0) -> Tensor:
    """Draw the keys of a text."""
    return draw_pairs(tokens, seed, d_in=WIDTH)[0]


def moment_of(keys: Tensor) -> TextMoment:
    """Sum key by key: the definition."""
    total = torch.zeros(keys.shape[1], keys.shape[1], dtype=torch.float64)
    for key in keys:
        total += torch.outer(key, key)
    return TextMoment(total, len(keys))


@given(cuts=st.sets(st.integers(1, 29)), seed=SEEDS)
def test_moments_of_any_split_add_up_to_those_of_the_whole(
    cuts: set[int], seed: int
) -> None:
    """In every field, and over the wire: `C₀ = Σ Sⱼ / Σ nⱼ` is the mean over all."""
    keys = keys_of(30, seed)
    parts = torch.tensor_split(keys, sorted(cuts))
    moments = [moment_of(part) for part in parts]
    sent = [read_moment(write_moment(each), each.tokens, WIDTH) for each in moments]
    for given_ in (moments, sent):
        total = given_[0]
        for each in given_[1:]:
            total = total + each
        assert total.tokens == 30
        assert_same(total.total, keys.mT @ keys)
        assert given_ is moments or torch.equal(total.total, total.total.mT)
        assert_same(total.mean(), keys.mT @ keys / 30)


def test_one_moment_in_single_precision_makes_the_sum_one() -> None:
    """The rounding of a sum is that of its worst part."""
    exact, rough = moment_of(keys_of(3)), replace(moment_of(keys_of(4)), single=True)
    assert not (exact + exact).single
    assert (exact + rough).single
    assert (rough + exact).single


@pytest.mark.parametrize("single", [False, True])
def test_a_moment_may_be_as_far_from_semidefinite_as_its_products_are_rough(
    single: bool,
) -> None:
    """A rank-deficient one always is, a little; beyond its rounding it is refused."""
    thin = moment_of(torch.cat([keys_of(8), torch.zeros(20, WIDTH)])).total
    rounding = 1e-4 if single else 1e-9
    eye = torch.eye(WIDTH, dtype=torch.float64) * rounding * thin.norm()
    near, far = thin - 0.9 * eye, thin - 1.2 * eye
    found = read_moment({TRIANGLE: write_triangle(near)}, 28, WIDTH, single=single)
    assert torch.equal(found.total, near)
    assert found.single == single
    with pytest.raises(StatisticsError, match="negative eigenvalue"):
        read_moment({TRIANGLE: write_triangle(far)}, 28, WIDTH, single=single)


def test_moments_of_other_widths_do_not_add() -> None:
    """The error asks for the model."""
    wide = TextMoment(torch.eye(WIDTH, dtype=torch.float64), 3)
    narrow = TextMoment(torch.eye(2, dtype=torch.float64), 3)
    with pytest.raises(StatisticsError, match="same base model"):
        wide + narrow


@pytest.mark.parametrize("tokens", [1, 3, 6, 7, 11, 12, 40])
def test_the_smaller_form_is_written(tokens: int) -> None:
    """A factor has a row a token, and half the matrix is as large as half the width."""
    moment = moment_of(keys_of(tokens))
    ((name, sent),) = write_moment(moment).items()
    assert sent.dtype == torch.float64
    assert name == (FACTOR if tokens <= 6 else TRIANGLE)
    assert sent.numel() == min(tokens * WIDTH, WIDTH * (WIDTH + 1) // 2)
    assert_same(read_moment({name: sent}, tokens, WIDTH).total, moment.total)


def test_a_factor_has_the_rank_of_the_keys() -> None:
    """The same token five times is one row; a text of zero keys has none."""
    same = moment_of(keys_of(1).expand(5, WIDTH))
    (factor,) = write_moment(same).values()
    assert factor.shape == (1, WIDTH)
    assert_same(read_moment({FACTOR: factor}, 5, WIDTH).total, same.total)
    nothing = moment_of(torch.zeros(2, WIDTH, dtype=torch.float64))
    (factor,) = write_moment(nothing).values()
    assert factor.shape == (0, WIDTH)
    assert torch.equal(read_moment({FACTOR: factor}, 2, WIDTH).total, nothing.total)


def test_a_factor_depends_on_the_moment_alone() -> None:
    """Other keys of the same moment give the same rows, up to their signs."""
    keys = keys_of(4)
    turned = torch.linalg.qr(draw_pairs(4, seed=9, d_in=4)[0]).Q @ keys
    (ours,), (theirs,) = (
        write_moment(moment_of(each)).values() for each in (keys, turned)
    )
    assert_same(ours.abs(), theirs.abs())


@given(seed=SEEDS, width=st.integers(1, 9))
def test_half_a_symmetric_matrix_is_all_of_it(seed: int, width: int) -> None:
    """Bit for bit."""
    keys = draw_pairs(5, seed, d_in=width)[0]
    matrix = keys.mT @ keys
    matrix = (matrix + matrix.mT) / 2
    triangle = write_triangle(matrix)
    assert triangle.numel() == width * (width + 1) // 2
    assert triangle_width(triangle) == width
    assert torch.equal(read_triangle(triangle, width), matrix)


HONEST = moment_of(keys_of(20)).total


@pytest.mark.parametrize(
    ("tensors", "tokens", "reason"),
    [
        ({TRIANGLE: write_triangle(HONEST)}, 0, "at least one token"),
        ({TRIANGLE: write_triangle(HONEST)}, -3, "at least one token"),
        ({}, 20, "got 0 tensors"),
        ({"gram": HONEST}, 20, "got 1 tensors"),
        ({TRIANGLE: write_triangle(HONEST), FACTOR: keys_of(3)}, 20, "got 2 tensors"),
        ({TRIANGLE: HONEST}, 20, "of shape"),
        ({TRIANGLE: write_triangle(HONEST)[1:]}, 20, "of shape"),
        ({TRIANGLE: torch.tensor(1.0)}, 20, "of shape"),
        ({TRIANGLE: write_triangle(HONEST) * float("nan")}, 20, "finite"),
        ({TRIANGLE: write_triangle(-HONEST)}, 20, "negative eigenvalue"),
        ({FACTOR: keys_of(5)[:, 1:]}, 5, "of shape"),
        ({FACTOR: torch.tensor(1.0)}, 5, "of shape"),
        ({FACTOR: keys_of(5)}, 4, "at most 4 rows"),
        ({FACTOR: keys_of(5) / 0}, 5, "finite"),
        ({FACTOR: keys_of(5) * 1e200}, 5, "finite"),
    ],
)
def test_what_no_text_can_have_is_refused(
    tensors: dict[str, Tensor], tokens: int, reason: str
) -> None:
    """Before it is added to anything."""
    with pytest.raises(StatisticsError, match=reason):
        read_moment(tensors, tokens, WIDTH)


@pytest.mark.parametrize("half", [torch.float32, torch.float16])
def test_a_moment_in_a_narrower_type_is_read_in_float64(half: torch.dtype) -> None:
    """A client of another making may send it."""
    keys = keys_of(5).to(half)
    found = read_moment({FACTOR: keys}, 5, WIDTH)
    assert found.total.dtype == torch.float64
    assert_same(found.total, keys.double().mT @ keys.double())


@pytest.mark.parametrize("tokens", [3, 40])
def test_the_mean_of_a_moment_is_held_to_its_bounds(tokens: int) -> None:
    """In both forms: the mean of ``‖k‖²``, a key at a time, and nothing else."""
    keys = keys_of(tokens)
    mean = sum(float(key @ key) for key in keys) / tokens
    sent = write_moment(moment_of(keys))
    for near in (MomentBounds(0.99 * mean, 1.01 * mean), MomentBounds(), None):
        assert read_moment(sent, tokens, WIDTH, bounds=near).tokens == tokens
    for far in (MomentBounds(1.01 * mean), MomentBounds(most=0.99 * mean)):
        with pytest.raises(StatisticsError, match=r"run\.max-key-ratio"):
            read_moment(sent, tokens, WIDTH, bounds=far)


@pytest.mark.parametrize("tokens", [0, -1, MOST_TOKENS + 1, 10**15])
def test_no_text_has_so_many_tokens(tokens: int) -> None:
    """The mean over them would be nothing, or anything."""
    sent = write_moment(moment_of(keys_of(40)))
    assert read_moment(sent, MOST_TOKENS, WIDTH).tokens == MOST_TOKENS
    with pytest.raises(StatisticsError, match="at least one token"):
        read_moment(sent, tokens, WIDTH)
