"""Requests drawn once, divided evenly, and drawn as a line a merge."""

import pandas as pd
import pytest

from editing.base.errors import InputError
from sims.studies.curves.lines import (
    METRICS,
    divide,
    draw_requests,
    merges_of,
    score_table,
)
from sims.studies.curves.scale import Scale
from strategies.methods import GLOBAL
from tests.sims.studies.made_up import configure, make_pool


def test_requests_are_about_distinct_subjects_and_follow_the_seed() -> None:
    """Too few subjects are named."""
    pool = make_pool(9)
    drawn = draw_requests(pool, 9, 3)
    assert len({request.subject for request in drawn}) == 9
    assert drawn == draw_requests(pool, 9, 3) != draw_requests(pool, 9, 4)
    with pytest.raises(InputError, match=r"wants 10 requests .* has 9 subjects"):
        draw_requests(pool, 10, 3)


@pytest.mark.parametrize("parties", [1, 2, 5, 7, 9])
def test_parties_have_equal_shares_to_one_request(parties: int) -> None:
    """All requests are there, in their order."""
    requests = draw_requests(make_pool(7), 7, 0)
    shares = divide(requests, parties)
    sizes = [len(own) for own in shares]
    assert len(sizes) == parties
    assert max(sizes) - min(sizes) <= 1
    assert [request for own in shares for request in own] == requests


def test_merges_are_those_of_a_comparison() -> None:
    """With the scenario's own, and `global` last where it is wanted."""
    config = configure(Scale(), "merge.name=dare")
    with_global = merges_of(config, with_global=True)
    assert with_global[-1] == GLOBAL
    assert "dare" in with_global
    assert merges_of(config, with_global=False) == with_global[:-1]


def test_the_table_has_the_mean_score_over_seeds() -> None:
    """A row a merge, a column a number, in the order in which they were run."""
    rows = [
        {"seed": seed, "merge": merge, "edits": edits, "score": edits + 2 * seed + more}
        for merge, more in (("ties", 0), ("collabedit", 50))
        for edits in (5, 10)
        for seed in (0, 1)
    ]
    frame = pd.DataFrame(rows).assign(**dict.fromkeys(METRICS[1:], 0.0))
    table = score_table(frame, "edits")
    assert list(table.index) == ["ties", "collabedit"]
    assert table["Score at 5"].tolist() == [6, 56]
    assert table["Score at 10"].tolist() == [11, 61]
