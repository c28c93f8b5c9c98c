"""Values and updates against their definition, and pooled = union over rounds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.statistics import pool
from editing.answers.moments import ByShape, pool_moments, sum_moments
from editing.answers.pairs import AnswerPairs
from editing.answers.rule import Given
from editing.answers.standardised import EPSILON, StandardisedRule
from tests.laws import D_IN, D_OUT, assert_same, draw_pairs

RULES = {
    "ultraedit": StandardisedRule(learning_rate=0.3, ridge=1.5),
    "stableedit": StandardisedRule(learning_rate=0.3, ridge=1.5, floor=1e-6),
}


def draw(rows: int, seed: int) -> dict[int, AnswerPairs]:
    """Draw keys and gradients of two layers of one shape."""
    return {layer: AnswerPairs(*draw_pairs(rows, 7 * seed + layer)) for layer in (0, 1)}


def naive_delta(
    rule: StandardisedRule, rounds: list[dict[int, AnswerPairs]], layer: int
) -> Tensor:
    """Edit with the last of some rounds, all rows in one place."""
    keys = torch.cat([own.keys for each in rounds for own in each.values()])
    gradients = torch.cat([own.gradients for each in rounds for own in each.values()])
    own = rounds[-1][layer]
    k = (own.keys - keys.mean(dim=0)) / (keys.std(dim=0) + EPSILON)
    g = own.gradients - gradients.mean(dim=0)
    if rule.floor is not None and len(keys) > D_OUT + 1:
        centred = gradients - gradients.mean(dim=0)
        scales, axes = torch.linalg.eigh(centred.mT @ centred / (len(keys) - D_OUT - 1))
        g = g @ axes @ torch.diag(scales.clamp(min=rule.floor) ** -0.5) @ axes.mT
    else:
        g = g / (gradients.std(dim=0) + EPSILON)
    values = -rule.learning_rate * k.norm(dim=1, keepdim=True) ** 2 * g
    gram = own.keys.mT @ own.keys + rule.ridge * torch.eye(D_IN, dtype=torch.float64)
    delta: Tensor = values.mT @ own.keys @ torch.linalg.inv(gram)
    return delta


@pytest.mark.parametrize("editor", RULES)
@given(
    sizes=st.lists(
        st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(
            lambda n: sum(n) > 1
        ),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 2**12),
)
def test_what_parties_pool_is_what_one_machine_solves(
    editor: str, sizes: list[list[int]], seed: int
) -> None:
    """Any split in each of several rounds; an empty party sends zeros."""
    rule = RULES[editor]
    moments: ByShape = {}
    rounds: list[dict[int, AnswerPairs]] = []
    for number, parties in enumerate(sizes):
        whole = draw(sum(parties), seed + 31 * number)
        rounds.append(whole)
        parts = [
            {k: AnswerPairs(*each) for k, each in layers.items()}
            for layers in (
                {k: rows[place] for k, rows in _split(whole, parties).items()}
                for place in range(len(parties))
            )
        ]
        own = [sum_moments(part, products=rule.whitens) for part in parts]
        moments = pool_moments([moments, *own])
        sent = [rule.statistics(part, Given(moments)) for part in parts]
        for layer in whole:
            found = rule.solve(layer, pool([each[layer] for each in sent]))
            assert_same(found, naive_delta(rule, rounds, layer))


def _split(
    pairs: dict[int, AnswerPairs], sizes: list[int]
) -> dict[int, list[tuple[Tensor, Tensor]]]:
    return {
        k: list(zip(each.keys.split(sizes), each.gradients.split(sizes), strict=True))
        for k, each in pairs.items()
    }


def test_one_row_changes_nothing() -> None:
    """It does not vary, so it is 0 where the published program divides by 0."""
    for rule in RULES.values():
        pairs = {0: AnswerPairs(*draw_pairs(1))}
        moments = sum_moments(pairs, products=rule.whitens)
        assert rule.values(pairs, Given(moments))[0].count_nonzero() == 0


def test_a_scale_of_the_loss_changes_nothing() -> None:
    """A mean over tokens gives what a sum gives, up to what is added to deviations."""
    rule, pairs = RULES["ultraedit"], draw(9, 3)
    scaled = {k: AnswerPairs(own.keys, own.gradients / 7) for k, own in pairs.items()}
    for layer in pairs:
        first, second = (
            rule.values(each, Given(sum_moments(each)))[layer]
            for each in (pairs, scaled)
        )
        assert_same(first, second, 1e-5)


@given(rows=st.integers(1, 9), seed=st.integers(0, 2**12))
def test_no_value_is_longer_than_any_can_be(rows: int, seed: int) -> None:
    """A server that knows the number of rows alone refuses no honest party."""
    pairs = draw(rows, seed)
    pairs[0].gradients[0] *= 1e6
    for rule in RULES.values():
        moments = sum_moments(pairs, products=rule.whitens)
        longest = rule.longest((D_OUT, D_IN), moments[D_OUT, D_IN].count)
        for values in rule.values(pairs, Given(moments)).values():
            assert float(values.norm(dim=1).max()) <= longest
