"""Duplicate and conflicting requests are found by tokens, and resolutions validated."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import RecordDict
from flwr.common.serde import message_to_proto

from clients.resolutions import (
    apply_resolutions,
    blind_requests,
    check_resolutions,
    find_key,
)
from clients.selection import Asked
from clients.settings import ClientConfig
from clients.storage import PrivateFolder
from editing.base.errors import InputError
from strategies.conflicts.blind_tokens import blind, keep_key, make_key, read_key
from strategies.conflicts.records import Resolution, read_tokens, write_resolutions
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.scenario import ModelConfig
from strategies.wire.messages import Phase, read_statistics, read_targets_reply
from tests.clients.nodes import ask, job_of
from tests.federation import (
    Federation,
    world_requests,
)

Make = Callable[..., Federation]
KEY = bytes(range(32))
ASKED = [
    Asked(party, 1, place, world_requests()[2 * party + place])
    for party in (0, 2)
    for place in (0, 1)
]
CONFIG = ClientConfig(
    model=ModelConfig(), requests=RequestsConfig(), parties=PartiesConfig(), party=0
)


def resolution_on(index: int, *, kept: bool, key: bytes = KEY) -> Resolution:
    """Rule on one of the requests."""
    asked = ASKED[index]
    return Resolution(
        round=asked.round,
        party=asked.party,
        place=asked.place,
        fact=blind(asked.request, key).fact,
        reason="conflict",
        kept=kept,
    )


def test_each_request_has_a_token_that_says_whose_and_which_it_is() -> None:
    """In the order of the requests."""
    found = blind_requests(ASKED, KEY)
    assert [(each.party, each.place) for each in found] == [
        (each.party, each.place) for each in ASKED
    ]
    for entry, asked in zip(found, ASKED, strict=True):
        token = blind(asked.request, KEY)
        assert (entry.fact, entry.target) == (token.fact, token.target)
    other = blind_requests(ASKED, make_key())
    assert not {each.fact for each in found} & {each.fact for each in other}


def test_what_is_ruled_out_is_left_out() -> None:
    """A duplicate that is kept is edited, unless a resolution says otherwise."""
    resolutions = [
        resolution_on(0, kept=True),
        resolution_on(1, kept=False),
        resolution_on(2, kept=True),
        resolution_on(2, kept=False),
    ]
    check_resolutions(ASKED, resolutions, KEY)
    assert apply_resolutions(ASKED, resolutions) == [ASKED[0], ASKED[3]]
    assert apply_resolutions(ASKED, []) == ASKED


def test_a_resolution_is_on_the_request_of_its_own_round() -> None:
    """What an earlier round edited may be contradicted by this one's."""
    later = [replace(each, round=each.round + 1) for each in ASKED]
    earlier = [resolution_on(0, kept=False)]
    check_resolutions([*ASKED, *later], earlier, KEY)
    assert apply_resolutions(later, earlier) == later
    with pytest.raises(InputError, match="another one there or none"):
        check_resolutions(later, earlier, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"party": 1},
        {"place": 2},
        {"place": 1},
        {"round": 7},
        {"fact": "0" * 32},
    ],
    ids=str,
)
def test_a_resolution_on_another_request_is_refused(change: dict[str, object]) -> None:
    """Kept or not: server and party do not speak of the same requests."""
    for kept in (True, False):
        resolution = resolution_on(0, kept=kept).model_copy(update=change)
        with pytest.raises(InputError, match="another one there or none"):
            check_resolutions(ASKED, [resolution], KEY)


def test_a_resolution_made_with_another_key_is_refused() -> None:
    """The message shows neither key nor request."""
    resolution = resolution_on(0, kept=False, key=make_key())
    with pytest.raises(InputError) as caught:
        check_resolutions(ASKED, [resolution], KEY)
    assert ASKED[0].request.subject not in str(caught.value)
    assert KEY.hex() not in str(caught.value)


def test_a_simulation_s_parties_have_one_key_next_to_their_runs(tmp_path: Path) -> None:
    """The first makes it, and later runs keep it."""
    runs = [PrivateFolder(tmp_path / "home" / run) for run in ("1", "2")]
    first, second = (find_key(CONFIG, run) for run in runs)
    assert first == second
    assert (tmp_path / "home" / "group.key").is_file()
    elsewhere = PrivateFolder(tmp_path / "other" / "1")
    assert find_key(CONFIG, elsewhere) != first


@pytest.mark.parametrize("own", [None, Path("/mine.json")])
def test_a_node_takes_the_key_that_it_was_given(
    tmp_path: Path, own: Path | None
) -> None:
    """Wherever its requests come from."""
    file = tmp_path / "shared.key"
    file.write_text(KEY.hex() + "\n")
    config = CONFIG.model_copy(update={"key": file, "own_requests": own})
    assert find_key(config, PrivateFolder(tmp_path / "home" / "1")) == KEY
    assert not (tmp_path / "home").exists()


def test_a_party_with_its_own_requests_does_not_make_up_a_key(tmp_path: Path) -> None:
    """It would be no other party's, and nothing would ever meet."""
    config = CONFIG.model_copy(update={"own_requests": Path("/mine.json")})
    with pytest.raises(InputError, match="key-path"):
        find_key(config, PrivateFolder(tmp_path / "home" / "1"))
    assert list(tmp_path.iterdir()) == []


def test_a_node_sends_the_tokens_of_its_requests_and_no_more(federate: Make) -> None:
    """The key is the parties' own and never on the wire."""
    federation = federate()
    reply = ask(federation, Phase.TOKENS, job_of(federation))
    key = read_key(federation.private / "group.key")
    own = federation.requests_of_parties(1)[1]
    tokens = [blind(each, key) for each in own]
    assert [
        (each.party, each.place, each.fact, each.target)
        for each in read_tokens(reply.content)
    ] == [(1, i, token.fact, token.target) for i, token in enumerate(tokens)]
    sent = message_to_proto(reply).SerializeToString()
    assert key not in sent
    assert key.hex().encode() not in sent


def ruled(federation: Federation, place: int, *, kept: bool) -> RecordDict:
    """Write the first round's job, which resolves a request of the second party."""
    key = keep_key(federation.private / "group.key")
    request = federation.requests_of_parties(1)[1][place]
    content = job_of(federation)
    content["resolutions"] = write_resolutions(
        [
            Resolution(
                round=1,
                party=1,
                place=place,
                fact=blind(request, key).fact,
                reason="conflict",
                kept=kept,
            )
        ]
    )
    return content


def test_what_is_ruled_out_is_left_out_of_targets_statistics_and_memory(
    federate: Make,
) -> None:
    """And the party reads in its folder which request it was."""
    federation = federate()
    out = ruled(federation, 0, kept=False)
    reply = read_targets_reply(ask(federation, Phase.TARGETS, out).content)
    assert (reply.requests, reply.left_out) == (1, 1)
    for phase in (Phase.STATISTICS, Phase.MEMORY):
        sent = read_statistics(ask(federation, phase, out).content, 1, 1)
        assert sent.count == 1
    (file,) = federation.private.rglob("resolutions.jsonl")
    case_id = federation.requests_of_parties(1)[1][0].case_id
    assert json.loads(file.read_text())["case_id"] == case_id
    kept = ruled(federation, 1, kept=True)
    found = read_targets_reply(ask(federation, Phase.TARGETS, kept).content)
    assert (found.requests, found.left_out) == (2, 0)
    # The round has begun again, and what it said before is not true any more.
    (line,) = map(json.loads, file.read_text().splitlines())
    case_id = federation.requests_of_parties(1)[1][1].case_id
    assert (line["case_id"], line["kept"]) == (case_id, True)
