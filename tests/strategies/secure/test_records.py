"""Messages of secure sums come back as they were written, or are refused."""

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from editing.algebra.statistics import StatisticsError
from strategies.secure.records import (
    MaskedRequest,
    MembersRequest,
    UnmaskRequest,
    name_question,
    read_keys,
    read_masked,
    read_masked_request,
    read_members,
    read_session,
    read_shares,
    read_unmask,
    read_unmask_request,
    threshold_of,
    write_keys,
    write_masked,
    write_masked_request,
    write_members,
    write_session,
    write_shares,
    write_unmask,
    write_unmask_request,
)
from strategies.wire.messages import Job, ProtocolError, write_job
from tests.strategies.transport import JOB
from tests.summing import Sum, session_of

SESSION = session_of()
REQUEST = MaskedRequest(
    session=SESSION,
    sum="targets",
    members=(0, 2, 5),
    capacities=(3, 2, 4),
    forms={3: "rows"},
    bits={"3.keys": 40},
)


def asking(job: Job) -> RecordDict:
    """Write a question without updates."""
    return write_job(job, ArrayRecord())


def test_everything_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """In both directions."""
    one = Sum(tmp_path, [0, 1, 2])
    one.ask_keys()
    assert read_session(write_session(SESSION)) == SESSION
    assert read_keys(write_keys(one.keys[1]), SESSION) == one.keys[1]
    members = MembersRequest(session=SESSION, members=tuple(one.keys.values()))
    assert read_members(write_members(members)) == members
    shares = {"targets": {0: b"a", 2: b"b"}, "metrics": {0: b"c", 2: b"d"}}
    assert read_shares(write_shares(shares), SESSION.sums, [0, 2]) == shares
    content = asking(JOB)
    request = REQUEST.model_copy(update={"question": name_question(content)})
    content["secure"] = write_masked_request(request)
    assert read_masked_request(content) == request
    assert read_masked_request(asking(JOB)) is None
    words = {"count": np.array([2**64 - 1, 0], np.uint64)}
    found = read_masked(write_masked(words), {"count": 2})
    assert found["count"].tolist() == words["count"].tolist()
    unmask = UnmaskRequest(
        session=SESSION, sum="targets", survivors=(0, 2), senders=(2, 5)
    )
    sealed = {2: b"x", 5: b"y"}
    assert read_unmask_request(write_unmask_request(unmask, sealed)) == (unmask, sealed)
    assert read_unmask(write_unmask({0: b"s", 2: b"k"}), [0, 2]) == {0: b"s", 2: b"k"}


@pytest.mark.parametrize(
    "other",
    [
        write_job(JOB.asking(2, (3,)), ArrayRecord()),
        write_job(JOB, ArrayRecord({"weight": Array(np.ones(2))})),
        write_job(JOB, ArrayRecord(), prior=ArrayRecord({"3": Array(np.ones(2))})),
    ],
    ids=["job", "model", "prior"],
)
def test_a_sum_is_asked_for_with_its_own_job_and_model(other: RecordDict) -> None:
    """Masks are bound to them, so what a party reads is what it is masked for."""
    request = REQUEST.model_copy(update={"question": name_question(asking(JOB))})
    other["secure"] = write_masked_request(request)
    with pytest.raises(ProtocolError, match="another job or model"):
        read_masked_request(other)
    one, two = request, REQUEST.model_copy(update={"question": name_question(other)})
    assert len({each.digest for each in (one, two, REQUEST)}) == 3


def test_each_member_has_rows_of_its_own() -> None:
    """One after another, in the order of the members."""
    assert [REQUEST.place_of(n) for n in REQUEST.members] == [
        slice(0, 3),
        slice(3, 5),
        slice(5, 9),
    ]
    assert REQUEST.rows == 9


def test_the_threshold_is_more_than_two_in_three() -> None:
    """So two sets of as many have a third in common; all can reach it."""
    for parties in range(3, 101):
        threshold = threshold_of(parties)
        assert parties >= threshold > 2 * parties / 3
        assert 2 * threshold - parties > parties / 3


@pytest.mark.parametrize(
    "content", [RecordDict(), RecordDict({"secure": ConfigRecord({"text": "{}"})})]
)
def test_what_the_server_does_not_ask_is_of_another_protocol(
    content: RecordDict,
) -> None:
    """Versions differ, or somebody plays."""
    for read in (read_session, read_members, read_unmask_request):
        with pytest.raises(ProtocolError, match="same version"):
            read(content)


def test_replies_without_what_was_asked_for_are_refused() -> None:
    """By what is missing."""
    empty = RecordDict()
    with pytest.raises(StatisticsError, match="partition-id"):
        read_keys(empty, SESSION)
    with pytest.raises(StatisticsError, match="shares for secure sums"):
        read_shares(write_shares({"targets": {0: b"a"}}), ("targets",), [0, 2])
    with pytest.raises(StatisticsError, match="shares of the masks"):
        read_unmask(write_unmask({0: b"s"}), [0, 2])
    with pytest.raises(StatisticsError, match="not in the reply"):
        read_masked(empty, {"count": 2})


@pytest.mark.parametrize(
    "array",
    [np.zeros(2), np.zeros(3, np.uint64), np.zeros((2, 1), np.uint64)],
    ids=["real", "longer", "two axes"],
)
def test_masked_numbers_of_another_kind_are_refused(array: np.ndarray) -> None:
    """A wrong length would be added to the wrong places."""
    content = RecordDict({"statistics": ArrayRecord({"count": Array(array)})})
    with pytest.raises(StatisticsError, match="`count` have another shape"):
        read_masked(content, {"count": 2})


def test_keys_for_other_sums_are_refused(tmp_path: Path) -> None:
    """A sum without a key would have no mask."""
    one = Sum(tmp_path, [0, 1, 2])
    one.ask_keys()
    keys = one.keys[0].model_copy(update={"sums": {"targets": "0" * 64}})
    with pytest.raises(StatisticsError, match="other sums"):
        read_keys(write_keys(keys), SESSION)
