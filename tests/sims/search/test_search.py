"""The search goes through its stages and chooses on the validation part."""

from collections.abc import Sequence

import pytest

from editing.hyperparameters.config import Hyperparameters
from sims.search.bench import SEARCH, VALIDATION, Trial
from sims.search.candidates import FINALISTS, split_budget
from sims.search.search import NEAR_BEST, Search, choose, rank

BASE = Hyperparameters(layers=(0,), v_lr=0.125)


def score(parameters: Hyperparameters) -> float:
    """Score a model that is best edited in layers 5 to 7 with λ = 100 and clamp 1."""
    layers = parameters.layers
    value = 40.0 - 4 * abs(layers[-1] - 7) + 20.0 * (layers == (5, 6, 7))
    value += 20.0 * (parameters.mom2_update_weight == 100)
    return value + 20.0 * (parameters.clamp_norm_factor == 1)


class FakeBench:
    """Knows what each choice reaches."""

    def __init__(self, validation: float = 0.0) -> None:
        """Have the validation part reach so much less."""
        self.prepared: list[tuple[int, ...]] = []
        self.validation = validation

    def prepare(self, layers: Sequence[int]) -> None:
        """Remember whose covariances are estimated."""
        self.prepared.append(tuple(layers))

    def try_out(self, parameters: Hyperparameters, part: str) -> Trial:
        """Give the score of a choice."""
        reached = score(parameters)
        if part == VALIDATION and parameters.clamp_norm_factor == 1:
            reached -= self.validation
        return Trial(parameters, part, reached)


def run(bench: FakeBench, trials: int) -> tuple[list[int], Search, Hyperparameters]:
    """Run a search on twelve layers."""
    numbers: list[int] = []
    search = Search(
        bench,  # type: ignore[arg-type]
        BASE,
        range(12),
        split_budget(trials),
        lambda number, _: numbers.append(number),
    )
    return numbers, search, search.run().chosen.parameters


@pytest.mark.parametrize("trials", [24, 40])
def test_the_best_choice_is_found(trials: int) -> None:
    """What is not searched stays as it was given."""
    numbers, search, chosen = run(FakeBench(), trials)
    assert chosen.mom2_update_weight == 100
    assert chosen.clamp_norm_factor == 1
    assert chosen.layers[-1] in {6, 7, 8}
    assert chosen.v_lr == BASE.v_lr
    assert numbers == list(range(1, len(search.trials) + 1))


@pytest.mark.parametrize("trials", [8, 12, 24])
def test_no_more_is_tried_than_the_budget_allows_and_nothing_twice(trials: int) -> None:
    """The last trials are those of the validation part."""
    _, search, _ = run(FakeBench(), trials)
    parts = [trial.part for trial in search.trials]
    assert len(parts) <= trials
    assert parts[-FINALISTS:] == [VALIDATION] * FINALISTS
    searched = [t.parameters for t in search.trials if t.part == SEARCH]
    assert len({each.model_dump_json() for each in searched}) == len(searched)


def test_covariances_are_estimated_a_stage_at_a_time() -> None:
    """One pass for the single layers, and one for all windows."""
    bench = FakeBench()
    run(bench, 24)
    assert len(bench.prepared) == 2


def test_the_validation_part_decides_among_the_best() -> None:
    """What was best by chance on the searched requests is not chosen."""
    _, search, chosen = run(FakeBench(validation=50.0), 24)
    best = max(search.trials, key=lambda trial: trial.score)
    assert best.parameters.clamp_norm_factor == 1
    assert chosen.clamp_norm_factor != 1


def trial(score: float, norm: float, failure: str = "") -> Trial:
    """Make a trial that reached a score with an update of some norm."""
    return Trial(BASE, SEARCH, score, {}, {"update_ratio": norm}, failure=failure)


def test_of_equal_scores_the_smallest_update_is_chosen() -> None:
    """A point of score is less than what it costs elsewhere."""
    best, near, worse = trial(90, 5), trial(90 - NEAR_BEST / 2, 1), trial(80, 0.1)
    failed = trial(0, 0, "no luck")
    assert rank([best, failed, worse, near]) == [near, best, worse, failed]
    assert choose([failed, trial(0, 1)]).failure == ""
