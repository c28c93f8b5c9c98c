"""A trial says who asks for what, and the run's own settings come to the same."""

import json
from collections.abc import Sequence
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from editing.requests.edit_request import EditRequest
from server.config import read_scenario
from server.report.data import RoundMetrics
from sims.studies.rounds.forgetting import Forgetting
from sims.studies.study import Trial, partition
from strategies.partitioning.partitions import share_requests
from tests.sims.studies.made_up import make_pool, result_of, write_cases

POOL = make_pool(20)


def unnumbered(requests: Sequence[EditRequest]) -> list[EditRequest]:
    """Forget case numbers, which a trial gives anew."""
    return [request.model_copy(update={"case_id": 0}) for request in requests]


SIZES = st.integers(1, 3).flatmap(
    lambda parties: st.lists(
        st.lists(st.integers(0, 3), min_size=parties, max_size=parties),
        min_size=1,
        max_size=4,
    )
)


@given(sizes=SIZES)
def test_each_party_is_given_in_each_round_what_the_trial_says(
    sizes: list[list[int]],
) -> None:
    """Though a run knows a list of requests and sizes alone."""
    assume(sum(map(sum, sizes)))
    rest = iter(POOL)
    rounds = tuple(
        tuple(tuple(next(rest) for _ in range(size)) for size in each) for each in sizes
    )
    trial = Trial(name="any", rounds=rounds)
    config = read_scenario(Forgetting.scenario, trial.overrides)
    shares = share_requests(trial.requests, config.parties, config.requests.seed)
    for number, parties in enumerate(rounds, start=1):
        for own, hand in zip(parties, shares.in_round(number), strict=True):
            assert unnumbered(hand.requests) == unnumbered(own)


def test_a_request_made_twice_has_two_numbers() -> None:
    """Case numbers must differ within a source."""
    trial = Trial(name="twice", rounds=(((POOL[0],), (POOL[0], POOL[1])),))
    assert [request.case_id for request in trial.requests] == [0, 1, 2]
    assert trial.requests[0].subject == trial.requests[1].subject


def test_a_trial_is_one_run_though_its_scenario_compares_merges() -> None:
    """And though the scenario reads less of its source."""
    trial = Trial(name="any", rounds=(((POOL[0],), (POOL[1],)),))
    below = ("run.compare=true", "requests.limit=1", "parties.split=shuffled")
    config = read_scenario(Forgetting.scenario, (*below, *trial.overrides))
    assert not config.run.compare
    assert config.requests.limit == 2
    assert config.parties.split == "contiguous"


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_partitioning_leaves_nothing_and_gives_nothing_twice(sizes: list[int]) -> None:
    """In the order there was."""
    requests = POOL[: sum(sizes)]
    hands = partition(requests, sizes)
    assert list(map(len, hands)) == sizes
    assert [request for hand in hands for request in hand] == requests


def test_cases_of_a_round_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Also with separators in their texts that some readers take for line ends."""
    cases: list[dict[str, object]] = [
        {"case_id": 1, "text": "a\u2028b"},
        {"case_id": 2},
    ]
    write_cases(tmp_path, 3, cases)
    path = tmp_path / "rounds" / "round_003.jsonl"
    path.write_text(
        "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases)
    )
    trial = Trial(name="any", rounds=())
    assert result_of(trial, [RoundMetrics()], tmp_path).cases(3) == cases
