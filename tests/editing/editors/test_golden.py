"""Every solver against what published programs computed, given their keys."""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.alphaedit import BASIS, AlphaEditEditor
from editing.editors.base import Editor
from editing.editors.betaedit import BetaEditEditor
from editing.editors.emmet import EmmetEditor
from editing.editors.lyaplock import QUEUE, VALUES, LyapLockEditor
from editing.editors.memit import MemitEditor
from editing.editors.system import LayerState
from tests.golden import EDITORS, FOLDER, read_methods, read_tensors
from tests.laws import assert_same

LAYER = 2
METHODS = read_methods()
NUMBERS = EDITORS / "solvers.safetensors"
WEIGHT = 20.0
EXACT, SINGLE_GRAM, SINGLE_SOLVE = 1e-6, 1e-4, 2e-4
"""Where the program solves in float64, keeps its gram in float32, solves in float32."""

RUNS: dict[str, tuple[Editor, float, tuple[float, float]]] = {
    "memit_plain": (MemitEditor(), 0.0, (EXACT, EXACT)),
    "memit_seq": (MemitEditor(), 1.0, (EXACT, SINGLE_GRAM)),
    "encore": (
        MemitEditor(ridge=METHODS["encore"]["update_norm_lambda"]),
        1.0,
        (EXACT, EXACT),
    ),
    "alphaedit": (
        AlphaEditEditor(
            threshold=METHODS["alphaedit"]["nullspace_threshold"],
            ridge=METHODS["alphaedit"]["L2"],
        ),
        1.0,
        (SINGLE_SOLVE, SINGLE_SOLVE),
    ),
    "betaedit": (
        BetaEditEditor(
            threshold=METHODS["betaedit"]["nullspace_threshold"],
            text_weight=METHODS["betaedit"]["lambda1"],
            ridge=METHODS["betaedit"]["lambda2"],
            renew_after=METHODS["betaedit"]["tau"],
        ),
        1.0,
        (SINGLE_SOLVE, SINGLE_SOLVE),
    ),
    "lyaplock": (
        LyapLockEditor(budget=METHODS["lyaplock"]["alpha"]),
        1.0,
        (EXACT, EXACT),
    ),
}
"""The editor, ``γ``, and the relative difference allowed to each batch's update."""


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    """Load the published numbers, and the covariance."""
    text = read_tensors(FOLDER)[f"covariance.{LAYER}"]
    return {**load_file(NUMBERS), "text": text.double()}


def statistics_of(numbers: dict[str, Tensor], run: str) -> LayerStatistics:
    """Take a batch's keys and residuals; columns are edits there."""
    keys, residuals = (numbers[f"{run}.{k}.{LAYER}"].mT for k in ("keys", "residuals"))
    return LayerStatistics.of_pairs(keys, residuals)


def update_of(numbers: dict[str, Tensor], run: str) -> Tensor:
    """Take a batch's update, or multiply its factors."""
    if (whole := numbers.get(f"{run}.delta.{LAYER}")) is not None:
        return whole.double()
    left, right = (
        numbers[f"{run}.residuals.{LAYER}"],
        numbers[f"{run}.adj_keys.{LAYER}"],
    )
    return left.double() @ right.double().mT


def solve(
    numbers: dict[str, Tensor], name: str, kept_of: list[dict[str, Tensor]]
) -> list[Tensor]:
    """Solve both batches, and list what is kept before and after each."""
    editor, gamma, _ = RUNS[name]
    grams: Tensor | None = None
    total: Tensor | None = None
    kept_of.append(editor.begin(LayerState(Prior(numbers["text"], WEIGHT))))
    found = []
    for batch in (0, 1):
        part = statistics_of(numbers, f"{name}.batch{batch}")
        prior = Prior(numbers["text"], WEIGHT, grams, gamma)
        state = LayerState(prior, total, kept_of[-1])
        delta = editor.system(state).solve(part)
        kept_of.append(dict(editor.remember(state, part.gram, part.count, delta)))
        grams = part.gram if grams is None else grams + part.gram
        total = delta if total is None else total + delta
        found.append(delta)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_updates_are_the_published_ones(numbers: dict[str, Tensor], name: str) -> None:
    """Two batches, one after the other."""
    for batch, delta in enumerate(solve(numbers, name, [])):
        published = update_of(numbers, f"{name}.batch{batch}")
        assert_same(delta, published, RUNS[name][2][batch])


def test_constrained_edits_are_the_published_ones(numbers: dict[str, Tensor]) -> None:
    """EMMET, all requests in one batch."""
    state = LayerState(Prior(numbers["text"], WEIGHT))
    system = EmmetEditor(slack=METHODS["emmet"]["emmet_lambda"]).system(state)
    found = system.solve(statistics_of(numbers, "emmet"))
    assert_same(found, update_of(numbers, "emmet"), EXACT)


def test_the_null_space_is_the_published_one(numbers: dict[str, Tensor]) -> None:
    """By its rank, and by what it leaves of the keys of all requests."""
    kept: list[dict[str, Tensor]] = []
    solve(numbers, "alphaedit", kept)
    basis = kept[0][BASIS]
    assert basis.shape == (512, METHODS["alphaedit"]["rank"][str(LAYER)])
    parts = [statistics_of(numbers, f"alphaedit.batch{batch}") for batch in (0, 1)]
    projected = torch.cat([part.keys @ basis @ basis.mT for part in parts])
    assert_same(projected.mT, numbers[f"alphaedit.projected.{LAYER}"], 1e-4)


def test_the_queue_is_the_published_one(numbers: dict[str, Tensor]) -> None:
    """And the values that were reached, which hold the original weight there."""
    kept: list[dict[str, Tensor]] = []
    solve(numbers, "lyaplock", kept)
    queues = [after[str(LAYER)] for after in METHODS["lyaplock"]["queue"]]
    for after, queue in zip(kept[1:], queues, strict=True):
        assert after[QUEUE].item() == pytest.approx(queue, rel=1e-6)
    weights = load_file(FOLDER / "model" / "model.safetensors")
    original = weights[f"transformer.h.{LAYER}.mlp.c_proj.weight"].double().mT
    gram = sum(
        statistics_of(numbers, f"lyaplock.batch{batch}").gram for batch in (0, 1)
    )
    reached = kept[-1][VALUES] + original @ gram
    assert_same(reached, numbers[f"lyaplock.value_key_sum.{LAYER}"], EXACT)
