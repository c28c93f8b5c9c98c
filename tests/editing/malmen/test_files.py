"""A hypernetwork comes back bit for bit, and what is none is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from editing.malmen.files import FILE, SHAPE, read_hypernetwork, save_hypernetwork
from editing.malmen.hypernetwork import (
    Hypernetwork,
    HypernetworkError,
    HypernetworkShape,
)
from tests.hypernetworks import draw_hypernetwork

OWN = HypernetworkShape(layers=(0, 2), d_in=5, d_out=3, rank=2, blocks=2)

Tensors = dict[str, Tensor]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    """In its precision, with its shape, from any order of tensors."""
    net = draw_hypernetwork(OWN, dtype=dtype)
    save_hypernetwork(net, tmp_path / FILE)
    found = read_hypernetwork(tmp_path / FILE)
    assert found.shape == net.shape
    assert found.digest() == net.digest()
    for name, each in net.tensors.items():
        assert torch.equal(found.tensors[name], each)
    names = sorted(net.tensors)
    turned = Hypernetwork(OWN, {name: net.tensors[name] for name in names})
    save_hypernetwork(turned, tmp_path / "turned")
    assert (tmp_path / "turned").read_bytes() == (tmp_path / FILE).read_bytes()
    assert [*tmp_path.glob(".*")] == []


def header(**changes: object) -> str:
    """Write a shape with other entries."""
    return json.dumps(OWN.model_dump() | changes)


def without(tensors: Tensors) -> Tensors:
    """Leave one tensor out."""
    return {name: each for name, each in tensors.items() if name != "1.up"}


def put(name: str, value: float) -> Callable[[Tensors], Tensors]:
    """Change the last entry of a tensor."""

    def change(tensors: Tensors) -> Tensors:
        each = tensors[name].clone()
        each.view(-1)[-1] = value
        return tensors | {name: each}

    return change


@pytest.mark.parametrize(
    ("shape", "change", "said"),
    [
        (header(), without, "has 13 tensors, and a hypernetwork of 2 blocks has 14"),
        (header(), lambda t: without(t) | {"up": t["1.up"]}, r"`1\.up` is missing"),
        (header(rank=3), dict, r"`0\.down` is \(2, 8\), and its header wants \(3, 8\)"),
        (header(layers=[0]), dict, r"`rates` is \(2,\), and its header wants \(1,\)"),
        (header(blocks=10**9), dict, "has 14 .* of 1000000000 blocks"),
        (header(layers=[2, 0]), dict, "`hypernetwork`: .*layers.*ascending order"),
        (header(layers=[]), dict, "`hypernetwork`: .*layers.*ascending order"),
        (header(rank=0), dict, "`hypernetwork`: .*rank"),
        (header(width=8), dict, "`hypernetwork`: .*width"),
        ("[", dict, "`hypernetwork`: "),
        (None, dict, "its header has no `hypernetwork`"),
        (
            header(),
            lambda t: t | {"rates": t["rates"].float()},
            "holds .* kind F32, F64;",
        ),
        (header(), lambda t: {k: v.half() for k, v in t.items()}, "holds .* kind F16;"),
        (header(), put("1.bias", float("nan")), r"`1\.bias` .* not finite"),
        (header(), put("0.up", float("inf")), r"`0\.up` .* not finite"),
        (header(), put("scale", 0.0), "`scale` .* not positive"),
        (header(), put("rates", 1e4), "`rates` .* 0 or infinite"),
        (header(), put("ridges", -1e4), "`ridges` .* 0 or infinite"),
    ],
)
def test_what_is_none_is_refused(
    tmp_path: Path, shape: str | None, change: Callable[[Tensors], Tensors], said: str
) -> None:
    """Naming the file and the tensor."""
    tensors = {**draw_hypernetwork(OWN).tensors}
    texts = {} if shape is None else {SHAPE: shape}
    save_file(change(tensors), tmp_path / FILE, texts)
    with pytest.raises(HypernetworkError, match=f"(?s){FILE}: {said}"):
        read_hypernetwork(tmp_path / FILE)


def test_sizes_are_compared_before_numbers_are_read(tmp_path: Path) -> None:
    """A tensor of another size is refused for it, not for its entries."""
    tensors = {**draw_hypernetwork(OWN).tensors}
    tensors["1.bias"] = torch.full((7,), float("nan"), dtype=torch.float64)
    save_file(tensors, tmp_path / FILE, {SHAPE: header()})
    with pytest.raises(HypernetworkError, match=r"`1\.bias` is \(7,\)"):
        read_hypernetwork(tmp_path / FILE)


@pytest.mark.parametrize("content", [None, b"", b"\0" * 64, b"{}"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty, or no safetensors."""
    file = tmp_path / FILE
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(HypernetworkError, match=f"{FILE}: no hypernetwork can be read"):
        read_hypernetwork(file)
    with pytest.raises(HypernetworkError, match="no hypernetwork can be read"):
        read_hypernetwork(tmp_path)
