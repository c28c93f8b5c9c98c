"""Published statistics are found by the names that their programs gave them."""

from pathlib import Path

import pytest

from editing.covariance.covariance import CovarianceError
from editing.covariance.published import check_names, find_files, parse_name
from editing.models.loading import EditableModel
from tests.tiny import LAYERS, tiny_model

MODULE = "transformer.h.{}.mlp.c_proj"


def model_called(name: str) -> EditableModel:
    """Make the tiny model, and say what it was loaded as."""
    model = tiny_model()
    model.model.config._name_or_path = name
    return model


def make_files(folder: Path, *endings: str, layers: tuple[int, ...] = LAYERS) -> None:
    """Make empty files, for names alone count here."""
    folder.mkdir(parents=True, exist_ok=True)
    for layer in layers:
        for ending in endings:
            (folder / f"{MODULE.format(layer)}_{ending}.npz").touch()


@pytest.mark.parametrize(
    ("ending", "precision", "cut", "samples"),
    [
        ("float32_mom2_100000", "float32", False, 100000),
        ("float64_mom2", "float64", False, None),
        ("float32_mean-mom2-norm_mean_500", "float32", False, 500),
        ("float16_mom2_t{batch_tokens}_100000", "float16", True, 100000),
        ("float32_mom2_t512", "float32", True, None),
    ],
)
def test_a_name_says_all_that_the_programs_wrote_into_it(
    tmp_path: Path, ending: str, precision: str, cut: bool, samples: int | None
) -> None:
    """ROME's, MEMIT's and EasyEdit's are made alike."""
    folder = tmp_path / "gpt2-xl" / "wikipedia_stats"
    said = parse_name(folder / f"{MODULE.format(17)}_{ending}.npz")
    assert said is not None
    assert (said.model, said.dataset) == ("gpt2-xl", "wikipedia_stats")
    assert said.module == "transformer.h.17.mlp.c_proj"
    assert (said.precision, said.cut, said.samples) == (precision, cut, samples)


@pytest.mark.parametrize("name", ["a.npz", "x_float32_mean_100.npz", "x_mom2.npz"])
def test_other_names_say_nothing(tmp_path: Path, name: str) -> None:
    """And are not refused for it."""
    assert parse_name(tmp_path / name) is None
    check_names([tmp_path / name], model_called("any"), (1,))


def test_outside_the_layout_a_file_says_its_module_alone(tmp_path: Path) -> None:
    """Who moved it knows whose it is."""
    make_files(tmp_path, "float32_mom2_100000")
    files = [tmp_path / f"{MODULE.format(k)}_float32_mom2_100000.npz" for k in LAYERS]
    check_names(files, model_called("any"), LAYERS)
    with pytest.raises(CovarianceError, match=r"of the module transformer\.h\.1"):
        check_names(files, model_called("any"), (2, 1))


@pytest.mark.parametrize(
    ("loaded_as", "folder"),
    [
        ("gpt2-xl", "gpt2-xl"),
        ("EleutherAI/gpt-j-6B", "EleutherAI_gpt-j-6B"),
        ("EleutherAI/gpt-j-6B", "gpt-j-6B"),
        ("/data/models/gpt-j-6b", "gpt-j-6B"),
        ("./EleutherAI/gpt-j-6B/", "EleutherAI_gpt-j-6B"),
        (
            "/c/hub/models--meta-llama--Llama-2-7b-hf/snapshots/01c7f7/",
            "meta-llama_Llama-2-7b-hf",
        ),
        ("/c/hub/models--openai-community--gpt2-xl/snapshots/15ea5", "gpt2-xl"),
    ],
)
def test_a_model_is_known_by_its_hub_name_and_by_its_folder(
    tmp_path: Path, loaded_as: str, folder: str
) -> None:
    """ROME and MEMIT write the whole name, EasyEdit its last part."""
    place = tmp_path / folder / "wikipedia_stats"
    make_files(place, "float32_mom2_100000")
    make_files(tmp_path / "another" / "wikipedia_stats", "float32_mom2_100000")
    found = find_files(tmp_path, model_called(loaded_as), LAYERS)
    assert [file.parent for file in found] == [place, place]
    assert [str(layer) in file.name for layer, file in zip(LAYERS, found, strict=True)]


def test_only_statistics_of_other_models_are_refused_by_their_names(
    tmp_path: Path,
) -> None:
    """From the folder of all, of the model, and of the data set."""
    place = tmp_path / "gpt2-xl" / "wikipedia_stats"
    make_files(place, "float32_mom2_100000")
    model = model_called("openai/gpt2-large")
    with pytest.raises(CovarianceError, match=r"statistics of gpt2-xl, .*gpt2-large"):
        find_files(tmp_path, model, LAYERS)
    for folder in (place, place.parent):
        with pytest.raises(CovarianceError, match=r"model gpt2-xl, .*gpt2-large"):
            find_files(folder, model, LAYERS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CovarianceError, match="no model at all"):
        find_files(tmp_path / "empty", model, LAYERS)


@pytest.mark.parametrize(
    ("endings", "best"),
    [
        (("float32_mom2_1000", "float32_mom2_100000"), "float32_mom2_100000"),
        (("float32_mom2", "float64_mom2_100000"), "float32_mom2"),
        (("float16_mom2_9", "float64_mom2_9", "float32_mom2_9"), "float64_mom2_9"),
        (("float64_mom2_t{batch_tokens}", "float32_mom2_5"), "float32_mom2_5"),
    ],
)
def test_of_several_sets_whole_texts_go_first_then_samples_then_precision(
    tmp_path: Path, endings: tuple[str, ...], best: str
) -> None:
    """One set for all layers."""
    make_files(tmp_path / "m" / "wikipedia_stats", *endings)
    found = find_files(tmp_path, model_called("m"), LAYERS)
    assert [file.name for file in found] == [
        f"{MODULE.format(layer)}_{best}.npz" for layer in LAYERS
    ]


def test_a_larger_set_that_lacks_a_layer_is_passed_over(tmp_path: Path) -> None:
    """Layers of different sets would not belong together."""
    folder = tmp_path / "m" / "wikipedia_stats"
    make_files(folder, "float32_mom2_1000")
    make_files(folder, "float32_mom2_100000", layers=LAYERS[:1])
    found = find_files(folder, model_called("m"), LAYERS)
    assert all(file.name.endswith("_1000.npz") for file in found)
    with pytest.raises(CovarianceError, match=r"no statistics of transformer\.h\.3"):
        find_files(folder, model_called("m"), (1, 3))


def test_several_data_sets_are_refused_by_their_names(tmp_path: Path) -> None:
    """Which text is meant is not ours to say; naming its folder says it."""
    for name in ("wikipedia_stats", "wikitext_stats"):
        make_files(tmp_path / "m" / name, "float32_mom2_100000")
    model = model_called("m")
    with pytest.raises(CovarianceError, match="wikipedia_stats and wikitext_stats"):
        find_files(tmp_path, model, LAYERS)
    found = find_files(tmp_path / "m" / "wikitext_stats", model, LAYERS)
    assert {file.parent.name for file in found} == {"wikitext_stats"}
