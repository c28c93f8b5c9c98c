"""Laws of the encodings: the same statistics, and nothing but them."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.encodings import (
    EncodedStatistics,
    Encoding,
    decode,
    draw_rotation,
    encode,
    encoding_for,
)
from editing.algebra.second_moments import write_triangle
from editing.algebra.statistics import LayerStatistics, NormBounds, StatisticsError
from tests.laws import (
    ALGEBRA,
    D_IN,
    D_OUT,
    assert_same,
    assert_same_statistics,
    draw_pairs,
)

SEEDS = st.integers(0, 2**16)
DOUBLES: tuple[Encoding, ...] = ("factors", "dense")
ENCODINGS = st.sampled_from(DOUBLES)


def seeded(seed: int) -> torch.Generator:
    """Make randomness that repeats."""
    return torch.Generator().manual_seed(seed)


def send(encoding: Encoding = "factors", edits: int = 3) -> EncodedStatistics:
    """Encode a few random edits."""
    return encode(*draw_pairs(edits), encoding, seeded(0))


def count_bytes(sent: EncodedStatistics) -> int:
    """Measure what travels, names aside."""
    return sum(tensor.nbytes for tensor in sent.tensors.values())


@given(encoding=ENCODINGS, edits=st.integers(1, 12), seed=SEEDS)
def test_decoding_gives_the_statistics(
    encoding: Encoding, edits: int, seed: int
) -> None:
    """One edit, as many as the keys are wide, and more."""
    keys, residuals = draw_pairs(edits, seed)
    received = decode(encode(keys, residuals, encoding, seeded(seed)), D_IN, D_OUT)
    assert_same_statistics(received, LayerStatistics.of_pairs(keys, residuals))


@given(encoding=ENCODINGS, repeats=st.integers(2, 4), seed=SEEDS)
def test_repeated_requests_decode_to_the_statistics(
    encoding: Encoding, repeats: int, seed: int
) -> None:
    """The same key with different residuals: the count is of edits, not of rows."""
    keys = draw_pairs(2, seed)[0].repeat(repeats, 1)
    residuals = draw_pairs(2 * repeats, seed)[1]
    sent = encode(keys, residuals, encoding, seeded(seed))
    expected = LayerStatistics.of_pairs(keys, residuals)
    assert_same_statistics(decode(sent, D_IN, D_OUT), expected)
    if encoding == "factors":
        assert len(sent.tensors["keys"]) == len(sent.tensors["residuals"]) == 2


@pytest.mark.parametrize("gap", [1.0, 1e-3, 1e-5, 1e-7, 1e-10, 1e-13, 1e-17, 0.0])
@pytest.mark.parametrize("edits", [2, 4, 7])
def test_the_rank_is_that_of_the_singular_values(gap: float, edits: int) -> None:
    """Two keys grow alike; they count as two while more than rounding differs."""
    keys, residuals = draw_pairs(edits, 3)
    keys[1] = keys[0] + gap * keys[1]
    sent = encode(keys, residuals, "factors", seeded(0))
    scale = torch.linalg.svdvals(keys)
    floor = torch.finfo(keys.dtype).eps * max(keys.shape) * scale.max()
    assert len(sent.tensors["keys"]) == int((scale > floor).sum())
    expected = LayerStatistics.of_pairs(keys, residuals)
    assert_same_statistics(decode(sent, D_IN, D_OUT), expected)


def test_no_more_rows_travel_than_the_keys_are_wide() -> None:
    """Whatever the number of edits."""
    sent = send(edits=12)
    assert sent.tensors["keys"].shape == (D_IN, D_IN)
    assert sent.count == 12


def test_keys_of_zero_travel() -> None:
    """The rank may be nothing at all."""
    keys, residuals = torch.zeros(2, D_IN), torch.ones(2, D_OUT)
    received = decode(encode(keys, residuals, "factors", seeded(0)), D_IN, D_OUT)
    assert_same_statistics(received, LayerStatistics.of_pairs(keys, residuals))


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_no_edits_are_not_sent(encoding: Encoding) -> None:
    """A party without requests has nothing to say."""
    with pytest.raises(StatisticsError, match="count of 0"):
        send(encoding, 0)


@given(edits=st.integers(1, 9))
def test_factors_are_smaller_than_dense_while_edits_are_few(edits: int) -> None:
    """Fewer than ``d_in (d_in / 2 + d_out) / (d_in + d_out)``."""
    factors, dense = (
        count_bytes(send("factors", edits)),
        count_bytes(send("dense", edits)),
    )
    even = D_IN * ((D_IN + 1) / 2 + D_OUT) / (D_IN + D_OUT)
    assert (factors < dense) == (min(edits, D_IN) < even)


@given(edits=st.integers(1, 12), seed=SEEDS)
def test_single_factors_are_half_as_large_and_off_by_their_rounding(
    edits: int, seed: int
) -> None:
    """Computed in double all the same; those of a float64 model stay so."""
    keys, residuals = draw_pairs(edits, seed)
    whole, single = (
        encode(keys, residuals, encoding, seeded(seed))
        for encoding in ("factors", "factors-float32")
    )
    assert count_bytes(whole) == 2 * count_bytes(single)
    for name, rows in whole.tensors.items():
        assert torch.equal(single.tensors[name], rows.float())
    expected = LayerStatistics.of_pairs(keys, residuals)
    received = decode(single, D_IN, D_OUT)
    assert_same(received.gram, expected.gram, 1e-6)


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_a_double_model_has_double_factors(encoding: Encoding) -> None:
    """Nothing of its precision is lost."""
    assert encoding_for(encoding, torch.float32) == encoding
    single = encoding == "factors-float32"
    double = encoding_for(encoding, torch.float64)
    assert double == ("factors" if single else encoding)


def test_half_precision_keys_have_single_precision_factors() -> None:
    """A rotation mixes rows, so that they no longer are numbers of bfloat16."""
    keys, residuals = (side.bfloat16() for side in draw_pairs(3))
    sent = encode(keys, residuals, "factors-float32", seeded(0))
    assert {each.dtype for each in sent.tensors.values()} == {torch.float32}


def test_bytes_are_those_of_the_tensors() -> None:
    """Float64 rows of both widths, or half of a matrix and a whole one."""
    assert count_bytes(send("factors", 3)) == 8 * 3 * (D_IN + D_OUT)
    triangle = D_IN * (D_IN + 1) // 2
    assert count_bytes(send("dense", 3)) == 8 * (triangle + D_IN * D_OUT)


def unrotated(keys: Tensor, residuals: Tensor) -> Tensor:
    """Undo the rotation, as only the party could, and align the signs of the rows."""
    sent = encode(keys, residuals, "factors", seeded(3))
    rows = torch.cat([sent.tensors["keys"], sent.tensors["residuals"]], dim=1)
    rows = draw_rotation(len(rows), seeded(3)).mT @ rows
    return rows * rows[:, :1].sign()


@given(edits=st.integers(1, 8), repeats=st.integers(1, 2), seed=SEEDS)
def test_factors_hold_nothing_but_the_statistics(
    edits: int, repeats: int, seed: int
) -> None:
    """Apart from the rotation they are a function of gram and cross alone.

    The other batch has the same gram and cross and shares no row: it is turned, and its
    residuals differ where no combination of the keys' columns reaches.
    """
    keys, residuals = draw_pairs(edits, seed)
    keys = keys.repeat(repeats, 1)
    residuals = draw_pairs(len(keys), seed)[1]
    turn = draw_rotation(len(keys), seeded(seed))
    noise = draw_pairs(len(keys), seed + 1)[1]
    unseen = noise - keys @ torch.linalg.pinv(keys) @ noise
    other = unrotated(turn @ keys, turn @ (residuals + unseen))
    assert_same(other, unrotated(keys, residuals), 1e-6)


def test_factors_hide_the_rows() -> None:
    """No key and no residual of an edit is among what travels."""
    keys, residuals = draw_pairs(3)
    sent = encode(keys, residuals, "factors", seeded(0))
    for name, rows in (("keys", keys), ("residuals", residuals)):
        gaps = torch.cdist(sent.tensors[name], rows)
        assert gaps.min() > 0.1
    assert torch.cdist(keys, keys).diagonal().max() < 0.1


@pytest.mark.parametrize("source", ["seed", "system"])
def test_rotations_are_orthogonal_and_favour_no_direction(source: str) -> None:
    """Haar: entries and trace have mean 0, squares of entries have mean 1/rank."""
    generator = seeded(0) if source == "seed" else None
    draws = torch.stack([draw_rotation(3, generator) for _ in range(4000)])
    eye = torch.eye(3, dtype=torch.float64).expand_as(draws)
    assert_same(draws.mT @ draws, eye)
    five_sigma = 5 / len(draws) ** 0.5
    assert draws.mean(dim=0).abs().max() < five_sigma * 3**-0.5
    assert (draws.square().mean(dim=0) - 1 / 3).abs().max() < five_sigma * 0.3
    traces = draws.diagonal(dim1=1, dim2=2).sum(dim=1)
    assert traces.mean().abs() < five_sigma
    assert (traces.square().mean() - 1).abs() < five_sigma * 2**0.5


def test_a_seed_repeats_and_the_system_does_not() -> None:
    """A simulation runs again bit for bit; a deployment never."""
    assert torch.equal(draw_rotation(4, seeded(7)), draw_rotation(4, seeded(7)))
    assert not torch.allclose(draw_rotation(4, seeded(7)), draw_rotation(4, seeded(8)))
    torch.manual_seed(0)
    first = draw_rotation(4)
    torch.manual_seed(0)
    assert not torch.allclose(first, draw_rotation(4))


def corrupted(
    encoding: Encoding, count: int = 3, **tensors: Tensor
) -> EncodedStatistics:
    """Encode three edits and replace what a test is about."""
    sent = send(encoding)
    return EncodedStatistics(encoding, {**sent.tensors, **tensors}, count)


NOT_A_NUMBER = torch.full((3, D_IN), torch.nan, dtype=torch.float64)
NEGATIVE = write_triangle(-torch.eye(D_IN, dtype=torch.float64))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (corrupted("factors", keys=NOT_A_NUMBER), "`keys` must be finite"),
        (
            corrupted("factors", residuals=NOT_A_NUMBER[:, :D_OUT]),
            "`residuals` must be fin",
        ),
        (corrupted("factors", keys=torch.zeros(3, 4)), r"`keys` of shape \(3, 5\)"),
        (
            corrupted("factors", residuals=torch.zeros(2, 3)),
            r"`residuals` of shape \(3, 3",
        ),
        (corrupted("factors", keys=torch.zeros(5)), "`keys` of shape"),
        (corrupted("factors", keys=torch.tensor(1.0)), "`keys` of shape"),
        (corrupted("factors", count=0), "count of 0"),
        (
            corrupted("factors", count=2),
            "Factors of 2 edits have at most 2 rows, got 3",
        ),
        (corrupted("dense", gram=torch.eye(5)), r"`gram` of shape \(1, 15\)"),
        (corrupted("dense", cross=NOT_A_NUMBER), "`cross` must be finite"),
        (corrupted("dense", gram=NEGATIVE), "no negative eigenvalue"),
        (corrupted("dense", count=-1), "count of -1"),
        (corrupted("dense", gram=0 * NEGATIVE), "the same edits as `gram`"),
        (
            EncodedStatistics("dense", send("factors").tensors, 3),
            "`gram`, got only 'keys, residuals'",
        ),
        (
            EncodedStatistics("dense", {"a\nb" * 99: torch.zeros(1)}, 3),
            r"got only 'a\\nba.{,80}\.$",
        ),
        (EncodedStatistics("zip\n" * 999, {}, 3), r"wanted, got 'zip\\nzip.{,80}\. "),
        (
            corrupted("dense", cross=torch.full((3, 5), 1e200, dtype=torch.float64)),
            "residuals of norm inf",
        ),
        (EncodedStatistics("factors", {}, 3), "`keys`, got only nothing"),
        (
            EncodedStatistics("zip", send().tensors, 3),
            "factors or dense were wanted.*'zip'",
        ),
    ],
)
def test_what_no_edits_can_have_is_refused(
    sent: EncodedStatistics, message: str
) -> None:
    """Before any arithmetic, with the reason."""
    with pytest.raises(StatisticsError, match=message):
        decode(sent, D_IN, D_OUT)


@pytest.mark.parametrize("encoding", get_args(Encoding))
@pytest.mark.parametrize(
    ("bounds", "named"),
    [(NormBounds(key=1e-3), "max-key-ratio"), (NormBounds(residual=1e-3), "residuals")],
)
def test_bounds_hold_in_every_encoding(
    encoding: Encoding, bounds: NormBounds, named: str
) -> None:
    """What travels is another thing than what it says."""
    sent = send(encoding)
    assert decode(sent, D_IN, D_OUT, NormBounds(1e3, 1e3)).count == 3
    with pytest.raises(StatisticsError, match=named):
        decode(sent, D_IN, D_OUT, bounds)


@pytest.mark.parametrize("encoding", DOUBLES)
def test_single_precision_pairs_are_encoded_in_double(encoding: Encoding) -> None:
    """One cast at the border, so that the merge stays exact to `ALGEBRA`."""
    keys, residuals = (side.float() for side in draw_pairs(3))
    sent = encode(keys, residuals, encoding, seeded(0))
    assert {tensor.dtype for tensor in sent.tensors.values()} == {torch.float64}
    expected = LayerStatistics.of_pairs(keys.double(), residuals.double())
    gap = decode(sent, D_IN, D_OUT).gram - expected.gram
    assert gap.norm() <= ALGEBRA * expected.gram.norm()
