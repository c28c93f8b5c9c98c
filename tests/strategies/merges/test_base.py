"""Laws of the context that merges are called with."""

from itertools import combinations

import pytest
import torch

from editing.base.errors import InputError
from strategies.merges.base import NOWHERE, MergeContext
from tests.laws import draw_parties


def draws(context: MergeContext, party: int | None = None) -> list[float]:
    """Draw a few numbers."""
    drawn: list[float] = torch.rand(4, generator=context.generator(party)).tolist()
    return drawn


def test_each_layer_round_seed_and_party_draws_its_own_numbers() -> None:
    """And the same ones again, whoever else is there."""
    places = [
        (NOWHERE, None),
        (MergeContext(layer=1), None),
        (MergeContext(round=2), None),
        (MergeContext(seed=1), None),
        (NOWHERE, 0),
        (NOWHERE, 1),
        (MergeContext(layer=1), 1),
    ]
    drawn = [draws(*place) for place in places]
    assert drawn == [draws(*place) for place in places]
    assert all(one != other for one, other in combinations(drawn, 2))
    assert draws(MergeContext(parties=(1, 5)), 1) == draws(NOWHERE, 1)


def test_outside_a_run_parties_are_numbered_by_their_places() -> None:
    """In a run, by their numbers, which need not begin at 0."""
    parties = draw_parties([1, 2])
    assert NOWHERE.number(parties) == (0, 1)
    assert MergeContext(parties=(4, 7)).number(parties) == (4, 7)


def test_a_weight_that_is_not_known_is_an_error_of_its_own() -> None:
    """It says which merge wants it, and where it comes from."""
    weight = torch.eye(2)
    assert MergeContext(weight=weight).require_weight("karcher") is weight
    with pytest.raises(
        InputError, match=r"`karcher` merges whole weights.*weight=\.\.\."
    ):
        NOWHERE.require_weight("karcher")
