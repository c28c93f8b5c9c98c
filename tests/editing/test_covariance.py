"""Laws of the covariance: the mean over tokens, and of which model it is."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from editing.covariance import (
    Covariance,
    CovarianceError,
    Provenance,
    compute_covariance,
    load_covariance,
    save_covariance,
)
from tests.editing.test_activations import ROUNDING
from tests.laws import assert_same
from tests.tiny import LAYERS, WORDS, tiny_model, tiny_model_of_tuples

MODEL = tiny_model()
TEXTS = [
    "the old map under the stairs .",
    "Ada Lovelace works for Acme .",
    "",
    " ".join(WORDS[:63] * 2 + WORDS[:5]),
    "day",
]


def naive_moment(texts: list[str], layer: int) -> tuple[Tensor, int]:
    """Average ``k kᵀ`` over tokens, one piece of a text at a time."""
    keys: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        keys.extend(args[0][0])

    handle = MODEL.down_projection(layer).register_forward_pre_hook(keep)
    for text in texts:
        ids = MODEL.tokenizer(text)["input_ids"]
        for start in range(0, len(ids), 64):
            MODEL.model(input_ids=torch.tensor([ids[start : start + 64]]))
    handle.remove()
    moment = torch.stack([torch.outer(key, key) for key in keys]).mean(dim=0)
    return moment, len(keys)


@pytest.fixture(scope="module")
def covariance() -> Covariance:
    """Compute one of two layers."""
    return compute_covariance(MODEL, TEXTS, LAYERS, "tiny texts")


@pytest.mark.parametrize("layer", LAYERS)
def test_the_streamed_mean_is_the_naive_one(covariance: Covariance, layer: int) -> None:
    """Texts longer than the context in pieces, empty ones not at all."""
    moment, tokens = naive_moment(TEXTS, layer)
    assert_same(covariance.moments[layer], moment, ROUNDING)
    assert covariance.moments[layer].dtype == torch.float64
    assert covariance.provenance == Provenance(MODEL.fingerprint, "tiny texts", tokens)


@settings(max_examples=8)
@given(batch_tokens=st.integers(1, 400), order=st.permutations(range(5)))
def test_no_batch_and_no_order_changes_it(
    covariance: Covariance, batch_tokens: int, order: list[int]
) -> None:
    """Padding is not counted."""
    texts = [TEXTS[index] for index in order]
    other = compute_covariance(MODEL, texts, LAYERS, "tiny texts", batch_tokens)
    assert other.provenance == covariance.provenance
    for layer in LAYERS:
        assert_same(other.moments[layer], covariance.moments[layer], ROUNDING)


def test_sums_of_a_single_precision_model_are_in_double() -> None:
    """Products too: they equal those of the same keys in float64."""
    single = tiny_model(dtype=torch.float32)
    keys: list[Tensor] = []
    handle = single.down_projection(1).register_forward_pre_hook(
        lambda _, args: keys.append(args[0][0])
    )
    found = compute_covariance(single, [TEXTS[0]], [1], "one").moments[1]
    handle.remove()
    exact = keys[0].double()
    assert_same(found, exact.mT @ exact / len(exact), ROUNDING)


def test_blocks_may_return_tuples(covariance: Covariance) -> None:
    """The same moments."""
    other = compute_covariance(tiny_model_of_tuples(), TEXTS, LAYERS, "tiny texts")
    for layer in LAYERS:
        assert_same(other.moments[layer], covariance.moments[layer], ROUNDING)


def test_progress_counts_tokens(covariance: Covariance) -> None:
    """Up to all of them."""
    told: list[int] = []
    compute_covariance(MODEL, TEXTS, LAYERS, "tiny texts", 64, told.append)
    assert told == sorted(set(told))
    assert len(told) > 1
    assert told[-1] == covariance.provenance.tokens


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_token_is_an_error(texts: list[str]) -> None:
    """There is no mean of nothing."""
    with pytest.raises(CovarianceError, match="holds no token"):
        compute_covariance(MODEL, texts, LAYERS, "nothing")


def test_what_is_saved_loads(covariance: Covariance, tmp_path: Path) -> None:
    """Bit for bit, with its provenance, in a folder that was not there."""
    path = tmp_path / "new" / "covariance.safetensors"
    save_covariance(covariance, path)
    loaded = load_covariance([path], LAYERS)
    assert loaded.provenance == covariance.provenance
    assert loaded.moments.keys() == covariance.moments.keys()
    for layer, moment in covariance.moments.items():
        assert torch.equal(loaded.moments[layer], moment)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def write_moments(path: Path, total: npt.NDArray[Any], count: int) -> None:
    """Write a file as ROME and MEMIT do, whose names have a dot."""
    arrays: dict[str, Any] = {"mom2.mom2": total, "mom2.count": np.array(count)}
    np.savez(path, **arrays)


def test_files_of_memit_are_read_as_they_are(tmp_path: Path) -> None:
    """Sums and counts of each layer, in the order of the layers."""
    paths, sums = [], {}
    for layer, count in ((3, 10), (5, 20)):
        keys = torch.randn(count, 4, generator=torch.Generator().manual_seed(layer))
        sums[layer] = (keys.mT @ keys).double() / count
        path = tmp_path / f"{layer}.npz"
        write_moments(path, (keys.mT @ keys).numpy(), count)
        paths.append(path)
    loaded = load_covariance(paths, (3, 5))
    for layer in (3, 5):
        assert_same(loaded.moments[layer], sums[layer], 1e-6)
    assert loaded.provenance.tokens == 10
    assert loaded.provenance.fingerprint == ""


def test_files_must_be_as_many_as_layers(tmp_path: Path) -> None:
    """Nobody could tell which is whose."""
    with pytest.raises(CovarianceError, match=r"names 1 \.npz files for 2 edited"):
        load_covariance([tmp_path / "1.npz"], (1, 2))


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
@pytest.mark.parametrize("content", [None, b"", b"no numbers here", b"PK\x03\x04cut"])
def test_what_is_no_covariance_is_refused(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    """By its path."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CovarianceError, match=rf"{name}: no .*covariance can be read"):
        load_covariance([path], (1,))


def test_arrays_without_the_right_names_are_refused(tmp_path: Path) -> None:
    """Say which are wanted, whether it is one array or several."""
    np.savez(tmp_path / "a.npz", mean=np.eye(2))
    with pytest.raises(CovarianceError, match=r"mom2\.mom2.*Wanted the arrays"):
        load_covariance([tmp_path / "a.npz"], (1,))
    np.save(tmp_path / "b.npy", np.eye(2))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(CovarianceError, match="Wanted the arrays"):
        load_covariance([tmp_path / "b.npz"], (1,))


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    """Reading it would run what its author wrote."""
    write_moments(tmp_path / "a.npz", np.array([{}]), 1)
    with pytest.raises(CovarianceError, match="no ROME/MEMIT covariance"):
        load_covariance([tmp_path / "a.npz"], (1,))


def test_a_covariance_of_this_model_passes(covariance: Covariance) -> None:
    """And so does one that does not say of which model it is."""
    covariance.check(tiny_model(), LAYERS)
    Covariance(covariance.moments, Provenance("", "wikipedia", 9)).check(MODEL, [1])


def test_a_covariance_of_another_model_is_refused(covariance: Covariance) -> None:
    """Even of the same shape."""
    other = tiny_model(dtype=torch.float32)
    with pytest.raises(CovarianceError, match=r"another model .*this model's is"):
        covariance.check(other, LAYERS)


def test_a_missing_layer_is_refused(covariance: Covariance) -> None:
    """Say which there are."""
    with pytest.raises(CovarianceError, match=r"has layers \[1, 2\], and layer 3"):
        covariance.check(MODEL, [1, 3])


def test_another_width_is_refused(covariance: Covariance) -> None:
    """When the file does not say of which model it is."""
    unnamed = Covariance(covariance.moments, Provenance("", "wikipedia", 9))
    with pytest.raises(CovarianceError, match=r"layer 1 is 24 wide .* are 32 wide"):
        unnamed.check(tiny_model(inner=32), [1])
