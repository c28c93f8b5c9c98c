"""Laws of the memory."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.solving import solve_delta
from editing.algebra.statistics import LayerStatistics, pool
from editing.base.errors import InputError
from strategies.rounds.memory import Memory
from strategies.wire.messages import Phase
from tests.federation import AT_ONCE, Federation, Recorder
from tests.laws import assert_same, draw_pairs, draw_prior, draw_statistics
from tests.tiny import LAYERS

SEEDS = st.integers(0, 2**16)
WEIGHTS = st.floats(0.01, 100)


@given(weight=WEIGHTS, memory_weight=st.floats(0, 100), rounds=st.integers(0, 3))
def test_prior_is_the_weighted_sum_of_text_and_past(
    weight: float, memory_weight: float, rounds: int
) -> None:
    """The definition, term by term."""
    memory = Memory(draw_prior(), weight, memory_weight)
    expected = weight * draw_prior()
    for seed in range(rounds):
        memory = memory.remember(draw_statistics(2, seed).gram)
        expected = expected + memory_weight * draw_statistics(2, seed).gram
    assert_same(memory.prior().matrix(), expected)


@given(weight=WEIGHTS)
def test_a_memory_of_weight_zero_forgets(weight: float) -> None:
    """The immutable covariance is a special case."""
    fresh = Memory(draw_prior(), weight, 0.0)
    later = fresh.remember(draw_statistics(4).gram)
    assert torch.equal(later.prior().matrix(), fresh.prior().matrix())


def test_a_memory_that_forgets_is_the_same_and_so_is_its_prior() -> None:
    """So the factor of the prior is computed once for all rounds."""
    fresh = Memory(draw_prior(), 2.0, 0.0)
    later = fresh.remember(draw_statistics(4).gram)
    assert later.prior() is fresh.prior()
    assert later.prior().factor is fresh.prior().factor


def test_a_prior_is_kept_until_its_memory_changes_or_not_at_all() -> None:
    """A factor is as large as the covariance, in float64."""
    memory = Memory(draw_prior(), 2.0, 1.0)
    assert memory.prior() is memory.prior()
    later = memory.remember(draw_statistics(4).gram)
    assert later.prior() is not memory.prior()
    passing = Memory(draw_prior(), 2.0, 1.0, keeps=False)
    assert passing.prior() is not passing.prior()
    assert torch.equal(passing.prior().matrix(), memory.prior().matrix())


def test_what_is_remembered_is_symmetric_to_the_last_bit() -> None:
    """Half of it is kept on disk."""
    gram = draw_statistics(4).gram
    lopsided = gram + gram.tril(-1) * 1e-15
    memory = Memory(draw_prior(), 2.0, 1.0).remember(lopsided).remember(lopsided)
    assert memory.grams is not None
    assert torch.equal(memory.grams, memory.grams.mT)
    assert torch.equal(memory.grams.triu(), 2 * gram.triu())


@pytest.mark.parametrize("tokens", [1, 7])
def test_a_sum_with_its_scale_gives_the_prior_of_the_mean(tokens: int) -> None:
    """Published covariances are sums."""
    mean = draw_prior()
    total = Memory(tokens * mean, 2.0, 1.0, 1 / tokens)
    assert_same(total.prior().matrix(), Memory(mean, 2.0, 1.0).prior().matrix(), 1e-14)


def test_remembering_leaves_the_earlier_memory_alone() -> None:
    """A round that fails can be run again."""
    memory = Memory(draw_prior(), 2.0, 1.0)
    before = memory.prior().matrix()
    memory.remember(draw_statistics(4).gram)
    assert torch.equal(memory.prior().matrix(), before)


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4), seed=SEEDS)
def test_rounds_remembered_at_weight_one_equal_one_batch(
    sizes: list[int], seed: int
) -> None:
    """Recursive least squares: residuals left by earlier rounds, grams remembered.

    Exact for a layer by itself; in a model the residuals also depend on other layers.
    """
    keys, residuals = draw_pairs(sum(sizes), seed)
    memory = Memory(draw_prior(seed), 2.0, 1.0)
    alone = solve_delta(LayerStatistics.of_pairs(keys, residuals), memory.prior())
    written = torch.zeros_like(alone)
    for key, residual in zip(
        torch.split(keys, sizes), torch.split(residuals, sizes), strict=True
    ):
        left = LayerStatistics.of_pairs(key, residual - key @ written.mT)
        written = written + solve_delta(left, memory.prior())
        memory = memory.remember(left.gram)
    assert_same(written, alone)


def test_the_order_of_past_rounds_does_not_matter() -> None:
    """Their grams add."""
    memory = Memory(draw_prior(), 2.0, 1.0)
    first, second = draw_statistics(2, 1), draw_statistics(3, 2)
    together = memory.remember(pool([first, second]).gram)
    apart = memory.remember(second.gram).remember(first.gram)
    assert_same(apart.prior().matrix(), together.prior().matrix())


def test_a_single_precision_covariance_is_remembered_in_double() -> None:
    """One cast at the border."""
    memory = Memory(draw_prior().float(), 2.0, 1.0)
    assert memory.prior().matrix().dtype == torch.float64


@pytest.mark.parametrize(
    ("weight", "memory_weight"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.1), (torch.nan, 1.0), (1.0, torch.nan)],
)
def test_weights_without_sense_are_refused(weight: float, memory_weight: float) -> None:
    """Say which came."""
    with pytest.raises(InputError, match=f"got {weight} and {memory_weight}"):
        Memory(draw_prior(), weight, memory_weight)


@pytest.mark.parametrize(
    ("keys", "gamma"), [("solved", 0.0), ("solved", 1.0), ("edited", 1.0)]
)
def test_nothing_is_remembered_that_no_round_reads(
    federate: Callable[..., Federation], keys: str, gamma: float
) -> None:
    """Not of the last round, nor where earlier ones do not count."""
    tables = {"prior": {"memory-keys": keys, "memory-weight": gamma}}
    for rounds in (1, 2):
        recorder = Recorder()
        federation = federate(**tables, run={"rounds": rounds}, editing=AT_ONCE)
        federation.run(callbacks=recorder)
        *earlier, last = recorder.states
        remembered = LAYERS if gamma and earlier else ()
        assert [tuple(each.grams) for each in earlier] == [remembered] * len(earlier)
        assert tuple(last.grams) == remembered
        asked = 3 * len(earlier) if gamma and keys == "edited" else 0
        assert len(federation.nodes_asked(Phase.MEMORY)) == asked
        for before in earlier if gamma else ():
            for layer in LAYERS:
                assert torch.equal(last.grams[layer], before.grams[layer])
