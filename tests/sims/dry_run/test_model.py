"""Files of a model are found in a folder, by an index, or in the hub's cache."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editing.base.errors import InputError
from sims.dry_run import model
from sims.dry_run.model import find_configuration, find_weights, weight_files
from sims.sizes.shapes import ModelShape

SHAPE = ModelShape("one", 10**9, d_out=3, d_in=5, layers=(1,), blocks=2)


def write_index(folder: Path, *parts: str) -> None:
    """Write an index of weights that several files hold."""
    listed = {f"weight {number}": part for number, part in enumerate(parts)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))


def test_an_index_names_the_files(tmp_path: Path) -> None:
    """Each once; one that is missing is named."""
    write_index(tmp_path, "a.safetensors", "b.safetensors", "a.safetensors")
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"index.json lists b\.safetensors"):
        list(weight_files(str(tmp_path)))
    save_file({"b": torch.zeros(5)}, tmp_path / "b.safetensors")
    found = [file.name for file in weight_files(str(tmp_path))]
    assert found == ["a.safetensors", "b.safetensors"]
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    assert find_weights(str(tmp_path), None) == "2 files, 160 B"
    with pytest.raises(InputError, match="1,000,000,000 parameters need more"):
        find_weights(str(tmp_path), SHAPE)


def test_a_folder_without_weights_names_what_it_lacks(tmp_path: Path) -> None:
    """As loading does."""
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert find_configuration(str(tmp_path)).endswith("of type gpt2")
    with pytest.raises(InputError, match=r"it has no .*safetensors"):
        find_weights(str(tmp_path), None)


def test_a_name_of_the_hub_is_looked_up_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not there is to be downloaded, and how much that is."""
    kept = {"config.json": tmp_path / "config.json"}
    kept["config.json"].write_text('{"model_type": "llama"}')

    def find(repository: str, name: str) -> str | None:
        assert repository == "owner/name"
        return str(kept[name]) if name in kept else None

    monkeypatch.setattr(model, "try_to_load_from_cache", find)
    assert find_configuration("owner/name").endswith("of type llama")
    with pytest.raises(InputError, match=r"hf download owner/name.*2\.00 GB in half"):
        find_weights("owner/name", SHAPE)
    kept["model.safetensors"] = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3)}, kept["model.safetensors"])
    kept["pytorch_model.bin"] = tmp_path / "config.json"
    assert find_weights("owner/name", None) == "1 file, 76 B"


@pytest.mark.parametrize(
    "text",
    ['{}', "[]", "null", '{"weight_map": ["a"]}', '{"weight_map": {"a": 3}}', "{",
     '{"weight_map": {"a": "../../etc/passwd"}}'],
)  # fmt: skip
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    """Nothing outside of the folder is looked at."""
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        list(weight_files(str(tmp_path)))


@pytest.mark.parametrize("text", ["[]", "null", "{"])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    """Whatever JSON it is."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        find_configuration(str(tmp_path))


@pytest.mark.parametrize("data", [b"", b"garbage"])
def test_a_damaged_file_of_weights_is_named(data: bytes, tmp_path: Path) -> None:
    """By its header alone."""
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="no whole file of weights"):
        find_weights(str(tmp_path), None)


def test_a_folder_that_is_not_there_is_no_name_of_the_hub(tmp_path: Path) -> None:
    """Nothing is looked up by a path."""
    with pytest.raises(InputError, match="neither a folder nor the cache"):
        find_configuration(str(tmp_path / "nowhere"))
