"""JSON files of a model's folder that hold no object are named, not stumbled over."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.files.model_json import check_json_files
from editing.models.loading import load_editable_model, load_tokenizer
from sims.deltas.model_folders import load_whole, stored_dtype
from sims.sizes.shapes import read_shape
from tests.sims.homes import Base


def test_a_saved_folder_and_a_hub_name_are_no_fault(tmp_path: Path) -> None:
    """Nor is a file that is no JSON at all, which the library refuses."""
    path = Base(tmp_path).path
    check_json_files(str(path))
    check_json_files("owner/name")
    (path / "config.json").write_text("")
    (path / "model.safetensors.index.json").write_text("{")
    check_json_files(str(path))


@pytest.mark.parametrize(
    ("name", "text", "got"),
    [
        ("config.json", "[]", "a list"),
        ("config.json", ' "gpt2"', "a text"),
        ("config.json", "-3.5", "a number"),
        ("tokenizer.json", "[1]", "a list"),
        ("tokenizer_config.json", "null", "null"),
        ("model.safetensors.index.json", "true", "true"),
        ("model.safetensors.index.json", '{"weight_map": []}', "none"),
    ],
)
def test_a_file_of_another_kind_is_named_whoever_reads_the_folder(
    tmp_path: Path, name: str, text: str, got: str
) -> None:
    """In one line, with what was wanted."""
    path = Base(tmp_path).path
    (path / name).write_text(text)
    readers = (
        lambda: load_editable_model(str(path)),
        lambda: load_tokenizer(str(path)),
        lambda: load_whole(str(path), "float32"),
        lambda: stored_dtype(path),
        lambda: read_shape(str(path), (0,)),
    )
    for read in readers:
        with pytest.raises(InputError, match=f"{name}: wanted a JSON object.*{got}"):
            read()
