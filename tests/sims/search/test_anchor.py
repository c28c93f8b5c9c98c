"""The command measures the length of values that the facts of a model ask for."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editing.base.errors import InputError
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig
from editing.memit.context_templates import choose_templates
from editing.memit.norm_anchor import read_values
from editing.memit.targets import compute_targets
from editing.requests.edit_request import read_requests
from sims.cli.hyperparameters import app
from sims.search.anchor import AnchorOrder, measure_reference


def test_the_command_names_the_setting(world: Path) -> None:
    """With the mean length over the facts; the same again, and another for others."""
    words = ["norm-anchor", "--model", str(world), "--dtype", "float64"]
    found = CliRunner().invoke(app, [*words, "--count", "4"])
    assert found.exit_code == 0, found.output
    said = re.search(r"editing\.norm-anchor=(\S+)", found.output)
    assert said is not None
    order = AnchorOrder(str(world), "embedded", count=4, dtype="float64")
    reference = measure_reference(order)
    assert reference.facts == 4
    assert float(said[1]) == pytest.approx(reference.norm, rel=1e-5)
    one = AnchorOrder(str(world), "embedded", count=1, seed=2, dtype="float64")
    assert measure_reference(one).norm != reference.norm


def test_the_length_is_that_of_targets_of_a_run(world: Path) -> None:
    """Of all facts but the longest."""
    facts = read_requests(world / "requests.json")
    order = AnchorOrder(str(world), "embedded", count=len(facts), dtype="float64")
    reference = measure_reference(order)
    config = EditingConfig()
    choice = choose_hyperparameters(config, str(world))
    model = choice.load(str(world), "float64", "cpu")
    parameters = choice.fit(model)
    templates = choose_templates(model, config, world)
    targets = compute_targets(model, facts, templates, parameters)
    wanted = read_values(model, facts, parameters.layers[-1]) + targets.shift
    kept = sorted(wanted.norm(dim=1).tolist())[: len(facts) - len(facts) // 20]
    assert reference.norm == pytest.approx(sum(kept) / len(kept), rel=1e-6)
    assert reference.layer == parameters.layers[-1]


def test_no_facts_are_refused(world: Path, tmp_path: Path) -> None:
    """By the option."""
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(InputError, match=r"none\.json"):
        measure_reference(AnchorOrder(str(world), str(tmp_path / "none.json")))
