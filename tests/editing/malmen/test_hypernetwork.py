"""Values are their definition, and a digest goes with all that is computed."""

from math import exp

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.statistics import pool
from editing.answers.pairs import AnswerPairs
from editing.base.errors import InputError
from editing.malmen.hypernetwork import (
    RATES,
    RIDGES,
    Hypernetwork,
    HypernetworkShape,
    check_fit,
)
from tests.hypernetworks import draw_hypernetwork
from tests.laws import ALGEBRA, assert_same, assert_same_statistics, draw_pairs

SHAPE = HypernetworkShape(layers=(0, 2), d_in=5, d_out=3, rank=2, blocks=2)
SEEDS = st.integers(0, 2**16)


def define(net: Hypernetwork, layer: int, own: AnswerPairs) -> list[list[float]]:
    """Compute values entry by entry, from the equations alone."""
    place = net.shape.layers.index(layer)
    t = {name: each.tolist() for name, each in net.tensors.items()}
    found = []
    for key, gradient in zip(own.keys.tolist(), own.gradients.tolist(), strict=True):
        x = [
            (each - mean) / scale
            for each, mean, scale in zip(
                key + gradient, t["mean"], t["scale"], strict=True
            )
        ]
        for b in range(net.shape.blocks):
            inner = []
            for row, bias in zip(t[f"{b}.down"], t[f"{b}.bias"], strict=True):
                total = bias
                for entry, each in zip(row, x, strict=True):
                    total += entry * each
                inner.append(max(total, 0.0))
            after = []
            for i, row in enumerate(t[f"{b}.up"]):
                added = 0.0
                for entry, each in zip(row, inner, strict=True):
                    added += entry * each
                scale, shift = t[f"{b}.scale"][place][i], t[f"{b}.shift"][place][i]
                after.append(x[i] + scale * added + shift)
            x = after
        along = sum(each * x[i] for i, each in enumerate(key))
        rate = exp(t[RATES][place])
        found.append([-rate * along * each for each in x[len(key) :]])
    return found


@given(seed=SEEDS)
def test_values_are_the_equations_row_by_row(seed: int) -> None:
    """Of each layer, which has scales, shifts and a rate of its own."""
    net, own = draw_hypernetwork(SHAPE, seed), AnswerPairs(*draw_pairs(4, seed))
    for layer in SHAPE.layers:
        wanted = torch.tensor(define(net, layer, own), dtype=torch.float64)
        assert_same(net.values(layer, own), wanted, ALGEBRA)


def test_the_layers_have_values_of_their_own() -> None:
    """Of the same rows."""
    net, own = draw_hypernetwork(SHAPE), AnswerPairs(*draw_pairs(4))
    assert (net.values(0, own) - net.values(2, own)).norm() > 1e-3


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=SEEDS)
def test_statistics_of_parties_add_up(sizes: list[int], seed: int) -> None:
    """However the rows are split; a party may have none."""
    net, (keys, gradients) = draw_hypernetwork(SHAPE, seed), draw_pairs(sum(sizes))
    parts = zip(keys.split(sizes), gradients.split(sizes), strict=True)
    found = [net.statistics({0: AnswerPairs(*each)})[0] for each in parts]
    whole = net.statistics({0: AnswerPairs(keys, gradients)})[0]
    assert_same_statistics(pool(found), whole)


def test_the_prior_is_the_ridge_of_the_layer() -> None:
    """``e^λ I``, in float64."""
    net = draw_hypernetwork(SHAPE)
    for layer, ridge in zip(SHAPE.layers, net.tensors[RIDGES], strict=True):
        wanted = ridge.exp() * torch.eye(5, dtype=torch.float64)
        assert_same(net.prior(layer).matrix(), wanted, 1e-12)


def test_a_digest_changes_with_any_number_and_with_the_shape() -> None:
    """And is the same for the same numbers."""
    net = draw_hypernetwork(SHAPE)
    found = {net.digest()}
    assert draw_hypernetwork(SHAPE).digest() in found
    for name, each in net.tensors.items():
        changed = each.clone()
        changed.view(-1)[-1] += 1e-9
        found.add(net.with_tensors({name: changed}).digest())
        found.add(net.with_tensors({name: each.float()}).digest())
    other = SHAPE.model_copy(update={"layers": (0, 1)})
    found.add(Hypernetwork(other, net.tensors).digest())
    assert len(found) == 2 + 2 * len(net.tensors)


@pytest.mark.parametrize(
    "widths",
    [
        {0: (3, 5)},
        {0: (3, 5), 1: (3, 5)},
        {0: (3, 5), 2: (5, 3)},
        {0: (3, 5), 2: (3, 5), 3: (3, 5)},
    ],
)
def test_one_for_other_layers_is_refused(widths: dict[int, tuple[int, int]]) -> None:
    """Fewer, others, or of another width."""
    check_fit(SHAPE, {2: (3, 5), 0: (3, 5)}, "net")
    with pytest.raises(InputError, match=r"^net: is for layers \[0, 2\].*3 wide"):
        check_fit(SHAPE, widths, "net")
