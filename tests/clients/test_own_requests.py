"""A party's requests are its own file's, or its share of a common source."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clients.own_requests import requests_of_round, shared_requests
from clients.settings import ClientConfig
from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest, to_counterfact
from strategies.partitioning.settings import PartiesConfig
from tests.federation import world_requests, write_json

Node = dict[str, str | int | float | bool]


def test_simulated_parties_take_their_share_of_the_common_source(
    configure: Callable[..., ClientConfig],
) -> None:
    """The second of three parties has requests 2 and 3, then 8 and 9."""
    config, pool = configure(), world_requests()
    assert requests_of_round(config, 1, pooled=False) == {1: pool[2:4]}
    assert requests_of_round(config, 2, pooled=False) == {1: pool[8:10]}
    everybody = {0: pool[:2], 1: pool[2:4], 2: pool[4:6]}
    assert requests_of_round(config, 1, pooled=True) == everybody


def test_a_node_beyond_the_parties_has_no_requests(
    configure: Callable[..., ClientConfig],
) -> None:
    """A federation may have more nodes than the run has parties."""
    config = configure({"partition-id": 3})
    assert requests_of_round(config, 1, pooled=False) == {3: []}


def test_a_node_without_a_place_does_not_take_another_party_s_requests(
    configure: Callable[..., ClientConfig],
) -> None:
    """The error says what to set."""
    with pytest.raises(InputError, match="requests-path"):
        requests_of_round(configure({}), 1, pooled=False)


def own_file(folder: Path, count: int) -> tuple[str, list[EditRequest]]:
    """Write a file of one party's requests."""
    mine = world_requests()[:count]
    file = write_json(folder / "mine.json", [to_counterfact(each) for each in mine])
    return str(file), mine


def test_a_party_with_a_file_of_its_own_takes_its_requests_in_turn(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """Until there are no more; then it takes part in nothing."""
    path, mine = own_file(tmp_path, 5)
    config = configure({"requests-path": path})
    shares = [requests_of_round(config, n, pooled=False) for n in (1, 2, 3, 4)]
    assert shares == [{-1: mine[:2]}, {-1: mine[2:4]}, {-1: mine[4:]}, {-1: []}]
    limited = configure({"requests-path": path}, requests={"limit": 3})
    assert requests_of_round(limited, 2, pooled=False) == {-1: mine[2:3]}


def test_sizes_for_each_party_need_a_place_among_them(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """Else a node would take the last party's number."""
    path, mine = own_file(tmp_path, 5)
    sizes = {"requests-per-round": "[1, 3, 2]"}
    placed = configure({"requests-path": path, "partition-id": 1}, parties=sizes)
    assert requests_of_round(placed, 1, pooled=False) == {1: mine[:3]}
    for node in ({}, {"partition-id": 3}):
        lost = configure({"requests-path": path, **node}, parties=sizes)
        with pytest.raises(InputError, match="partition-id"):
            requests_of_round(lost, 1, pooled=False)


def test_sizes_for_each_round_hold_for_a_file_of_its_own(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """The last sizes are those of all later rounds."""
    path, mine = own_file(tmp_path, 9)
    config = configure(
        {"requests-path": path, "partition-id": 1},
        parties={
            "requests-per-round": "[[1, 2, 1], [1, 0, 1], [1, 3, 1]]",
            "allow-empty": True,
        },
    )
    found = [requests_of_round(config, n, pooled=False) for n in (1, 2, 3, 4)]
    assert found == [{1: mine[:2]}, {1: []}, {1: mine[2:5]}, {1: mine[5:8]}]


def test_nobody_hands_a_private_file_to_the_pool(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """`global` needs all requests in one place, and these stay where they are."""
    config = configure({"requests-path": own_file(tmp_path, 5)[0]})
    with pytest.raises(InputError, match="global"):
        requests_of_round(config, 1, pooled=True)


def test_the_embedded_word_draws_from_the_pool_next_to_the_model(
    configure: Callable[..., ClientConfig], world: Path
) -> None:
    """A seed draws another order; a file that is named is taken as it stands."""
    config = configure()
    parties = PartiesConfig(count=3, requests_per_round=2)
    drawn = [
        shared_requests(
            config.model,
            config.requests.model_copy(update={"source": "embedded", "seed": seed}),
            parties,
        )
        for seed in (0, 1)
    ]
    pool = world_requests()
    assert drawn[0] != drawn[1]
    for each in drawn:
        assert sorted(r.case_id for r in each) == [r.case_id for r in pool]
    assert config.requests.source == str(world / "requests.json")
    assert shared_requests(config.model, config.requests, parties) == pool


def test_two_requests_on_one_subject_are_both_edited(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """Nothing of a user's file is left out in silence, whatever it is called."""
    first = world_requests()[0]
    twice = [first, first.model_copy(update={"case_id": 7, "target_new": "drum"})]
    file = write_json(tmp_path / "requests.json", [to_counterfact(r) for r in twice])
    config = configure(
        requests={"source": str(file)}, parties={"count": 2, "requests-per-round": 1}
    )
    found = [
        requests_of_round(config.model_copy(update={"party": i}), 1, pooled=False)
        for i in (0, 1)
    ]
    assert found == [{0: [twice[0]]}, {1: [twice[1]]}]


SPLITS = ("contiguous", "shuffled", "relation", "dirichlet")


@pytest.mark.parametrize("split", SPLITS)
def test_more_rounds_change_none_of_the_first(
    configure: Callable[..., ClientConfig], split: str
) -> None:
    """A run that is gone on with asks for what it asked for before."""
    parties = {"split": split, "requests-per-round": 1, "alpha": 0.3}
    short, long = (
        configure(parties=parties, run={"rounds": rounds}) for rounds in (1, 4)
    )
    rounds = [requests_of_round(long, n, pooled=True) for n in (4, 3, 2, 1)]
    assert requests_of_round(short, 1, pooled=True) == rounds[-1]
    numbers = [each.case_id for own in rounds for r in own.values() for each in r]
    assert len(set(numbers)) == len(numbers) == 12


@pytest.mark.parametrize("split", SPLITS)
def test_the_pool_holds_what_the_parties_hold(
    configure: Callable[..., ClientConfig], tmp_path: Path, split: str
) -> None:
    """Planted requests included, in the order of the parties."""
    names = [{"target_new": f"name {n}"} for n in range(12)]
    pool = [
        r.model_copy(update=n) for r, n in zip(world_requests(), names, strict=True)
    ]
    file = write_json(tmp_path / "pool.json", [to_counterfact(each) for each in pool])
    parties = {"split": split, "overlap": 1, "planted-conflicts": 0.5}
    pooled, *nodes = (
        configure(node, parties=parties, requests={"source": str(file)})
        for node in (None, *({"partition-id": party} for party in range(3)))
    )
    alone = {
        node.party: requests_of_round(node, 2, pooled=False)[node.party]
        for node in nodes
    }
    assert requests_of_round(pooled, 2, pooled=True) == alone
    assert [len(own) for own in alone.values()] == [4, 4, 4]


def test_an_overlap_of_one_request_is_not_one_of_all(
    configure: Callable[..., ClientConfig],
) -> None:
    """Though 1 and 1.0 are equal, and one process may make runs with either."""
    parties = {"count": 2, "requests-per-round": 3}
    for overlap, expected in ((1, 4), (1.0, 6), (1, 4)):
        config = configure(parties={**parties, "overlap": overlap})
        found = requests_of_round(config, 1, pooled=True)
        assert {party: len(own) for party, own in found.items()} == {
            0: expected,
            1: expected,
        }


def test_what_is_planted_counts_as_part_of_a_round_of_a_party_s_own_file(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """Its previous party gives it two requests a round, or one where it has but two."""
    path, mine = own_file(tmp_path, 12)
    plain = configure({"requests-path": path}, parties={"overlap": 0.5})
    assert requests_of_round(plain, 2, pooled=False) == {-1: mine[3:6]}
    sizes = {"requests-per-round": "[[4, 1, 2], [2, 1, 2]]", "overlap": 0.5}
    placed = configure({"requests-path": path, "partition-id": 1}, parties=sizes)
    found = [requests_of_round(placed, n, pooled=False)[1] for n in (1, 2)]
    assert found == [mine[:3], mine[3:5]]


ZSRE = {
    "subject": "Ada Quill",
    "src": "Where did Ada Quill study?",
    "answers": ["Lund"],
    "alt": "Kiel",
}


@pytest.mark.parametrize(("target", "wanted"), [("answers", "Lund"), ("alt", "Kiel")])
def test_the_run_says_what_is_edited_in_of_zsre(
    configure: Callable[..., ClientConfig], tmp_path: Path, target: str, wanted: str
) -> None:
    """Of a common source and of a party's own file, in any container."""
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    file = write_json(folder / "test.json", [ZSRE])
    for source in (str(file), f"hub:{folder}"):
        settings = {"source": source, "zsre-target": target}
        parties = {"count": 1, "requests-per-round": 1}
        config = configure(requests=settings, parties=parties)
        config = config.model_copy(update={"party": 0})
        shared = requests_of_round(config, 1, pooled=False)
        own = config.model_copy(update={"own_requests": Path(source)})
        for found in (shared, requests_of_round(own, 1, pooled=False)):
            assert [each.target_new for each in found[0]] == [wanted]


def test_nothing_after_the_limit_is_read(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """Of a common source and of a party's own file; what lies there may be broken."""
    records = [to_counterfact(each) for each in world_requests()[:2]]
    file = write_json(tmp_path / "mine.json", [*records, {"no": "request"}])
    parties = {"count": 1, "requests-per-round": 2}
    settings = {"source": str(file), "limit": 2}
    config = configure(requests=settings, parties=parties)
    config = config.model_copy(update={"party": 0})
    for own in (None, file):
        limited = config.model_copy(update={"own_requests": own})
        found = requests_of_round(limited, 1, pooled=False)
        assert found == {0: world_requests()[:2]}


def test_named_records_of_the_common_source_are_left_out(
    configure: Callable[..., ClientConfig], tmp_path: Path
) -> None:
    """A party's own file has other numbers, so that its node refuses."""
    records = [to_counterfact(each) for each in world_requests()[:7]]
    records[2] = {**records[2], "case_id": ["bad"]}
    file = write_json(tmp_path / "some.json", records)
    settings = {"source": str(file), "skip": "[3]"}
    parties = {"requests-per-round": 2, "count": 3}
    config = configure({"partition-id": 1}, requests=settings, parties=parties)
    assert config.requests.skip == (3,)
    (mine,) = requests_of_round(config, 1, pooled=False).values()
    assert [each.case_id for each in mine] == [
        records[3]["case_id"],
        records[4]["case_id"],
    ]
    own = configure({"requests-path": str(file)}, requests={"skip": "[3]"})
    with pytest.raises(InputError, match="numbers the records of one"):
        requests_of_round(own, 1, pooled=False)
