"""The word `embedded` stands for what comes with the system, wherever it was found."""

from pathlib import Path

import pytest

import editing.sources.embedded
from editing.base.errors import InputError, ModelFilesError
from editing.sources.embedded import (
    EMBEDDED,
    LARGER,
    file_in_model,
    locate_embedded,
    resolve_model,
    resolve_source,
)
from sims.deltas.model_folders import load_whole, stored_dtype
from sims.sizes.shapes import read_shape


def lay(root: Path, name: str = EMBEDDED) -> Path:
    """Lay what looks like a model of our own under a root."""
    folder = root / "sims" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Pretend that this code lies in one folder and the process is in another."""
    code, current = tmp_path / "code", tmp_path / "current"
    current.mkdir()
    module = code / "editing" / "sources" / "embedded.py"
    monkeypatch.setattr(editing.sources.embedded, "__file__", str(module))
    monkeypatch.chdir(current)
    return code, current


def test_a_clone_is_found_next_to_its_code_and_then_in_the_current_folder(
    roots: tuple[Path, Path],
) -> None:
    """A bundle that Flower unpacked elsewhere finds the clone it is started from."""
    code, current = roots
    there = lay(current)
    assert locate_embedded() == there
    here = lay(code)
    assert locate_embedded() == here
    assert resolve_model(EMBEDDED) == str(here)


def test_a_bundle_alone_names_the_command_that_exports_the_model(
    roots: tuple[Path, Path],
) -> None:
    """A folder without a model in it is none."""
    (roots[1] / "sims" / "embedded").mkdir(parents=True)
    with pytest.raises(InputError, match=r"export-model DIR.*model\.path"):
        resolve_model(EMBEDDED)


def test_the_larger_model_has_a_name_of_its_own(roots: tuple[Path, Path]) -> None:
    """Where it is missing, the command that exports it is named."""
    code, current = roots
    small, large = lay(code), lay(current, LARGER)
    assert resolve_model(EMBEDDED) == str(small)
    assert resolve_model(LARGER) == str(large)
    (large / "config.json").unlink()
    with pytest.raises(InputError, match=r"larger model.*export-model DIR --model lar"):
        resolve_model(LARGER)


@pytest.mark.parametrize("path", ["gpt2", "{}", "./embedded", "Embedded"])
def test_other_models_are_left_as_they_are(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the very word is reserved."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded").mkdir()
    path = path.format(tmp_path)
    assert resolve_model(path) == path


@pytest.mark.parametrize("path", ["/nope/nope", "./nope", "nope/sub/dir", "~/nope"])
def test_a_folder_that_is_not_there_is_no_hub_name(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the hub is not asked for it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFilesError, match=f"{path}.*there is no such folder"):
        resolve_model(path)
    with pytest.raises(ModelFilesError, match="there is no such folder"):
        load_whole(path, "float32")
    with pytest.raises(ModelFilesError, match="there is no such folder"):
        read_shape(path)
    with pytest.raises(InputError, match="there is no such folder"):
        stored_dtype(Path(path))


def test_files_in_a_model_s_folder_are_found_if_they_are_there(tmp_path: Path) -> None:
    """A hub id has none, and a folder is no file."""
    file = tmp_path / "text.txt"
    file.write_text("text")
    (tmp_path / "requests.json").mkdir()
    assert file_in_model(str(tmp_path), "text.txt") == file
    assert file_in_model(str(tmp_path), "held_out.json") is None
    assert file_in_model(str(tmp_path), "requests.json") is None
    assert file_in_model("EleutherAI/gpt-j-6b", "text.txt") is None


def test_an_embedded_source_is_the_model_s_own_and_a_path_is_a_path(
    tmp_path: Path,
) -> None:
    """A model without that file is an error that names the setting."""
    (tmp_path / "text.txt").write_text("text")
    model = str(tmp_path)
    found = resolve_source(EMBEDDED, model, "text.txt", "prior.text")
    assert found == tmp_path / "text.txt"
    assert resolve_source("/a/b", model, "text.txt", "prior.text") == Path("/a/b")
    with pytest.raises(InputError, match=r"`requests\.source`.*requests\.json"):
        resolve_source(EMBEDDED, model, "requests.json", "requests.source")
