"""Tolerances with names, random edits to try laws on, and the laws of every merge."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import torch
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from editing.memit.targets import Targets
from editing.models.token_rows import PromptBatch, TokenRow
from strategies.merges.base import NOWHERE, Merge, MergeContext

ALGEBRA = 1e-9
"""Relative difference that float64 algebra in another order may leave."""

GOLDEN_DELTA = 1e-6
"""Relative difference to deltas that were computed by others and kept in float32."""

D_IN, D_OUT = 5, 3
"""Widths of the layer that random edits are drawn for, unless a test says otherwise."""


def draw_pairs(
    edits: int, seed: int = 0, d_in: int = D_IN, d_out: int = D_OUT
) -> tuple[Tensor, Tensor]:
    """Draw keys and residuals, rows being edits."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(edits, d_in, generator=generator, dtype=torch.float64)
    residuals = torch.randn(edits, d_out, generator=generator, dtype=torch.float64)
    return keys, residuals


def draw_statistics(edits: int, seed: int = 0) -> LayerStatistics:
    """Draw the statistics of random edits."""
    return LayerStatistics.of_pairs(*draw_pairs(edits, seed))


def draw_parties(sizes: Sequence[int], seed: int = 0) -> list[LayerStatistics]:
    """Draw the statistics of parties that hold so many edits each."""
    keys, residuals = draw_pairs(sum(sizes), seed)
    return [
        LayerStatistics.of_pairs(*pairs)
        for pairs in zip(
            torch.split(keys, list(sizes)),
            torch.split(residuals, list(sizes)),
            strict=True,
        )
    ]


def draw_prior(seed: int = 0, width: int = D_IN) -> Tensor:
    """Draw a well-conditioned symmetric positive definite matrix."""
    generator = torch.Generator().manual_seed(seed + 1)
    text = torch.randn(4 * width, width, generator=generator, dtype=torch.float64)
    return text.mT @ text / len(text) + 0.1 * torch.eye(width, dtype=torch.float64)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Compare whole tensors: ``‖ours − theirs‖ / ‖theirs‖``; absolute at 0."""
    assert ours.shape == theirs.shape, f"shapes {ours.shape} and {theirs.shape}"
    gap, size = (ours.double() - theirs.double()).norm(), theirs.double().norm()
    return float(gap / size if size > 0 else gap)


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = ALGEBRA) -> None:
    """Hold two tensors to a named tolerance."""
    difference = relative_difference(ours, theirs)
    assert difference <= tolerance, f"differ by {difference:.3g}, over {tolerance:.0e}"


def assert_same_statistics(ours: LayerStatistics, theirs: LayerStatistics) -> None:
    """Hold two statistics to each other in every field."""
    assert_same(ours.gram, theirs.gram)
    assert_same(ours.cross, theirs.cross)
    assert ours.count == theirs.count


def assert_order_of_parties_never_matters(
    merge: Merge, seed: int, context: MergeContext = NOWHERE
) -> None:
    """Merge three unequal parties in all orders."""
    parties, prior = draw_parties([1, 2, 4], seed), Prior(draw_prior(seed))
    expected = merge(parties, System(prior), context)
    for order in permutations(enumerate(parties)):
        numbers, parts = zip(*order, strict=True)
        numbered = replace(context, parties=numbers)
        assert_same(merge(parts, System(prior), numbered), expected)


def assert_one_party_gets_its_own_delta(
    merge: Merge, seed: int, context: MergeContext = NOWHERE
) -> None:
    """Hold a merge that neither scales nor trims to what one party writes alone."""
    party, prior = draw_statistics(4, seed), Prior(draw_prior(seed))
    assert_same(merge([party], System(prior), context), solve_delta(party, prior))


def assert_equal_parties_get_their_delta(
    merge: Merge, seed: int, context: MergeContext = NOWHERE
) -> None:
    """Hold a merge that averages to what equal parties write alone."""
    party, prior = draw_statistics(4, seed), Prior(draw_prior(seed))
    assert_same(merge([party] * 3, System(prior), context), solve_delta(party, prior))


def holding(
    pad: Callable[[Sequence[TokenRow], torch.device], PromptBatch], most: int
) -> Callable[[Sequence[TokenRow], torch.device], PromptBatch]:
    """Make memory run out where a batch has more rows than `most`."""

    def padded(rows: Sequence[TokenRow], device: torch.device) -> PromptBatch:
        if len(rows) > most:
            raise torch.OutOfMemoryError
        return pad(rows, device)

    return padded


def make_targets(hidden: Tensor, states: Tensor) -> Targets:
    """Make targets whose search neither stopped early nor was clamped."""
    count = len(hidden)
    stopped, clamped = torch.zeros(2, count, dtype=torch.bool).unbind()
    return Targets(
        hidden, states - hidden, torch.zeros(count), stopped.clone(), clamped.clone()
    )
