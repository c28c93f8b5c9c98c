"""Laws of deltas: a model is edited for a while, and restored bit for bit."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from editing.algebra.deltas import (
    add_deltas,
    applied,
    load_delta,
    open_delta,
    relative_difference,
    save_delta,
    stores_transposed,
)
from tests.laws import assert_same


class TwoLayers(nn.Module):
    """One layer that stores ``d_out × d_in`` and one that stores the transpose."""

    def __init__(self, d_in: int, d_out: int) -> None:
        """Draw both, with a norm that no delta changes."""
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        self.conv = Conv1D(d_out, d_in)
        self.norm = nn.LayerNorm(d_out)


def random_delta(d_in: int, d_out: int) -> dict[str, Tensor]:
    """Draw an update of both layers, in float64."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(d_out, d_in, generator=generator, dtype=torch.float64)
        for name in ("linear.weight", "conv.weight")
    }


def bits(model: nn.Module) -> dict[str, Tensor]:
    """Copy all parameters."""
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def assert_same_bits(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Compare a model with a copy."""
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(("d_in", "d_out"), [(5, 3), (4, 4)])
@pytest.mark.parametrize("name", ["linear", "conv"])
def test_an_applied_delta_adds_its_product_with_the_input(
    name: str, d_in: int, d_out: int
) -> None:
    """``(W + Δ) x = W x + Δ x``; a square weight is oriented by its module alone."""
    model = TwoLayers(d_in, d_out).double().requires_grad_(False)
    delta = random_delta(d_in, d_out)
    inputs = torch.randn(7, d_in, dtype=torch.float64)
    layer = model.get_submodule(name)
    before = layer(inputs)
    with applied(delta, model):
        after = layer(inputs)
    assert_same(after - before, inputs @ delta[f"{name}.weight"].mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_given_back_bit_for_bit(dtype: torch.dtype) -> None:
    """Not by subtraction, which rounds."""
    model, delta = TwoLayers(5, 3).to(dtype), random_delta(5, 3)
    before = bits(model)
    with applied(delta, model) as edited:
        assert edited is model
        assert not torch.equal(model.linear.weight, before["linear.weight"])
        assert torch.equal(model.linear.bias, before["linear.bias"])
    assert_same_bits(model, before)


def test_a_model_is_given_back_after_an_exception() -> None:
    """And the exception propagates."""
    model, delta = TwoLayers(5, 3), random_delta(5, 3)
    before = bits(model)
    with pytest.raises(KeyboardInterrupt), applied(delta, model):
        raise KeyboardInterrupt
    assert_same_bits(model, before)


def test_loans_can_be_nested() -> None:
    """Each block takes back its own."""
    model, delta = TwoLayers(5, 3).double(), random_delta(5, 3)
    model.requires_grad_(False)
    before = bits(model)
    with applied(delta, model):
        once = bits(model)
        with applied(delta, model):
            gap = model.linear.weight - before["linear.weight"]
            assert_same(gap, 2 * delta["linear.weight"])
        assert_same_bits(model, once)
    assert_same_bits(model, before)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv.weight", (5, 3), r"`conv.weight` is \(5, 3\), and .* wants \(3, 5\)"),
        ("linear.weight", (3, 4), r"`linear.weight` is \(3, 4\).* wants \(3, 5\)"),
        ("gone.weight", (3, 5), "`gone.weight`, which this model does not have"),
        ("linear.gone", (3, 5), "`linear.gone`, which this model does not have"),
    ],
)
def test_a_delta_of_another_model_changes_nothing(
    name: str, shape: tuple[int, int], message: str
) -> None:
    """Not even the weights that it fits."""
    model = TwoLayers(5, 3)
    before = bits(model)
    delta = random_delta(5, 3) | {name: torch.ones(shape, dtype=torch.float64)}
    with pytest.raises(ValueError, match=message), applied(delta, model):
        pytest.fail("the block was entered")
    assert_same_bits(model, before)


def test_orientation_depends_on_the_type() -> None:
    """Subclasses included, and what has none is refused."""

    class Wide(nn.Linear):
        pass

    class Conv(Conv1D):
        pass

    assert not stores_transposed(Wide(4, 4))
    conv = Conv(4, 4)  # type: ignore[no-untyped-call]
    assert stores_transposed(conv)
    with pytest.raises(TypeError, match="Cannot edit a LayerNorm"):
        stores_transposed(nn.LayerNorm(4))


def test_a_module_that_only_shares_the_name_is_refused() -> None:
    """Its orientation is anybody's guess."""

    class Conv1D(nn.Module):
        pass

    with pytest.raises(TypeError, match="Cannot edit a Conv1D"):
        stores_transposed(Conv1D())


def test_deltas_add_weight_by_weight() -> None:
    """A weight that one of them leaves alone counts as zero there."""
    first, second = {"a": torch.ones(2), "b": torch.ones(2)}, {"b": torch.ones(2)}
    total = add_deltas(first, second | {"c": torch.full((2,), 3.0)})
    assert {name: each.tolist() for name, each in total.items()} == {
        "a": [1, 1],
        "b": [2, 2],
        "c": [3, 3],
    }
    assert first["b"].tolist() == [1, 1]


def test_the_relative_difference_is_that_of_the_worst_weight() -> None:
    """``max ‖delta − reference‖ / ‖reference‖``."""
    reference = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([10.0])}
    delta = {"a": torch.tensor([3.0, 3.0]), "b": torch.tensor([11.0])}
    assert relative_difference(delta, reference) == pytest.approx(0.2)
    assert relative_difference(reference, reference) == 0


def test_the_relative_difference_of_two_zero_updates_is_zero() -> None:
    """And what is no number remains none."""
    zero, other = {"a": torch.zeros(2, 2)}, {"a": torch.ones(2, 2)}
    assert relative_difference(zero, zero) == 0
    assert relative_difference(other, zero) == math.inf
    whole = {"first": other["a"], "second": other["a"]}
    spoiled = {**whole, "second": other["a"] * math.nan}
    assert math.isnan(relative_difference(spoiled, whole))


def test_a_saved_delta_loads_with_what_made_it(tmp_path: Path) -> None:
    """In float32, with its metadata as JSON values."""
    delta, path = random_delta(5, 3), tmp_path / "delta.safetensors"
    facts: dict[str, object] = {"merge": "ties", "rounds": 2, "layers": [1, 2]}
    save_delta({**delta, "view": delta["conv.weight"].mT}, path, facts)
    loaded, metadata = load_delta(path)
    assert metadata == facts
    assert loaded.keys() == {*delta, "view"}
    for name, update in delta.items():
        assert torch.equal(loaded[name], update.float())
    assert torch.equal(loaded["view"], delta["conv.weight"].mT.float())
    assert [each.name for each in tmp_path.iterdir()] == ["delta.safetensors"]


def test_a_save_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written file is never found under the name."""
    path = tmp_path / "delta.safetensors"
    save_delta(random_delta(5, 3), path, {"rounds": 1})
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_delta(random_delta(5, 3), path, {"rounds": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"no delta"])
def test_what_is_no_delta_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """By its path."""
    path = tmp_path / "delta.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"delta\.safetensors: no delta file can be"):
        load_delta(path)


def test_a_file_is_read_one_update_at_a_time(tmp_path: Path) -> None:
    """What it says of itself needs none of its values."""
    delta, path = random_delta(5, 3), tmp_path / "delta.safetensors"
    save_delta(delta, path, {"rounds": 2})
    file = open_delta(path)
    assert dict(file.metadata) == {"rounds": 2}
    assert dict(file.shapes) == {"conv.weight": (3, 5), "linear.weight": (3, 5)}
    for name, update in delta.items():
        assert torch.equal(file.read(name), update.float())


def test_a_delta_is_known_by_its_values_alone(tmp_path: Path) -> None:
    """Not by the order in its file, nor by what else stands there."""
    delta, path = random_delta(5, 3), tmp_path / "delta.safetensors"
    save_delta(delta, path, {"rounds": 2})
    known = open_delta(path).fingerprint()
    save_delta(dict(reversed(delta.items())), path, {"rounds": 3})
    assert open_delta(path).fingerprint() == known
    delta["conv.weight"][0, 0] += 1
    save_delta(delta, path, {"rounds": 2})
    assert open_delta(path).fingerprint() != known
