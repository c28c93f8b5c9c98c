"""Values by a file that every machine reads its own copy of."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from editing.algebra.statistics import LayerStatistics
from editing.answers.pairs import AnswerPairs
from editing.answers.rule import Given
from editing.malmen.files import FILE, save_hypernetwork
from editing.malmen.hypernetwork import RIDGES, HypernetworkError, HypernetworkShape
from editing.malmen.rule import AnyRule, HypernetworkRule, complete
from tests.hypernetworks import draw_hypernetwork
from tests.laws import ALGEBRA, D_IN, D_OUT, assert_same, draw_pairs

SHAPE = HypernetworkShape(layers=(0, 2), d_in=D_IN, d_out=D_OUT, rank=2, blocks=2)
NET = draw_hypernetwork(SHAPE, dtype=torch.float32)
WIDTHS: Mapping[int, tuple[int, int]] = dict.fromkeys(SHAPE.layers, (D_OUT, D_IN))
PAIRS = {layer: AnswerPairs(*draw_pairs(4, layer)) for layer in SHAPE.layers}


@pytest.fixture
def rule(tmp_path: Path) -> AnyRule:
    """Read the file of a model's folder."""
    save_hypernetwork(NET, tmp_path / FILE)
    return complete(HypernetworkRule(), str(tmp_path), WIDTHS)


def test_values_are_the_hypernetwork_s_in_double_precision(
    tmp_path: Path, rule: AnyRule
) -> None:
    """Whatever the file's; and so are the statistics made of them."""
    given = Given(model_path=str(tmp_path))
    found, sent = rule.values(PAIRS, given), rule.statistics(PAIRS, given)
    for layer, own in PAIRS.items():
        values = NET.to(torch.float64).values(layer, own)
        assert_same(found[layer], values, ALGEBRA)
        assert_same(sent[layer].cross, values.mT @ own.keys, ALGEBRA)


def test_each_layer_is_solved_with_its_own_ridge(rule: AnyRule) -> None:
    """``B (S + e^λ I)⁻¹``, by an inverse."""
    keys, values = draw_pairs(9)
    for layer, ridge in zip(SHAPE.layers, NET.tensors[RIDGES], strict=True):
        found = rule.solve(layer, LayerStatistics.of_pairs(keys, values))
        system = keys.mT @ keys + ridge.double().exp() * torch.eye(D_IN).double()
        assert_same(found, values.mT @ keys @ torch.linalg.inv(system), ALGEBRA)


def test_a_job_tells_rules_apart(rule: AnyRule) -> None:
    """And carries digest and ridges to the last bit, but no tensor."""
    assert (rule.pools, rule.whitens) == (False, False)
    text = rule.model_dump_json()
    assert TypeAdapter(AnyRule).validate_json(text) == rule
    assert rule.files == {"hypernetwork": NET.digest()}
    assert len(text) < 300


def test_a_machine_may_have_its_file_elsewhere(tmp_path: Path, rule: AnyRule) -> None:
    """What it says goes before what the run says."""
    other = tmp_path / "other"
    (tmp_path / FILE).rename(other)
    found = rule.values(PAIRS, Given(hypernetwork=str(other)))
    named = HypernetworkRule(source=str(other))
    assert complete(named, "", WIDTHS).files == rule.files
    assert found.keys() == PAIRS.keys()


def test_another_hypernetwork_is_refused(tmp_path: Path, rule: AnyRule) -> None:
    """A number is enough; so is a file that is missing, or for other layers."""
    given = Given(model_path=str(tmp_path))
    moved = NET.with_tensors({"0.up": NET.tensors["0.up"] + 1e-3})
    save_hypernetwork(moved, tmp_path / FILE)
    with pytest.raises(HypernetworkError, match=rf"{FILE}.* {moved.digest()[:12]}…"):
        rule.values(PAIRS, given)
    with pytest.raises(HypernetworkError, match=r"is for layers \[0, 2\]"):
        rule.values({0: PAIRS[0]}, given)
    with pytest.raises(HypernetworkError, match=r"is for layers \[0, 2\]"):
        complete(HypernetworkRule(), str(tmp_path), {0: (D_OUT, D_IN), 2: (9, D_IN)})
    (tmp_path / FILE).unlink()
    with pytest.raises(HypernetworkError, match=r"`editor\.hypernetwork`.* has no"):
        rule.values(PAIRS, given)
