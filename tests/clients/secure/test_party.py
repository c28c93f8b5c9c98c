"""A party of secure sums gives its share to nobody, whatever the server asks."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.secure.party import RefusedSumError
from strategies.secure.keys import ForgedKeyError
from strategies.secure.opening import UnopenedSumError
from strategies.secure.records import (
    LEAST_MEMBERS,
    MembersRequest,
    threshold_of,
)
from tests.summing import RUN, Sum, party_in, session_of

EXACT = 1e-10
"""Relative difference from the plain sum that fixed point may make."""

UNLIKELY = 6.0
"""Standard deviations that a chi-square of uniform bytes is not away from its mean."""

MOMENTS = ("keys", "shares", "masked", "unmask")


@pytest.fixture(autouse=True, scope="module")
def no_flush() -> Iterator[None]:
    """Save the time of waiting for the disk, which no law here is about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("editing.files.atomic.flush", lambda _: None)
        yield


def values_of(numbers: list[int], seed: int = 0) -> dict[int, dict[str, np.ndarray]]:
    """Draw each party's vectors: large numbers, small ones, and whole ones."""
    found = {}
    for number in numbers:
        draw = np.random.default_rng([seed, number])
        found[number] = {
            "1.keys": draw.standard_normal(40) * 10.0 ** draw.integers(-3, 6, 40),
            "summary": draw.integers(0, 50, 5).astype(np.float64),
        }
    return found


def prepared(folder: Path, numbers: list[int], **more: object) -> Sum:
    """Exchange keys and shares, and mask: only the unmasking is left."""
    one = Sum(folder, numbers, **more)  # type: ignore[arg-type]
    one.ask_keys()
    one.ask_shares()
    one.ask_masked(values_of(numbers))
    return one


@settings(max_examples=25)
@given(
    numbers=st.sets(st.integers(0, 30), min_size=3, max_size=8).map(sorted),
    losses=st.dictionaries(st.integers(0, 8), st.sampled_from(MOMENTS), max_size=4),
    seed=st.integers(0, 2**16),
)
def test_a_masked_sum_is_the_plain_sum_whoever_is_lost_and_whenever(
    numbers: list[int], losses: dict[int, str], seed: int
) -> None:
    """Of those whose masked numbers came; or it stays masked, and nothing is learnt.

    It stays so if fewer than the threshold are left to unmask it, or fewer than three.
    """
    values = values_of(numbers, seed)
    lost = {
        moment: {
            numbers[i] for i, m in losses.items() if m == moment and i < len(numbers)
        }
        for moment in MOMENTS
    }
    with TemporaryDirectory() as folder:
        one = Sum(Path(folder), numbers)
        one.ask_keys(lost["keys"])
        try:
            one.ask_shares(lost["shares"])
            one.ask_masked(values, lost["masked"])
            one.ask_unmask(lost["unmask"])
            found = one.open()
        except (RefusedSumError, UnopenedSumError):
            left = len(one.keys) - len(lost["shares"] | lost["masked"] | lost["unmask"])
            assert left < max(LEAST_MEMBERS, threshold_of(len(one.keys)))
            return
    for name, total in found.items():
        plain = sum(values[number][name] for number in one.masked)
        assert set(one.masked) == set(numbers) - set().union(
            *(lost[moment] for moment in MOMENTS[:3])
        )
        assert np.abs(total - plain).max() <= EXACT * np.abs(plain).max()


def test_twenty_five_parties_lose_a_third(tmp_path: Path) -> None:
    """More would leave too few for the threshold."""
    numbers = list(range(25))
    values = values_of(numbers)
    one = Sum(tmp_path, numbers)
    one.ask_keys()
    one.ask_shares(lost=range(2))
    one.ask_masked(values, lost=range(5))
    one.ask_unmask(lost=range(8))
    found = one.open()
    plain = sum(values[number]["1.keys"] for number in range(5, 25))
    assert np.abs(found["1.keys"] - plain).max() <= EXACT * np.abs(plain).max()
    del one.answers[24]
    with pytest.raises(UnopenedSumError, match=r"17 parties have to help .* 16 did"):
        one.open()


def test_one_partys_message_is_uniform(tmp_path: Path) -> None:
    """A chi-square over bytes: zeros and large numbers alike leave nothing to see."""
    size = 40_000
    for number, values in enumerate([np.zeros(size), np.full(size, 1e3)]):
        one = Sum(tmp_path / str(number), [0, 1, 2])
        one.ask_keys()
        one.ask_shares()
        one.ask_masked({party: {"1.keys": values} for party in range(3)})
        for masked in one.masked.values():
            counts = np.bincount(masked["1.keys"].view(np.uint8), minlength=256)
            expected = counts.sum() / 256
            statistic = float(((counts - expected) ** 2 / expected).sum())
            assert abs(statistic - 255) < UNLIKELY * (2 * 255) ** 0.5


def test_the_masks_of_two_parties_do_not_cancel_without_the_third(
    tmp_path: Path,
) -> None:
    """The sum of all but one is as uniform as one alone."""
    one = prepared(tmp_path, [0, 1, 2])
    two = one.masked[0]["1.keys"] + one.masked[1]["1.keys"]
    assert len({int(each) >> 56 for each in two}) > 20


def test_masks_do_not_cancel_if_one_party_is_asked_about_another_model(
    tmp_path: Path,
) -> None:
    """Else a server could make the numbers of all others nothing, and be left with it.

    Here these are zeros already; the opened "sum" says nothing of the one that is not.
    """
    one = Sum(tmp_path, [0, 1, 2, 3])
    one.ask_keys()
    one.ask_shares()
    zeros = {party: {"1.keys": np.zeros(2000)} for party in range(4)}
    one.ask_masked(zeros, lost=[1])
    asked = one.request(question="another model")
    one.masked[1] = one.party(1).mask(asked, {"1.keys": np.full(2000, 3.0)})
    one.ask_unmask()
    for found in (one.open(), one.open(asked)):
        words = np.abs(found["1.keys"])
        assert (words > 1e3).mean() > 0.9  # a share of 3.0 has gone under


def test_no_mask_is_used_twice(tmp_path: Path) -> None:
    """Zeros of another vector, sum, round, attempt or run are masked otherwise."""
    seen: set[int] = set()
    runs = [
        session_of(),
        session_of(attempt=1),
        session_of(attempt=2, number=2),
        session_of(run="6b" * 16),
    ]
    for session in runs:
        one = Sum(tmp_path, [0, 1, 2], session)
        one.ask_keys()
        one.ask_shares()
        zeros = {party: {"a": np.zeros(4), "b": np.zeros(4)} for party in range(3)}
        one.ask_masked(zeros)
        other = Sum(tmp_path, [0, 1, 2], session, "metrics", sealed=one.sealed)
        other.ask_masked(zeros)
        for masked in (*one.masked.values(), *other.masked.values()):
            seen |= {int(each) for words in masked.values() for each in words}
    assert len(seen) == len(runs) * 2 * 3 * 2 * 8


def test_a_sum_is_unmasked_once(tmp_path: Path) -> None:
    """A second request is refused, be it for the same parties or for fewer."""
    one = prepared(tmp_path, [0, 1, 2, 3])
    one.ask_unmask()
    for survivors in ([0, 1, 2, 3], [0, 1, 2]):
        with pytest.raises(RefusedSumError, match="once for each sum"):
            one.party(1).unmask(*one.unmasking(1, survivors))


def test_a_sum_is_masked_once(tmp_path: Path) -> None:
    """Or the difference of two answers would be that of two models."""
    one = prepared(tmp_path, [0, 1, 2])
    with pytest.raises(RefusedSumError, match="out of turn"):
        one.ask_masked(values_of([0, 1, 2], seed=1))


def test_a_resumed_run_gets_a_sum_again_for_the_same_parties_alone(
    tmp_path: Path,
) -> None:
    """With new keys; for fewer, the difference would be the share of the one left out.

    What was given is on the disk before the answer leaves.
    """
    numbers = [0, 1, 2, 3]
    prepared(tmp_path, numbers).ask_unmask()
    for run, chosen in (("6b" * 16, numbers), ("7c" * 16, [0, 1, 2])):
        again = prepared(tmp_path, chosen, session=session_of(run=run))
        if chosen == numbers:
            again.ask_unmask()
            assert len(again.answers) == 4
        else:
            with pytest.raises(RefusedSumError, match="share of some of them"):
                again.ask_unmask()
            assert again.answers == {}


def test_a_sum_that_was_never_given_may_be_begun_again_with_fewer(
    tmp_path: Path,
) -> None:
    """Nothing is learnt of numbers that stay masked; the old keys are gone."""
    first = prepared(tmp_path, [0, 1, 2, 3])
    again = prepared(tmp_path, [0, 1, 2], session=session_of(attempt=1))
    again.ask_unmask()
    assert set(again.open()) == {"1.keys", "summary"}
    with pytest.raises(RefusedSumError, match="no keys"):
        first.party(1).unmask(*first.unmasking(1, [0, 1, 2, 3]))


def test_a_session_is_opened_once(tmp_path: Path) -> None:
    """Also after another: keys with an old name could be those of a lost party."""
    party = party_in(tmp_path, 1)
    party.open(session_of(attempt=3))
    party.open(session_of(run="6b" * 16))
    for attempt in (2, 3):
        with pytest.raises(RefusedSumError, match="had before"):
            party_in(tmp_path, 1).open(session_of(attempt=attempt))


Change = Callable[[Sum], None]


def forge(one: Sum) -> None:
    """Put keys of the server's own in the place of a party's."""
    stranger = party_in(one.folder / "elsewhere", 2, key=b"s" * 32)
    one.keys[2] = stranger.open(one.session)


def replay(one: Sum) -> None:
    """Send what the party sent in another run."""
    other = party_in(one.folder / "elsewhere", 2)
    one.keys[2] = other.open(session_of(run="6b" * 16))


def swap(one: Sum) -> None:
    """Give out one party's keys as another's."""
    one.keys[2] = one.keys[3].model_copy(update={"party": 2})


@pytest.mark.parametrize("change", [forge, replay, swap])
def test_keys_that_are_not_a_partys_are_refused_by_its_name(
    tmp_path: Path, change: Change
) -> None:
    """By every party, before anything is shared."""
    one = Sum(tmp_path, [0, 1, 2, 3])
    one.ask_keys()
    change(one)
    members = tuple(one.keys[number] for number in sorted(one.keys))
    for number in (0, 1, 3):
        with pytest.raises(ForgedKeyError, match="said to be of party 2 in round 1"):
            one.party(number).share(
                MembersRequest(session=one.session, members=members)
            )


def test_a_party_notices_that_its_own_keys_were_exchanged(tmp_path: Path) -> None:
    """By those of a node with its number and the parties' key."""
    one = Sum(tmp_path, [0, 1, 2])
    one.ask_keys()
    twin = party_in(tmp_path / "twin", 1)
    one.keys[1] = twin.open(one.session)
    request = MembersRequest(session=one.session, members=tuple(one.keys.values()))
    with pytest.raises(ForgedKeyError, match="Do two nodes have its number"):
        one.party(1).share(request)


@pytest.mark.parametrize("name", ["sum", "sender", "change"])
def test_a_share_of_another_sum_or_sender_is_refused(tmp_path: Path, name: str) -> None:
    """It is sealed for one sum, one sender and one receiver."""
    one = prepared(tmp_path, [0, 1, 2, 3])
    request, inbox = one.unmasking(1, [0, 1, 2, 3])
    if name == "sum":
        other = Sum(tmp_path / "other", [0, 1, 2, 3])
        other.ask_keys()
        other.ask_shares()
        inbox[2] = other.sealed[2][1]
    elif name == "sender":
        inbox[2] = inbox[3]
    else:
        inbox[2] = inbox[2][:-1] + bytes([inbox[2][-1] ^ 1])
    with pytest.raises(ForgedKeyError, match="said to be of party 2"):
        one.party(1).unmask(request, inbox)
    one.ask_unmask()  # what was refused has used up nothing


@pytest.mark.parametrize(
    "members", [(0, 1), (0, 2, 3), (0, 1, 2, 9), (1, 0, 2), (0, 1, 1, 2)], ids=str
)
def test_sums_over_too_few_or_others_are_refused(
    tmp_path: Path, members: tuple[int, ...]
) -> None:
    """Three at least, this party among them, all of whose keys are known."""
    one = Sum(tmp_path, [0, 1, 2, 3])
    one.ask_keys()
    one.ask_shares()
    with pytest.raises(RefusedSumError, match="3 or more of"):
        one.party(1).mask(one.request(members=members), values_of([1])[1])


def test_shares_are_given_once_and_among_three(tmp_path: Path) -> None:
    """Two sets of shares could make one party's threshold smaller."""
    one = Sum(tmp_path, [0, 1])
    one.ask_keys()
    with pytest.raises(RefusedSumError, match="3 different parties"):
        one.ask_shares()
    whole = Sum(tmp_path / "whole", [0, 1, 2])
    whole.ask_keys()
    whole.ask_shares()
    with pytest.raises(RefusedSumError, match="once in a"):
        whole.ask_shares()


def test_false_shares_of_a_lost_party_are_noticed(tmp_path: Path) -> None:
    """The key that they add up to is not the one that was announced."""
    one = Sum(tmp_path, [0, 1, 2, 3])
    one.ask_keys()
    one.ask_shares()
    one.ask_masked(values_of([0, 1, 2, 3]), lost=[3])
    one.ask_unmask()
    one.answers[1] = {**one.answers[1], 3: one.answers[0][3]}
    with pytest.raises(UnopenedSumError, match="shares of party 3 do not fit"):
        one.open()


def test_secrets_stay_with_their_owner_and_go_once_used(tmp_path: Path) -> None:
    """Files admit the owner alone, and hold no key of a sum that was given."""
    one = prepared(tmp_path, [0, 1, 2])
    files = sorted((tmp_path / "1").iterdir())
    assert [file.name for file in files] == ["given_1.json", "session_1.json"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    private = json.loads(files[1].read_text())["sums"]["targets"]["private"]
    one.ask_unmask()
    assert private not in (tmp_path / "1" / "session_1.json").read_text()
    assert json.loads(files[0].read_text())["sums"] == {"1 targets": [0, 1, 2]}
    assert RUN in files[0].read_text()
