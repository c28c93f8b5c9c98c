"""Laws of what a model's folder lacks: it is named, and nothing else is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from editing.models.loading import (
    ModelError,
    load_editable_model,
    load_tokenizer,
    missing_files,
)
from tests.tiny import tiny_model

SAVED = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the tiny model as any other one is saved."""
    path = tmp_path_factory.mktemp("model")
    model = tiny_model(dtype=torch.float32)
    model.model.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


def files(folder: Path, *names: str) -> Path:
    """Put empty files into a folder."""
    for name in names:
        (folder / name).touch()
    return folder


def test_a_saved_model_lacks_nothing(folder: Path) -> None:
    """As the library writes it."""
    assert missing_files(folder, weights=True) == []
    assert {path.name for path in folder.iterdir()} >= set(SAVED)


@pytest.mark.parametrize(
    ("present", "lacking"),
    [
        ((), ["config.json", "tokenizer.json", "model.safetensors"]),
        (SAVED[2:], ["config.json", "tokenizer.json"]),
        (("config.json", "vocab.json", "pytorch_model.bin"), []),
        (("config.json", "spiece.model", "model.safetensors.index.json"), []),
        (("config.json", "qwen.tiktoken", "model-00001-of-2.safetensors"), []),
        (("adapter_config.json", "tokenizer.json", "adapter_model.safetensors"), []),
    ],
    ids=str,
)
def test_any_name_of_a_part_will_do(
    tmp_path: Path, present: tuple[str, ...], lacking: list[str]
) -> None:
    """Vocabularies and weights have many; `tokenizer_config.json` is neither."""
    assert missing_files(files(tmp_path, *present), weights=True) == lacking


def test_a_hub_name_or_a_file_lacks_nothing(tmp_path: Path) -> None:
    """What is wrong with them is another matter."""
    assert missing_files(Path("owner/name"), weights=True) == []
    assert missing_files(files(tmp_path, "file") / "file", weights=True) == []


def copy_without(folder: Path, place: Path, *left: str) -> str:
    """Copy a model's folder but for some files; gives the copy."""
    for path in folder.iterdir():
        if path.name not in left:
            (place / path.name).write_bytes(path.read_bytes())
    return str(place)


@pytest.mark.parametrize("load", [load_editable_model, load_tokenizer])
@pytest.mark.parametrize(
    "left",
    [
        ("config.json",),
        ("tokenizer.json",),
        ("tokenizer.json", "tokenizer_config.json"),
        ("config.json", "tokenizer.json"),
    ],
    ids=str,
)
def test_a_file_that_a_folder_lacks_is_named(
    folder: Path, tmp_path: Path, left: tuple[str, ...], load: Callable[[str], object]
) -> None:
    """And no other; whichever part would have met the gap first is not to blame."""
    with pytest.raises(ModelError) as caught:
        load(copy_without(folder, tmp_path, *left))
    reason = str(caught.value).partition("(")[2].partition(")")[0]
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (f"no {name}" in reason) == (name in left)


def test_weights_that_a_folder_lacks_are_named_to_those_who_need_them(
    folder: Path, tmp_path: Path
) -> None:
    """Counting tokens needs none."""
    place = copy_without(folder, tmp_path, "model.safetensors", "tokenizer.json")
    with pytest.raises(ModelError, match=r"no tokenizer\.json, no model\.safetensors"):
        load_editable_model(place)
    with pytest.raises(ModelError, match=r"it has no tokenizer\.json\)"):
        load_tokenizer(place)


def test_a_file_that_is_there_and_broken_is_not_called_missing(
    folder: Path, tmp_path: Path
) -> None:
    """Nor is a vocabulary under another name than this library's."""
    place = copy_without(folder, tmp_path, "tokenizer.json", "config.json")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "spiece.model").write_text("no vocabulary")
    with pytest.raises(ModelError) as caught:
        load_editable_model(place)
    assert "it has no" not in str(caught.value)
