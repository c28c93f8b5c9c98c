"""The merges against what CollabEdit's published program computed."""

import json
from pathlib import Path

import pytest
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.choice import read_merge
from strategies.methods import read_method
from tests.golden import FOLDER, clients_of, read_tensors
from tests.laws import GOLDEN_DELTA, assert_same

LAYERS = (1, 2, 3)
CLIENTS = clients_of(FOLDER)


@pytest.fixture(scope="module")
def tensors(golden: Path) -> dict[str, Tensor]:
    """Read all golden tensors."""
    return read_tensors(golden)


@pytest.fixture(scope="module")
def weight(golden: Path) -> float:
    """Read the prior weight they were computed with."""
    case = json.loads((golden / "case.json").read_text())
    return float(case["hyperparameters"]["mom2_update_weight"])


def read_party(tensors: dict[str, Tensor], party: str, layer: int) -> LayerStatistics:
    """Summarise a party's golden pairs, whose columns are edits."""
    keys, residuals = (
        tensors[f"{party}.{side}.{layer}"].mT for side in ("keys", "residuals")
    )
    return LayerStatistics.of_pairs(keys, residuals)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("merge", "theirs"),
    [
        ("collabedit", "CollabEdit"),
        ("simple-average", "SA"),
        ("task-arithmetic", "TA"),
        ("ties", "TIES"),
    ],
)
def test_merge_of_the_clients_is_the_published_one(
    tensors: dict[str, Tensor], weight: float, merge: str, theirs: str, layer: int
) -> None:
    """With default settings, from the clients' keys and residuals."""
    parties = [read_party(tensors, client, layer) for client in CLIENTS]
    prior = Prior(tensors[f"covariance.{layer}"], weight)
    ours = read_merge(merge)(parties, System(prior))
    assert_same(ours, tensors[f"frozen.merged.{theirs}.{layer}"], GOLDEN_DELTA)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("run", ["memit", "frozen.global"])
def test_global_delta_is_the_published_one(
    tensors: dict[str, Tensor], weight: float, run: str, layer: int
) -> None:
    """MEMIT's own, and CollabEdit's with all requests on one machine."""
    everything = read_party(tensors, run, layer)
    prior = Prior(tensors[f"covariance.{layer}"], weight)
    ours = read_method("global").merge([everything], System(prior))
    assert_same(ours, tensors[f"{run}.delta.{layer}"], GOLDEN_DELTA)
