"""The calls of `sims.api` give what the engines and the definitions give."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from editing.algebra.deltas import applied
from editing.base.errors import InputError
from sims import api
from tests.federation import FLOAT32_PIPELINE, assert_same_delta
from tests.laws import ALGEBRA, assert_same
from tests.trees import ROOT

Changes = dict[str, object]

EDITORS: list[Changes] = [
    {},
    {"editor.name": "alphaedit", "editor.settings": {"post": [{"name": "rect"}]}},
    {"editor.name": "stableedit", "editor.settings": {"post": [{"name": "rect"}]}},
    {"editor.name": "malmen"},
]


@pytest.fixture
def changes(world: Path) -> Changes:
    """Settings of the tiny model."""
    pool = str(world / "requests.json")
    return {"model.path": str(world), "requests.source": pool, "model.dtype": "float64"}


def test_tensors_merge_as_defined() -> None:
    """``delta (λC₀ + Σ KᵀK) = Σ RᵀK``, and averages of what each solves alone."""
    generator = torch.Generator().manual_seed(3)

    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    parties = [(random(n, 5), random(n, 3)) for n in (2, 4)]
    root = random(9, 5)
    covariance = root.mT @ root

    def solve(keys: torch.Tensor, residuals: torch.Tensor) -> torch.Tensor:
        system = 2.0 * covariance + keys.mT @ keys
        return residuals.mT @ keys @ system.inverse()

    pooled = solve(*(torch.cat(each) for each in zip(*parties, strict=True)))
    assert_same(api.merge(parties, covariance, 2.0), pooled, ALGEBRA)
    mean = torch.stack([solve(*each) for each in parties]).mean(0)
    assert_same(api.merge(parties, covariance, 2.0, "simple-average"), mean, ALGEBRA)


@pytest.mark.parametrize("editor", EDITORS, ids=lambda each: each.get("editor.name"))
def test_parties_edit_what_one_machine_edits(
    tmp_path: Path, changes: Changes, editor: Changes
) -> None:
    """Parties of 3, 1 and no requests, in one round; steps after the merge included."""
    machine = api.Machine.load(changes=changes | editor)
    requests = machine.requests()[:4]
    update = machine.edit(requests)
    merges = ["collabedit", "global"]
    parties = [requests[:3], requests[3:], []]
    results = api.federate(
        requests=parties,
        merges=merges,
        changes=changes | editor,
        folder=tmp_path / "results",
    )
    for merge in merges:
        assert_same_delta(results.update(merge), update, FLOAT32_PIPELINE)
    found = machine.evaluate(requests, update)
    for name, value in found.items():
        printed = results.merges[str(name)]["collabedit"]
        assert printed == pytest.approx(value, rel=1e-4)
    with pytest.raises(InputError, match="no merge 'ties'"):
        results.update("ties")


def test_each_round_takes_an_equal_share(tmp_path: Path, changes: Changes) -> None:
    """Five and two requests over two rounds are 3 + 1, then 2 + 1."""
    changes |= {"run.rounds": 2, "editing.schedule": "frozen-uniform"}
    pool = api.Machine.load(changes=changes).requests()
    results = api.federate(
        requests=[pool[:5], pool[5:7]], changes=changes, folder=tmp_path / "results"
    )
    assert results.rounds["requests"].tolist() == [4, 3]
    assert list(results.rounds.index) == [("collabedit", 1), ("collabedit", 2)]


def test_a_saved_model_is_the_edited_one(tmp_path: Path, changes: Changes) -> None:
    """Transformers reads it; the machine's own model stays as it was."""
    machine = api.Machine.load(changes=changes)
    name = machine.model.weight_name(machine.preparation.plan.parameters.layers[0])
    before = machine.model.model.get_parameter(name).clone()
    update = machine.edit(machine.requests()[:2])
    machine.save(update, tmp_path / "edited")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "edited", dtype="auto")
    with applied(update, machine.model.model):
        expected = machine.model.model.get_parameter(name).clone()
    assert torch.equal(found.get_parameter(name), expected)
    assert torch.equal(machine.model.model.get_parameter(name), before)
    with pytest.raises(InputError):
        machine.save(update, tmp_path / "edited")


def test_a_wrong_setting_is_named() -> None:
    """It is the error of the command line."""
    with pytest.raises(InputError, match=r"run\.round"):
        api.read_settings(changes={"run.round": 2})


def test_the_twenty_lines_run(tmp_path: Path) -> None:
    """The script of the page, as it is."""
    script = ROOT / "docs" / "examples" / "twenty_lines.py"
    lines = [line for line in script.read_text().splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("#", '"'))]) <= 20
    printed = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    assert "simple-average" in printed
    assert (tmp_path / "out" / "results" / "report.html").is_file()


@pytest.mark.parametrize(
    ("keys", "residuals", "covariance", "wanted"),
    [
        (torch.ones(2, 5), torch.ones(3, 4), torch.eye(5), "party 1: keys"),
        (torch.ones(2, 6), torch.ones(2, 4), torch.eye(5), "party 1: keys"),
        (torch.ones(2, 5), torch.ones(2, 4) / 0, torch.eye(5), "party 1: .* finite"),
        (torch.ones(2, 5), torch.ones(2, 4), torch.ones(5, 6), "covariance"),
    ],
)
def test_tensors_of_no_edits_are_named(
    keys: torch.Tensor, residuals: torch.Tensor, covariance: torch.Tensor, wanted: str
) -> None:
    """Also an editor that solves other values, and no party at all."""
    own = (torch.ones(2, 5), torch.ones(2, 4))
    with pytest.raises(InputError, match=wanted):
        api.merge([own, (keys, residuals)], covariance, 1.0)
    with pytest.raises(InputError, match="no parties"):
        api.merge([], torch.eye(5), 1.0)
    with pytest.raises(InputError, match="solves values"):
        api.merge([own], torch.eye(5), 1.0, editor="ultraedit")
    with pytest.raises(InputError, match="no engine 'x'"):
        api.federate(engine="x")
