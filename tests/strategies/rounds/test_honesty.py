"""Bounds on what a party may send are such that no honest one meets them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.federation import Federation

Make = Callable[..., Federation]


@pytest.mark.parametrize(
    ("encoding", "dtype"), [("factors", "bfloat16"), ("dense", "float32")]
)
@pytest.mark.parametrize(
    ("merge", "schedule"),
    [
        ("collabedit", "layerwise"),
        ("collabedit", "frozen-harmonic"),
        ("simple-average", "frozen-uniform"),
        ("task-arithmetic", "layerwise"),
        ("ties", "alone"),
        ("global", "layerwise"),
        ("global", "frozen-uniform"),
    ],
)
def test_no_honest_party_is_ever_refused(
    federate: Make, merge: str, schedule: str, encoding: str, dtype: str
) -> None:
    """With phrasings, planted requests and known ones, over several rounds."""
    federation = federate(
        model={"dtype": dtype},
        requests={"phrasings": 2},
        editing={"schedule": schedule},
        run={"rounds": 2, "encoding": encoding},
        parties={
            "requests-per-round": "[[2, 1, 0], [1, 1, 1]]",
            "allow-empty": True,
            "overlap": 1,
            "skip-known": 0.05,
            "deduplicate": True,
        },
        prior={"covariance": "federated"},
    )
    strategy, result = federation.run(merge, evaluate_unedited=True)
    assert len(strategy.registry.outcomes) == 3
    assert [each.refusals for each in strategy.registry.outcomes.values()] == [[]] * 3
    assert sum(each.requests for each in strategy.registry.outcomes.values()) > 3
    edits = [sum(each.edits.values()) for each in strategy.registry.outcomes.values()]
    assert edits[1] > strategy.registry.outcomes[1].requests
    assert tuple(result.evaluate_metrics_clientapp) == (0, 1, 2)
    assert federation.preparation.shares is not None
    assert federation.preparation.shares.left_out == ()


def test_a_file_of_a_partys_own_holds_as_many_requests_as_the_run_says(
    federate: Make, world: Path
) -> None:
    """Taken in turn, by nodes without a place among the parties, too."""
    own = {party: {"requests-path": str(world / "requests.json")} for party in range(3)}
    federation = federate(
        node_configs=own, run={"rounds": 2}, requests={"phrasings": 1}
    )
    for party, place in ((1, -1), (2, -1)):
        federation.contexts[federation.node(party)].node_config["partition-id"] = place
    strategy, _ = federation.run()
    assert [each.refusals for each in strategy.registry.outcomes.values()] == [[]] * 3
    assert [each.requests for each in strategy.registry.outcomes.values()] == [0, 6, 6]
