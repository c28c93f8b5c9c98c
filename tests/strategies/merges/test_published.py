"""The merges against what mergekit computed of the same updates."""

from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import MergeContext
from strategies.merges.choice import read_merge
from strategies.merges.dropping import DellaMerge, Rescale, apply_mask
from strategies.merges.ties import Fusion, fuse
from tests.golden import FOLDER, clients_of, read_tensors
from tests.laws import assert_same, relative_difference

GOLDEN_MERGES = 1e-5
"""Relative difference allowed to merges that were computed in float32."""

MODEL = FOLDER / "model" / "model.safetensors"
WEIGHT = "transformer.h.2.mlp.c_proj.weight"
LAMBDA = 20.0
SIZE = 128 * 512
ROWS = slice(None, None, 8)
"""The rows that are kept of each published merge."""


@cache
def published() -> dict[str, Tensor]:
    """Read what mergekit computed."""
    return load_file(FOLDER.with_name("golden_merges") / "merges.safetensors")


@cache
def clients() -> tuple[list[LayerStatistics], System]:
    """Read the clients' edits at layer 2, and what they are solved against."""
    tensors = read_tensors(FOLDER)
    parts = [
        LayerStatistics.of_pairs(
            tensors[f"{client}.keys.2"].mT, tensors[f"{client}.residuals.2"].mT
        )
        for client in clients_of(FOLDER)
    ]
    return parts, System(Prior(tensors["covariance.2"], LAMBDA))


@pytest.mark.parametrize(
    ("theirs", "table"),
    [
        ("ties_0.2", {"density": 13107 / SIZE, "scale": 1.0}),
        (
            "ties_0.2_sum",
            {"density": 13107 / SIZE, "scale": 1.0, "fusion": "agreeing-sum"},
        ),
        ("ties_0.5", {"density": 0.5, "scale": 1.0}),
        ("ties_0.5_sum", {"density": 0.5, "scale": 1.0, "fusion": "agreeing-sum"}),
        ("breadcrumbs", {"density": 58982 / SIZE, "outliers": 655 / SIZE}),
        (
            "breadcrumbs_ties",
            {"density": 0.5, "outliers": 3276 / SIZE, "fusion": "agreeing-sum"},
        ),
        ("sce", {"select": 1.0}),
        ("sce_0.1", {"select": 6553 / SIZE}),
        ("model_stock", {"name": "model-stock"}),
        (
            "model_stock_rows",
            {"name": "model-stock", "angles": "row", "clamp": False},
        ),
    ],
)
def test_a_merge_that_draws_nothing_is_the_published_one(
    theirs: str, table: dict[str, object]
) -> None:
    """Given as many entries as its truncated shares have."""
    merge = read_merge({"name": theirs.partition("_")[0], **table})
    assert_same(merge(*clients())[ROWS], published()[theirs], GOLDEN_MERGES)


def test_the_mean_on_the_sphere_is_the_published_one() -> None:
    """By the merged weight, and by how it differs from the weight before."""
    weight = load_file(MODEL)[WEIGHT].double().mT
    merge = read_merge({"name": "karcher", "tolerance": 1e-5})
    delta = merge(*clients(), MergeContext(weight=weight))[ROWS]
    theirs = published()["karcher"].double()
    assert_same(weight[ROWS] + delta, theirs, GOLDEN_MERGES)
    assert_same(delta, theirs - weight[ROWS], GOLDEN_MERGES)


def test_small_entries_are_dropped_with_the_published_probabilities() -> None:
    """Row by row, by the rank of their magnitudes."""
    parts, system = clients()
    keep = DellaMerge(spread=0.3).keep_probability(system.solve(parts[0]))
    assert_same(keep[ROWS], published()["della.keep_probability.0"], GOLDEN_MERGES)


@pytest.mark.parametrize(
    ("theirs", "fusion"),
    [
        ("dare_linear", "sum"),
        ("dare_ties", "agreeing-sum"),
        ("della_linear", "sum"),
        ("della", "agreeing-mean"),
    ],
)
def test_with_the_masks_drawn_and_their_scale_dropping_is_the_published_one(
    theirs: str, fusion: Fusion
) -> None:
    """By sums of absolute values; the papers' division by probabilities differs."""
    parts, system = clients()
    bits = np.unpackbits(published()[f"{theirs}.mask"].numpy())
    masks = torch.from_numpy(bits).bool().reshape(len(parts), 128, 512)
    density, spread = (0.3, 0.0) if theirs.startswith("dare") else (0.5, 0.3)
    merge = DellaMerge(density=density, spread=spread)

    def fused(rescale: Rescale) -> Tensor:
        kept = [
            apply_mask(delta, mask, merge.keep_probability(delta), rescale)
            for delta, mask in zip(system.solve_each(parts), masks, strict=True)
        ]
        return fuse(kept, fusion, 1.0)[ROWS]

    assert_same(fused("l1"), published()[theirs], GOLDEN_MERGES)
    apart = relative_difference(fused("probability"), published()[theirs])
    assert GOLDEN_MERGES < apart < 0.3
