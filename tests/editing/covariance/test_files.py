"""Covariance files: what is saved loads, what others publish is read, or refused."""

import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file

from editing.covariance.covariance import (
    Covariance,
    CovarianceError,
    Provenance,
    compute_covariance,
    with_ridge,
)
from editing.covariance.files import (
    check_moment,
    load_covariance,
    load_published,
    save_covariance,
)
from editing.models.loading import EditableModel
from tests.laws import assert_same, draw_prior
from tests.tiny import LAYERS, tiny_model

MODEL = tiny_model()
TEXTS = ["the old map under the stairs .", "Ada Lovelace works for Acme ."]


@pytest.fixture(scope="module")
def covariance() -> Covariance:
    """Compute one of two layers, with a ridge, for the text is short."""
    return with_ridge(compute_covariance(MODEL, TEXTS, LAYERS, "tiny texts"))


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


@pytest.mark.parametrize(
    ("tensors", "metadata", "held"),
    [
        (("h.0.mlp.c_proj.weight",), {"merge": "ties"}, r"it holds h\.0\.mlp\.c_proj"),
        (("h.0.mlp.c_proj.weight",), None, r"it holds h\.0\.mlp\.c_proj"),
        (("moment.1", "moment.x"), {"provenance": "{}"}, r"it holds moment\.x"),
        (("moment.1",), None, "names no `provenance`"),
        ((), {"provenance": "{}"}, "it is empty"),
    ],
)
def test_a_safetensors_file_of_something_else_is_refused(
    tmp_path: Path, tensors: tuple[str, ...], metadata: dict[str, str] | None, held: str
) -> None:
    """A delta, a model's weights, or moments of unknown origin."""
    path = tmp_path / "delta.safetensors"
    save_file({name: torch.eye(2) for name in tensors}, path, metadata)
    reason = rf"delta\.safetensors: is a safetensors file and no covariance.*{held}"
    with pytest.raises(CovarianceError, match=reason):
        load_covariance([path], (1,))


@pytest.mark.parametrize("place", ["/proc", "mine"])
def test_what_cannot_be_written_is_one_line(
    covariance: Covariance, tmp_path: Path, place: str
) -> None:
    """Naming the file, whichever part of the writing fails."""
    (tmp_path / "mine").write_text("")
    path = tmp_path / place / "a.safetensors"
    with pytest.raises(CovarianceError, match=rf"{path}: the covariance cannot be"):
        save_covariance(covariance, path)


def write_moments(path: Path, total: npt.NDArray[Any], count: int | None) -> None:
    """Write a file as ROME, MEMIT and EasyEdit do, whose names have a dot."""
    arrays: dict[str, Any] = {
        "mom2.constructor": np.array("util.runningstats.SecondMoment()"),
        "mom2.mom2": total,
        "constructor": np.array("util.runningstats.CombinedStat()"),
        "sample_size": np.array(100000),
    }
    if count is not None:
        arrays["mom2.count"] = np.array(count)
    path.parent.mkdir(parents=True, exist_ok=True)
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
    with pytest.raises(CovarianceError, match="no ROME/MEMIT covariance") as caught:
        load_covariance([tmp_path / "a.npz"], (1,))
    assert "pickle" not in str(caught.value)


def test_a_file_of_ours_under_a_published_name_is_refused(
    covariance: Covariance, tmp_path: Path
) -> None:
    """NumPy's advice, to load what may run its author's code, is not passed on."""
    save_covariance(covariance, tmp_path / "a.npz")
    for paths, layers in (("a.npz",), (1,)), (("a.npz", "a.npz"), LAYERS):
        with pytest.raises(CovarianceError, match=r"is safetensors; one of") as caught:
            load_covariance([tmp_path / each for each in paths], layers)
        assert "pickle" not in str(caught.value)


def test_the_sum_in_a_published_file_is_never_taken_for_the_mean(
    tmp_path: Path,
) -> None:
    """The mean is the sum over the count, which may be as large as MEMIT's."""
    mean = draw_prior(3)
    write_moments(tmp_path / "a.npz", mean.numpy() * 44_000_000, 44_000_000)
    found = load_published(tmp_path / "a.npz")
    assert found.tokens == 44_000_000
    assert_same(found.mean(), mean, 1e-12)


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_of_no_token_is_refused(tmp_path: Path, count: int) -> None:
    """There is no mean over it."""
    write_moments(tmp_path / "a.npz", np.eye(3), count)
    with pytest.raises(CovarianceError, match=rf"a\.npz: `mom2.count` is {count}"):
        load_covariance([tmp_path / "a.npz"], (1,))


def test_a_sum_without_its_count_is_refused(tmp_path: Path) -> None:
    """The mean cannot be computed."""
    write_moments(tmp_path / "a.npz", np.eye(3), None)
    with pytest.raises(CovarianceError, match=r"mom2\.count"):
        load_covariance([tmp_path / "a.npz"], (1,))


def invalid_moments() -> list[tuple[torch.Tensor, str]]:
    """Give matrices that no sum of outer products can be."""
    eye = torch.eye(3, dtype=torch.float64)
    infinite, negative, lopsided = eye.clone(), eye.clone(), eye.clone()
    infinite[0, 1] = torch.nan
    negative[1, 1] = -1e-9
    lopsided[0, 2] = 0.01
    return [
        (infinite, "no finite numbers"),
        (negative, "negative entry on its diagonal"),
        (lopsided, "not symmetric"),
        (eye[:2], "2 × 3; wanted a square"),
        (eye[0, 0], "a single number"),
    ]


@pytest.mark.parametrize(("moment", "reason"), invalid_moments())
def test_an_impossible_second_moment_is_refused(
    tmp_path: Path, moment: torch.Tensor, reason: str
) -> None:
    """In their files and in ours."""
    write_moments(tmp_path / "a.npz", moment.numpy(), 4)
    with pytest.raises(CovarianceError, match=reason):
        load_covariance([tmp_path / "a.npz"], (1,))
    provenance = {"fingerprint": "", "dataset": "x", "tokens": 4}
    save_file(
        {"moment.1": moment.contiguous()},
        tmp_path / "b.safetensors",
        {"provenance": json.dumps(provenance)},
    )
    with pytest.raises(CovarianceError, match=reason):
        load_covariance([tmp_path / "b.safetensors"], (1,))


def test_the_rounding_of_single_precision_is_no_asymmetry() -> None:
    """Two halves that were summed in another order."""
    keys = torch.randn(500, 40, generator=torch.Generator().manual_seed(0))
    total = (keys.mT @ keys).double()
    check_moment(total * (1 + 1e-5 * torch.rand(40, 40).double()), "rounded")


def test_a_file_from_before_ranks_were_kept_still_loads(tmp_path: Path) -> None:
    """It says nothing of ranks and ridges."""
    provenance = {"fingerprint": "f", "dataset": "x", "tokens": 4}
    save_file(
        {"moment.1": draw_prior()},
        tmp_path / "a.safetensors",
        {"provenance": json.dumps(provenance)},
    )
    loaded = load_covariance([tmp_path / "a.safetensors"], (1,))
    assert loaded.provenance == Provenance("f", "x", 4)
    assert loaded.provenance.ranks == {}
    assert loaded.provenance.dtype == ""


def test_a_file_over_no_token_is_refused(tmp_path: Path) -> None:
    """Also one of ours."""
    made = Covariance({1: draw_prior()}, Provenance("f", "x", 0))
    save_covariance(made, tmp_path / "a.safetensors")
    with pytest.raises(CovarianceError, match="says 0 tokens"):
        load_covariance([tmp_path / "a.safetensors"], (1,))


def named(model: EditableModel, name: str) -> EditableModel:
    """Say what a model was loaded as."""
    model.model.config._name_or_path = name
    return model


def test_a_folder_of_published_statistics_is_read(tmp_path: Path) -> None:
    """Each layer's own file, whatever the order of layers."""
    model = named(tiny_model(inner=5), "acme/tiny-gpt")
    folder = tmp_path / "stats" / "acme_tiny-gpt" / "wikipedia_stats"
    means = {layer: draw_prior(layer) for layer in LAYERS}
    for layer, mean in means.items():
        file = f"transformer.h.{layer}.mlp.c_proj_float32_mom2_100000.npz"
        write_moments(folder / file, 10 * mean.numpy(), 10)
    for place in (tmp_path / "stats", folder.parent, folder):
        for layers in (LAYERS, LAYERS[::-1]):
            found = load_covariance([place], layers, model)
            for layer in layers:
                assert_same(found.moments[layer], means[layer])
    with pytest.raises(CovarianceError, match="is a folder; name the files"):
        load_covariance([folder], LAYERS)


def test_a_listed_file_of_another_layer_or_model_is_refused(tmp_path: Path) -> None:
    """By its name, and by its folder's."""
    model = named(tiny_model(inner=5), "acme/tiny-gpt")
    folder = tmp_path / "acme_tiny-gpt" / "wikipedia_stats"
    files = [
        folder / f"transformer.h.{layer}.mlp.c_proj_float32_mom2_100000.npz"
        for layer in LAYERS
    ]
    for file in files:
        write_moments(file, 10 * draw_prior().numpy(), 10)
    load_covariance(files, LAYERS, model)
    with pytest.raises(CovarianceError, match=r"of the module transformer\.h\.2"):
        load_covariance(files[::-1], LAYERS, model)
    with pytest.raises(
        CovarianceError, match=r"model acme_tiny-gpt, and this model is"
    ):
        load_covariance(files, LAYERS, named(tiny_model(), "acme/other-gpt"))


@pytest.mark.parametrize("width", [None, 24])
def test_an_array_that_is_packed_too_well_is_refused_unread(
    width: int | None, tmp_path: Path
) -> None:
    """A small file of zeros takes no memory, whether its width is known or not."""
    path = tmp_path / "a.npz"
    zeros = np.zeros((3000, 3000))
    arrays: dict[str, Any] = {"mom2.mom2": zeros, "mom2.count": np.array(3)}
    np.savez_compressed(path, **arrays)
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    with pytest.raises(CovarianceError, match=r"packed so well|24 wide"):
        load_published(path, width)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20 < zeros.nbytes


@pytest.mark.parametrize("shape", [(2**40,), (40_000, 40_000), (-3, 3), (3,), (0, 0)])
def test_a_header_that_names_another_size_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Before any memory is asked for."""
    path = tmp_path / "a.npz"
    array = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(array, described)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mom2.mom2.npy", array.getvalue() + bytes(72))
    with pytest.raises(CovarianceError, match="header names"):
        load_published(path)


@pytest.mark.parametrize("width", [3, 5])
def test_a_sum_of_another_width_is_refused(width: int, tmp_path: Path) -> None:
    """The edited layer's keys say how wide it is."""
    path = tmp_path / "a.npz"
    write_moments(path, np.eye(width), 3)
    assert load_published(path, width).tokens == 3
    with pytest.raises(CovarianceError, match=f"{width} wide and this model's keys"):
        load_published(path, 4)
