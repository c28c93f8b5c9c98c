"""A message is about the requests of a round, each known by party, round and place."""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from clients.own_requests import requests_of_round
from clients.selection import asked_in, asked_until, group_by_party
from clients.settings import ClientConfig, read_client_config
from editing.base.errors import InputError
from editing.requests.paraphrases import phrase
from strategies.scenario import FlatValue
from tests.federation import settings_of, write_json

Configure = Callable[..., ClientConfig]


@pytest.fixture
def configure(world: Path) -> Configure:
    """Read the settings of the second party's node."""

    def read(**tables: Mapping[str, FlatValue]) -> ClientConfig:
        context = Context(
            run_id=1,
            node_id=2,
            node_config={"partition-id": 1},
            state=RecordDict(),
            run_config=settings_of(world, **tables),
        )
        return read_client_config(context)

    return read


@pytest.mark.parametrize("pooled", [False, True])
def test_requests_are_asked_in_the_order_of_parties_and_places(
    configure: Configure, pooled: bool
) -> None:
    """A pool keeps saying whose they are."""
    config = configure()
    by_party = requests_of_round(config, 2, pooled=pooled)
    asked = asked_in(config, 2, pooled=pooled)
    assert {each.party for each in asked} == ({0, 1, 2} if pooled else {1})
    assert [each.round for each in asked] == [2] * len(asked)
    assert [(each.party, each.place, each.request) for each in asked] == [
        (party, place, request)
        for party in sorted(by_party)
        for place, request in enumerate(by_party[party])
    ]


def test_all_rounds_so_far_are_evaluated_and_the_first_before_any_edit(
    configure: Configure,
) -> None:
    """Round after round."""
    config = configure()
    first, second = (asked_in(config, number, pooled=False) for number in (1, 2))
    found = [asked_until(config, number, pooled=False) for number in (0, 1, 2)]
    assert found == [first, first, first + second]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_group_is_a_party_s_requests_each_before_its_phrasings(
    configure: Configure, count: int
) -> None:
    """The rows say where a request and its phrasings are."""
    config = configure(requests={"phrasings": count})
    groups = group_by_party(asked_in(config, 1, pooled=True), config.requests)
    assert [{each.party for each in group.asked} for group in groups] == [{0}, {1}, {2}]
    for group in groups:
        expected = [phrase(each.request, count) for each in group.asked]
        assert list(map(list, group.phrased)) == expected
        assert group.requests == list(chain.from_iterable(expected))
        for each, rows, phrasings in zip(
            group.asked, group.rows, expected, strict=True
        ):
            assert [group.requests[row] for row in rows] == phrasings
            assert group.requests[rows[0]] == each.request
    assert any(len(each) > 1 for each in groups[0].phrased) == (count > 0)


def test_a_pool_makes_the_groups_that_the_parties_make(configure: Configure) -> None:
    """So that it computes the same bits."""
    config = configure()
    pooled = group_by_party(asked_in(config, 1, pooled=True), config.requests)
    alone = [
        group_by_party(asked_in(each, 1, pooled=False), config.requests)
        for each in (config.model_copy(update={"party": i}) for i in range(3))
    ]
    assert pooled == list(chain.from_iterable(alone))


def test_phrasings_come_from_the_templates_that_are_named(
    configure: Configure, tmp_path: Path
) -> None:
    """And a broken file is no reason to fail where none are wanted."""
    file = write_json(tmp_path / "templates.json", {"*": ["they said that {} is"]})
    for count, expected in ((1, "they said that {} is"), (0, None)):
        named = {"phrasings": count, "templates": str(file)}
        config = configure(requests=named)
        (group,) = group_by_party(asked_in(config, 1, pooled=False), config.requests)
        further = [each.prompt for own in group.phrased for each in own[1:]]
        assert further == [expected] * 2 * count
    missing = configure(requests={"phrasings": 1, "templates": "/no/file"})
    with pytest.raises(InputError, match="/no/file"):
        group_by_party(asked_in(missing, 1, pooled=False), missing.requests)
    unused = configure(requests={"templates": "/no/file"})
    assert group_by_party(asked_in(unused, 1, pooled=False), unused.requests)
