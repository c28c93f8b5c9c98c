"""What is summed as vectors is what would be added up otherwise."""

from functools import reduce
from operator import add

import numpy as np
import pytest
import torch

from editing.algebra.second_moments import TextMoment
from editing.algebra.statistics import LayerStatistics, NormBounds, StatisticsError
from editing.base.errors import InputError
from editing.evaluation.metrics import MetricSums
from strategies.secure.fixed_point import LEAST_BITS, Reals
from strategies.secure.records import Form, MaskedRequest
from strategies.secure.vectors import (
    LayerShape,
    Pairs,
    pack_count,
    pack_layer,
    pack_metrics,
    pack_moments,
    pack_summary,
    to_count,
    unpack_layer,
    unpack_metrics,
    unpack_moments,
    unpack_summary,
)
from strategies.wire.messages import TargetsReply
from strategies.wire.metrics import EvaluationSums
from tests.laws import assert_same
from tests.summing import session_of

SHAPE = LayerShape(3, d_in=5, d_out=4)
SECRET = b"r" * 32
ROUNDING = 1e-12


def request_of(form: Form, capacities: tuple[int, ...] = (3, 2, 4)) -> MaskedRequest:
    """Ask three parties for one layer."""
    return MaskedRequest(
        session=session_of(),
        sum="targets",
        members=(0, 2, 5),
        capacities=capacities,
        forms={3: form},
    )


def pairs_of(edits: int) -> Pairs:
    """Draw a party's keys and residuals."""
    draw = torch.Generator().manual_seed(edits)
    both = torch.randn(edits, 9, dtype=torch.float64, generator=draw)
    return both[:, :5], both[:, 5:]


def total(parts: list[dict[str, Reals]]) -> dict[str, Reals]:
    """Add vectors up."""
    return {name: sum(part[name] for part in parts) for name in parts[0]}  # type: ignore[misc]


@pytest.mark.parametrize("form", ["rows", "dense"])
def test_layers_add_up_to_the_pooled_statistics(form: Form) -> None:
    """A party without an edit sends zeros of the same size."""
    request = request_of(form)
    hands = {0: pairs_of(3), 2: None, 5: pairs_of(2)}
    parts = [pack_layer(own, SHAPE, request, n, SECRET) for n, own in hands.items()]
    sizes = [{name: each.shape for name, each in part.items()} for part in parts]
    lengths = SHAPE.lengths(form, request.rows)
    assert sizes == [{name: (size,) for name, size in lengths.items()}] * 3
    assert not any(each.any() for each in parts[1].values())
    found = unpack_layer(total(parts), SHAPE, form, request.rows, 5)
    held = [own for own in hands.values() if own is not None]
    plain = reduce(add, (LayerStatistics.of_pairs(*own) for own in held))
    assert_same(found.gram, plain.gram, ROUNDING)
    assert_same(found.cross, plain.cross, ROUNDING)
    assert found.count == plain.count


def test_a_party_with_more_edits_than_its_rows_says_so() -> None:
    """Its rows would be another party's."""
    request = request_of("rows", (1, 2, 4))
    with pytest.raises(InputError, match="3 edits in the round, and 1 are the most"):
        pack_layer(pairs_of(3), SHAPE, request, 0, SECRET)


def test_the_smaller_form_is_chosen_unless_triangles_are_asked_for() -> None:
    """Rows have 9 numbers each; triangles 15, and 20 more."""
    tight, loose = NormBounds(10.0, 3.0), NormBounds(1e5, 1e5)
    assert SHAPE.choose_form(3.0, "factors", tight) == "rows"
    assert SHAPE.choose_form(3.0, "dense", tight) == "dense"
    assert SHAPE.choose_form(4.0, "factors", tight) == "dense"
    assert SHAPE.choose_form(4.0, "factors", loose) == "rows"  # triangles take two
    assert SHAPE.choose_form(float("inf"), "factors", tight) == "dense"


@pytest.mark.parametrize("form", ["rows", "dense"])
def test_bits_are_such_that_no_honest_sum_wraps_around(form: Form) -> None:
    """The longest keys and residuals in one direction fit; a looser bound has fewer."""
    bounds = NormBounds(10.0, 3.0)
    bits = SHAPE.bits(form, 9.0, bounds)
    keys, residuals = torch.zeros(9, 5), torch.zeros(9, 4)
    keys[:, 0], residuals[:, 0] = 10.0, 3.0
    request = MaskedRequest(
        session=session_of(), sum="x", members=(0,), capacities=(9,), forms={3: form}
    )
    vectors = pack_layer((keys, residuals), SHAPE, request, 0, SECRET)
    assert bits.keys() == vectors.keys()
    for name, values in vectors.items():
        assert np.abs(values).max() * 2.0 ** bits[name] <= 2.0**62
        assert bits[name] >= LEAST_BITS
    assert SHAPE.bits(form, 9.0, NormBounds()) == {}
    assert SHAPE.bits(form, 9.0, NormBounds(1e300, 1e300)) == {}
    loose = SHAPE.bits(form, 9.0, NormBounds(1e3, 3e2))
    assert all(loose[name] < bits[name] for name in loose)


def test_summaries_and_counts_add_up() -> None:
    """Numbers stay whole."""
    replies = [
        TargetsReply(
            requests=n, known=1, left_out=2, residual_norm=n / 3, residual_ratio=0.1
        )
        for n in range(4)
    ]
    parts = [pack_summary(reply, 2 * reply.requests) for reply in replies]
    found = unpack_summary(total(parts))
    assert (found.requests, found.known, found.left_out) == (6, 4, 8)
    assert found.residual_norm == pytest.approx(2.0)
    assert found.residual_ratio == pytest.approx(0.4)
    assert to_count(total(parts)["count"][0]) == 12
    assert parts[3]["count"].tolist() == pack_count(6)["count"].tolist()


@pytest.mark.parametrize("value", [0.5, -1.0, float("nan"), float("inf")])
def test_a_count_that_is_none_is_refused(value: float) -> None:
    """Whoever sent what made it so."""
    with pytest.raises(StatisticsError, match="which none can be"):
        to_count(value)


def test_metrics_add_up_by_round() -> None:
    """What nobody measured is not there."""
    one = EvaluationSums(
        {
            1: MetricSums({"rewrite_acc": 1.5}, {"rewrite_acc": 2}),
            3: MetricSums({"target_loss": 0.25}, {"target_loss": 1}),
        }
    )
    two = EvaluationSums({1: MetricSums({"rewrite_acc": 1.0}, {"rewrite_acc": 1})})
    parts = [pack_metrics(each, 3) for each in (one, two, EvaluationSums())]
    found = unpack_metrics(total(parts))
    assert found == one + two
    assert len({part["metrics"].shape for part in parts}) == 1
    assert unpack_metrics(pack_metrics(EvaluationSums(), 0)) == EvaluationSums()


def test_text_moments_add_up() -> None:
    """One whose products are in float32 is enough to say so."""
    widths = {3: 5, 4: 2}
    moments = []
    for tokens in (7, 4):
        draw = torch.Generator().manual_seed(tokens)
        made = {}
        for layer, width in widths.items():
            keys = torch.randn(tokens, width, dtype=torch.float64, generator=draw)
            made[layer] = TextMoment(keys.mT @ keys, tokens, single=tokens == 4)
        moments.append(made)
    parts = [pack_moments(each, widths) for each in (*moments, {})]
    found = unpack_moments(total(parts), widths)
    for layer in widths:
        plain = moments[0][layer] + moments[1][layer]
        assert_same(found[layer].total, plain.total, ROUNDING)
        assert (found[layer].tokens, found[layer].single) == (11, True)
    assert unpack_moments(pack_moments({}, widths), widths) == {}
