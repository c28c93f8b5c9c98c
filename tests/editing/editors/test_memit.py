"""MEMIT's solve is its definition, and with settings that of later papers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.memit import MemitEditor
from editing.editors.system import LayerState
from server.config import RunConfig, read_scenario
from tests.editing.editors.laws import WEIGHT, Past, assert_is_definition
from tests.laws import draw_pairs, draw_prior
from tests.trees import ROOT

SEEDS = st.integers(0, 2**16)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@given(seed=SEEDS)
def test_a_round_is_a_ridge_regression(ridge: float, seed: int) -> None:
    """``B (λC₀ + γM + ρI + S)⁻¹``."""

    def define(past: Past, gram: Tensor, cross: Tensor) -> Tensor:
        held = WEIGHT * past.text + past.gram
        held += ridge * torch.eye(len(gram), dtype=torch.float64)
        return cross @ (held + gram).inverse()

    assert_is_definition(MemitEditor(ridge=ridge), define, seed)


def read_preset(name: str) -> tuple[RunConfig, float]:
    """Read a scenario that is the preset of a paper; gives its ridge too."""
    config = read_scenario(ROOT / "sims" / "scenarios" / f"{name}.toml")
    assert config.editor.name == "memit"
    assert config.prior.memory_weight == 1
    ridge = config.editor.settings["ridge"]
    assert isinstance(ridge, float)
    assert ridge > 0
    return config, ridge


def edit_rounds(
    config: RunConfig, text: Tensor, rounds: list[tuple[Tensor, Tensor]], weight: float
) -> list[Tensor]:
    """Solve round by round, from keys and absolute values, by a scenario's editor."""
    editor, gamma = config.editor.build(), config.prior.memory_weight
    assert gamma != "lambda"
    past, total, deltas = torch.zeros_like(text), None, []
    for keys, values in rounds:
        written = 0.0 if total is None else keys @ total.mT
        state = LayerState(Prior(text, weight, past, gamma), total)
        cross = (values - written).mT @ keys
        sums = LayerStatistics.of_sums(keys.mT @ keys, cross, len(keys))
        deltas.append(editor.system(state).solve(sums))
        total = deltas[-1] if total is None else total + deltas[-1]
        past = past + keys.mT @ keys
    return deltas


def test_the_preset_of_encore_is_its_solve_and_its_stop() -> None:
    """``R Kᵀ (λC₀ + M + ρI + S)⁻¹``, with the ridge in proportion to ``λ``."""
    config, ridge = read_preset("encore")
    assert config.editing.stop == "top-1"
    assert ridge == pytest.approx(20 / 15_000 * 300)
    text, rounds = draw_prior(3), [draw_pairs(size, size) for size in (2, 3)]
    first, second = edit_rounds(config, text, rounds, WEIGHT)
    (keys, _), (later, values) = rounds
    held = (
        WEIGHT * text
        + ridge * torch.eye(len(text), dtype=torch.float64)
        + keys.mT @ keys
    )
    cross = (values - later @ first.mT).mT @ later
    gap = second @ (held + later.mT @ later) - cross
    assert gap.norm() < 1e-12 * cross.norm()


def test_the_preset_of_rlsedit_minimises_its_objective_over_all_rounds() -> None:
    """``Σ ‖D kᵢ − vᵢ‖² + λ²‖D‖² + μ²w tr(D C₀ Dᵀ)``, whatever the rounds."""
    config, ridge = read_preset("rlsedit")
    text, rounds = draw_prior(5), [draw_pairs(size, size) for size in (2, 3, 1)]
    total = torch.stack(edit_rounds(config, text, rounds, WEIGHT)).sum(dim=0)
    keys, values = (torch.cat(each) for each in zip(*rounds, strict=True))
    free = total.clone().requires_grad_()
    loss = (keys @ free.mT - values).square().sum() + ridge * free.square().sum()
    loss = loss + WEIGHT * ((free @ text) * free).sum()
    (gradient,) = torch.autograd.grad(loss, free)
    assert gradient.norm() < 1e-9 * (values.mT @ keys).norm()
