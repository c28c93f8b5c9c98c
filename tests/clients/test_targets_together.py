"""Simulated parties' targets are computed together, and are the same at every party."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import clients.round_targets
from clients.round_targets import (
    MOST_TOGETHER,
    Batching,
    batching_of_round,
    cut_batches,
    find_targets,
    kept_targets,
)
from clients.selection import Asked, Group, asked_in, group_by_party
from clients.settings import ClientConfig
from clients.target_cache import NO_TARGETS, TargetCache, name_targets
from editing.base.errors import InputError
from editing.memit.targets import Targets, compute_targets
from editing.models.loading import EditableModel
from tests.clients.test_round_targets import JOB, PLAN, assert_same_fields
from tests.federation import Federation, assert_same_delta
from tests.laws import ALGEBRA
from tests.tiny import tiny_model, tiny_requests

Make = Callable[..., Federation]
REQUESTS = tiny_requests(6)
ROUNDING = 1e-5
"""Relative difference of a float32 target that was computed in other company."""


def groups_of(*sizes: int) -> list[Group]:
    """Give each party so many requests in turn; a party without any has no group."""
    groups, first = [], 0
    for party, size in enumerate(sizes):
        requests = [REQUESTS[(first + n) % len(REQUESTS)] for n in range(size)]
        asked = tuple(Asked(party, 1, n, each) for n, each in enumerate(requests))
        first += size
        if asked:
            groups.append(Group(asked, tuple((each,) for each in requests)))
    return groups


GROUPS = groups_of(1, 2, 1, 2)
TOGETHER = Batching(128, cut_batches(GROUPS, 4))


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """Make one tiny model in the precision of a run."""
    return tiny_model(dtype=torch.float32)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the requests that are computed together."""
    counts: list[int] = []

    def count(*arguments: object) -> Targets:
        counts.append(len(arguments[1]))  # type: ignore[arg-type]
        found: Targets = compute_targets(*arguments)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(clients.round_targets, "compute_targets", count)
    return counts


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    size=st.integers(1, 20),
)
def test_a_group_is_in_the_part_that_its_middle_is_in(
    sizes: list[int], size: int
) -> None:
    """All are there, in order; none is cut, and no part is far too long."""
    groups, total = groups_of(*sizes), sum(sizes)
    parts = max(-(-total // size), 2)
    length, start = Fraction(total, parts), 0
    expected: dict[int, list[Group]] = {}
    for group in groups:
        middle = start + Fraction(len(group.requests), 2)
        expected.setdefault(int(middle / length), []).append(group)
        start += len(group.requests)
    batches = cut_batches(groups, size)
    assert [list(each.groups) for each in batches] == list(expected.values())
    for batch in batches:
        rows = [batch.requests[batch.rows_of(each)] for each in batch.groups]
        assert rows == [each.requests for each in batch.groups]
        assert len(batch.requests) < size + max(sizes)


def test_many_parties_with_few_requests_share_batches_and_large_ones_do_not() -> None:
    """160 parties of one request are three batches; ten of 100 are ten, as always."""
    few = cut_batches(groups_of(*[1] * 160), MOST_TOGETHER)
    assert [len(each.requests) for each in few] == [53, 54, 53]
    many = cut_batches(groups_of(*[100] * 10), MOST_TOGETHER)
    assert [len(each.groups) for each in many] == [1] * 10
    assert len(cut_batches(groups_of(5, 5), MOST_TOGETHER)) == 2


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)], ids=str)
def test_parties_compute_together_whoever_comes_first(
    model: EditableModel, tmp_path: Path, computed: list[int], order: Sequence[int]
) -> None:
    """To the bit what the engine gives for the batch; a pool and a new run find it."""
    cache = TargetCache(tmp_path / "run", TargetCache(tmp_path / "shared"))
    for party in order:
        find_targets(model, [GROUPS[party]], JOB, cache, TOGETHER)
    assert sorted(computed) == [3, 3]
    found = kept_targets(model, GROUPS, JOB, cache, TOGETHER)
    new = TargetCache(tmp_path / "new", TargetCache(tmp_path / "shared"))
    pool = find_targets(model, GROUPS, JOB, new, TOGETHER)
    assert sorted(computed) == [3, 3]
    for batch in TOGETHER.batches:
        expected = compute_targets(
            model, batch.requests, PLAN.templates, PLAN.parameters
        )
        for each in batch.groups:
            rows = batch.rows_of(each)
            for targets in (found[each.party].targets, pool[each.party].targets):
                assert_same_fields(targets, expected.map(lambda of, at=rows: of[at]))  # type: ignore[misc]
    again = kept_targets(model, GROUPS, JOB, TargetCache(new.path), TOGETHER)
    assert [each.group for each in again] == GROUPS


def test_a_party_s_targets_do_not_depend_on_who_else_simulates_but_by_rounding(
    model: EditableModel, tmp_path: Path
) -> None:
    """By itself, or with all others."""
    alone = find_targets(model, GROUPS, JOB, TargetCache(tmp_path / "alone"))
    shared = find_targets(model, GROUPS, JOB, TargetCache(tmp_path / "all"), TOGETHER)
    for one, other in zip(alone, shared, strict=True):
        gap = (one.targets.states - other.targets.states).norm(dim=1)
        assert bool((gap <= ROUNDING * one.targets.states.norm(dim=1)).all())


def test_a_party_that_is_a_batch_of_its_own_finds_what_it_kept_before(
    model: EditableModel, tmp_path: Path, computed: list[int]
) -> None:
    """Names of such targets do not change, and neither does one with other requests."""
    cache, (first, second) = TargetCache(tmp_path), groups_of(3, 3)
    find_targets(model, [first, second], JOB, cache)
    batching = Batching(128, cut_batches([first, second], 4))
    find_targets(model, [first, second], JOB, cache, batching)
    fewer = Group(first.asked[:2], first.phrased[:2])
    find_targets(model, [fewer], JOB, cache, Batching(128, cut_batches(GROUPS, 99)))
    assert computed == [3, 3, 2]


def test_one_request_may_be_at_two_parties_of_a_batch(
    model: EditableModel, tmp_path: Path
) -> None:
    """Each has its own row of it."""
    groups = groups_of(*[1] * 7)  # of six requests
    found = find_targets(
        model, groups, JOB, TargetCache(tmp_path), Batching(128, cut_batches(groups, 7))
    )
    assert found[0].group.requests == found[6].group.requests
    states = [found[party].targets.states for party in (0, 6)]
    assert float((states[0] - states[1]).norm() / states[0].norm()) <= ROUNDING


def test_a_request_that_cannot_be_computed_stops_its_own_party_alone(
    model: EditableModel, tmp_path: Path
) -> None:
    """The others compute theirs by themselves; the run's folder says so, no other."""
    long = REQUESTS[0].model_copy(update={"prompt": "{} is" + " the" * 90})
    broken = Group((Asked(1, 1, 0, long),), ((long,),))
    groups = [GROUPS[0], broken, *GROUPS[2:]]
    batching = Batching(128, cut_batches(groups, 3))
    cache = TargetCache(tmp_path / "run", TargetCache(tmp_path / "shared"))
    (first,) = find_targets(model, groups[:1], JOB, cache, batching)
    for search in (find_targets, find_targets):
        with pytest.raises(InputError, match="Request 10"):
            search(model, [broken], JOB, cache, batching)
    alone = compute_targets(model, groups[0].requests, PLAN.templates, PLAN.parameters)
    assert_same_fields(first.targets, alone)
    (kept,) = kept_targets(model, groups[:1], JOB, cache, batching)
    assert_same_fields(kept.targets, alone)
    shared = [path.stem for path in (tmp_path / "shared").iterdir()]
    assert shared == [name_targets(groups[0].requests, JOB, model, 128)]


def test_no_targets_are_kept_and_found(tmp_path: Path) -> None:
    """They are what says that requests cannot be computed together."""
    cache, none = TargetCache(tmp_path), NO_TARGETS
    cache.keep("ab" * 32, none)
    found = cache.find("ab" * 32)
    assert found is not None
    assert_same_fields(found, none)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Set the number of threads that a child has, which is part of a name."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_child(body: Callable[[], object]) -> int:
    """Call a function in a forked process, and return its number."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            body()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


@pytest.mark.usefixtures("one_thread")
def test_two_processes_compute_each_batch_once_and_both_find_all(
    model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds a batch taken computes another one meanwhile."""

    def meet(_: object, requests: list[object], *__: object) -> Targets:
        (tmp_path / f"{os.getpid()} {len(requests)} {time.monotonic_ns()}").touch()
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("* * *"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        states, flags = torch.ones(len(requests), 4), torch.ones(len(requests)) > 0
        return Targets(states, states.clone(), states[:, 0], flags, flags.clone())

    monkeypatch.setattr(clients.round_targets, "compute_targets", meet)

    def work(party: int) -> None:
        cache = TargetCache(tmp_path / "cache")
        find_targets(model, [GROUPS[party]], JOB, cache, TOGETHER)

    children = [in_child(lambda party=party: work(party)) for party in (0, 1)]  # type: ignore[misc]
    ends = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in children]
    assert ends == [0, 0]
    notes = [path.name.split() for path in tmp_path.glob("* * *")]
    assert sorted(int(number) for _, number, _ in notes) == [3, 3]
    assert {int(process) for process, _, _ in notes} == set(children)
    cache = TargetCache(tmp_path / "cache")
    assert len(kept_targets(model, GROUPS, JOB, cache, TOGETHER)) == 4
    assert not list(cache.path.glob(".*"))


def test_a_batch_of_a_killed_process_is_computed_by_the_next(
    model: EditableModel, tmp_path: Path, computed: list[int]
) -> None:
    """The system releases its lock, and nothing is half written."""
    cache = TargetCache(tmp_path)
    (name, *_) = (
        name_targets(each.requests, JOB, model, 128) for each in TOGETHER.batches
    )

    def die() -> None:
        with cache.claimed(name) as free:
            assert free
            (tmp_path / "claimed").touch()
            time.sleep(60)

    child = in_child(die)
    while not (tmp_path / "claimed").exists():
        time.sleep(0.01)
    with cache.claimed(name) as free:
        assert not free
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    cache.wait_for(name)
    find_targets(model, GROUPS[:1], JOB, cache, TOGETHER)
    assert computed == [3]


def test_simulated_parties_agree_on_the_batches_of_a_round(
    configure: Callable[..., ClientConfig],
) -> None:
    """They hold all requests, party after party, as a pool has them."""
    sizes = {"requests-per-round": "[1, 0, 2]", "allow-empty": True, "overlap": 1}
    config = configure(parties=sizes, requests={"phrasings": 1})
    batching = batching_of_round(config, 2)
    assert all(
        batching_of_round(configure(node, parties=sizes, requests={"phrasings": 1}), 2)
        == batching
        for node in ({"partition-id": 0}, {"partition-id": 2}, {"partition-id": 7})
    )
    everyone = group_by_party(asked_in(config, 2, pooled=True), config.requests)
    assert [each.party for each in everyone] == [0, 2]
    assert [each for batch in batching.batches for each in batch.groups] == everyone
    assert all(each in batching.batch_of(each).groups for each in everyone)


def test_parties_with_their_own_files_or_with_resolutions_compute_alone(
    configure: Callable[..., ClientConfig],
) -> None:
    """What another party edits is not known to them."""
    own = configure({"partition-id": 1, "requests-path": "mine.json"})
    compared = configure(parties={"deduplicate": True})
    conflicts = configure(parties={"conflicts": "none"})
    for config in (own, compared, conflicts):
        assert batching_of_round(config, 1) == Batching(config.batch_size)
    assert batching_of_round(configure(), 1).batches


@pytest.mark.parametrize("size", [1, 128])
def test_the_batch_changes_the_update_by_rounding_alone(
    federate: Make, size: int
) -> None:
    """Whoever computed together, the update is that of one machine."""
    tables = {"editing": {"batch-size": size}, "parties": {"requests-per-round": 1}}
    federation = federate(**tables)
    assert_same_delta(federation.delta(), federation.edit_alone(), ALGEBRA)
