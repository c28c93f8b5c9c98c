"""Laws of kept fingerprints: they are the computed ones, and any change is seen."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import editing.models.fingerprint_cache
from editing.algebra.fingerprints import Fingerprints
from editing.models.fingerprint_cache import (
    SETTLED,
    FingerprintCache,
    Stamp,
    load_known_model,
    stamp_model,
)
from editing.models.loading import EditableModel, load_editable_model
from tests.tiny import tiny_model

TICK = 0.02
"""Seconds between two changes whose times a present file system distinguishes."""

FOUND = Fingerprints("w" * 64, "t" * 64)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the tiny model as any other one is saved."""
    path = tmp_path_factory.mktemp("model")
    model = tiny_model(dtype=torch.float32)
    model.model.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Copy the model where a test may change it."""
    copy = tmp_path / "model"
    shutil.copytree(saved, copy)
    time.sleep(TICK)
    return copy


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FingerprintCache:
    """Make a cache that takes files down however young they are."""
    monkeypatch.setattr(editing.models.fingerprint_cache, "SETTLED", 0.0)
    return FingerprintCache(tmp_path / "cache" / "fingerprints")


def stamp(folder: Path, dtype: str = "float32", device: str = "cpu") -> Stamp:
    """Take the stamp of a folder that has one."""
    found = stamp_model(str(folder), dtype, device)
    assert found is not None
    return found


def load(
    folder: Path, cache: FingerprintCache, dtype: str = "float32"
) -> EditableModel:
    """Load as a client does."""
    return load_known_model(str(folder), dtype, "cpu", None, cache)


def fingerprints(model: EditableModel) -> Fingerprints:
    """Read by what a model is known."""
    return Fingerprints(model.fingerprint, model.tokenizer_fingerprint)


def never(*_: object) -> str:
    """Stand in for what must not be computed."""
    raise AssertionError("the weights were read again")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_kept_is_what_is_computed(
    folder: Path, cache: FingerprintCache, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a later process computes nothing."""
    expected = fingerprints(load_editable_model(str(folder), dtype))
    assert fingerprints(load(folder, cache, dtype)) == expected
    monkeypatch.setattr("editing.models.editable.fingerprint_model", never)
    assert fingerprints(load(folder, cache, dtype)) == expected


def test_precisions_devices_and_folders_are_kept_apart(
    folder: Path, cache: FingerprintCache
) -> None:
    """Each has fingerprints of its own, and none takes another's place."""
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    stamps = [
        stamp(folder),
        stamp(folder, "bfloat16"),
        stamp(folder, device="cuda"),
        stamp(other),
    ]
    found = [Fingerprints(f"{number}", "") for number in range(len(stamps))]
    for each, kept in zip(stamps, found, strict=True):
        assert cache.find(each) is None
        assert cache.keep(each, each, kept)
    assert [cache.find(each) for each in stamps] == found


def flip_a_bit(folder: Path) -> None:
    """Change a weight in place, and put the time of change back that programs set."""
    file = folder / "model.safetensors"
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read(1)[0]
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_in_its_place(folder: Path) -> None:
    """Rename a file of the same size and times over the weights."""
    file = folder / "model.safetensors"
    copy = folder.parent / "copy"
    shutil.copy2(file, copy)
    copy.replace(file)


def change_the_tokenizer(folder: Path) -> None:
    """Write a word otherwise."""
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace("Lovelace", "Lovelece"))


def change_the_configuration(folder: Path) -> None:
    """Let the head be another's."""
    file = folder / "config.json"
    values = json.loads(file.read_text()) | {"tie_word_embeddings": False}
    file.write_text(json.dumps(values))


def add_a_file(folder: Path) -> None:
    """Add weights that might be loaded instead."""
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")


def take_a_file_away(folder: Path) -> None:
    """Remove what a default stands in for."""
    (folder / "generation_config.json").unlink()


@pytest.mark.parametrize(
    "change",
    [
        flip_a_bit,
        put_another_in_its_place,
        change_the_tokenizer,
        change_the_configuration,
        add_a_file,
        take_a_file_away,
    ],
)
def test_a_changed_file_is_noticed(
    folder: Path, cache: FingerprintCache, change: Callable[[Path], None]
) -> None:
    """Whatever its size and the time that programs set say."""
    before = stamp(folder)
    assert cache.keep(before, before, FOUND)
    assert cache.find(stamp(folder)) == FOUND
    change(folder)
    assert cache.find(stamp(folder)) is None


def test_changed_weights_get_a_fingerprint_of_their_own(
    folder: Path, cache: FingerprintCache
) -> None:
    """As if there were no cache."""
    first = load(folder, cache)
    flip_a_bit(folder)
    time.sleep(TICK)
    assert load(folder, cache).fingerprint != first.fingerprint
    assert fingerprints(load(folder, cache)) == fingerprints(
        load_editable_model(str(folder))
    )


def test_a_model_that_changes_while_it_is_read_is_not_kept(
    folder: Path, cache: FingerprintCache
) -> None:
    """What was digested may be neither the old model nor the new one."""
    before = stamp(folder)
    flip_a_bit(folder)
    assert not cache.keep(before, stamp(folder), FOUND)
    assert not cache.keep(before, None, FOUND)
    assert cache.find(before) is None


def test_what_was_found_is_not_taken_for_a_model_that_changed_since(
    folder: Path, cache: FingerprintCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the files and the load of them."""
    load(folder, cache)

    def change_and_load(path: str, *_: object) -> EditableModel:
        flip_a_bit(Path(path))
        return load_editable_model(path)

    name = "editing.models.fingerprint_cache.load_editable_model"
    monkeypatch.setattr(name, change_and_load)
    found = load(folder, cache)
    assert fingerprints(found) == fingerprints(load_editable_model(str(folder)))


def test_files_that_are_too_young_are_not_kept(folder: Path, tmp_path: Path) -> None:
    """Their next change might have the same time; after a while it cannot."""
    cache, young = FingerprintCache(tmp_path / "cache"), stamp(folder)
    assert young.taken - young.newest < SETTLED
    assert not cache.keep(young, young, FOUND)
    older = Stamp(young.model, young.state, young.newest, young.newest + SETTLED)
    assert cache.keep(older, older, FOUND)
    assert cache.find(young) == FOUND


def test_a_file_of_a_clock_that_is_ahead_is_not_kept(
    folder: Path, cache: FingerprintCache
) -> None:
    """Nothing shows when its file system would give the next change another time."""
    os.utime(folder / "config.json", (0, time.time() + 3600))
    ahead = stamp(folder)
    assert not cache.keep(ahead, ahead, FOUND)


def cut_off(file: Path) -> None:
    """Leave half of it, as a full disk does."""
    file.write_text(file.read_text()[:40])


def write_no_object(file: Path) -> None:
    """Write JSON that says nothing."""
    file.write_text("[]")


def damage(file: Path) -> None:
    """Change a fingerprint, and not the sum."""
    file.write_text(file.read_text().replace("w" * 64, "x" * 64))


def let_others_write(file: Path) -> None:
    """Let the group write it."""
    file.chmod(0o620)


def put_a_folder(file: Path) -> None:
    """Put what is no file in its place."""
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "harm", [cut_off, write_no_object, damage, let_others_write, put_a_folder]
)
def test_a_broken_file_counts_as_missing(
    folder: Path, cache: FingerprintCache, harm: Callable[[Path], None]
) -> None:
    """And the model is loaded as if there were none."""
    before = stamp(folder)
    assert cache.keep(before, before, FOUND)
    (file,) = cache.path.iterdir()
    harm(file)
    assert cache.find(before) is None
    expected = fingerprints(load_editable_model(str(folder)))
    assert fingerprints(load(folder, cache)) == expected
    assert [each.name for each in cache.path.iterdir()] == [file.name]
    if file.is_file():
        assert cache.find(before) == expected


def test_what_is_kept_is_its_owner_s_alone(
    folder: Path, cache: FingerprintCache
) -> None:
    """Who may write it could have another model taken for this one."""
    before = stamp(folder)
    assert cache.keep(before, before, FOUND)
    (file,) = cache.path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert cache.path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_stops_nobody(
    folder: Path, cache: FingerprintCache, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning says what it costs."""
    cache.path.parent.write_text("no folder")
    expected = fingerprints(load_editable_model(str(folder)))
    assert fingerprints(load(folder, cache)) == expected
    assert "XDG_CACHE_HOME" in caplog.text


def test_what_lies_in_part_elsewhere_has_no_stamp(folder: Path) -> None:
    """A name at the hub, an adapter of a model elsewhere, a folder that is a link."""
    assert stamp_model("someone/some-model", "float32", "cpu") is None
    link = folder / "more"
    link.symlink_to(folder.parent, target_is_directory=True)
    assert stamp_model(str(folder), "float32", "cpu") is None
    link.unlink()
    (folder / "adapter_config.json").write_text("{}")
    assert stamp_model(str(folder), "float32", "cpu") is None


def test_the_target_of_a_link_is_examined(
    folder: Path, cache: FingerprintCache
) -> None:
    """As files lie in the cache of the hub."""
    file, blob = folder / "model.safetensors", folder.parent / "blob"
    file.rename(blob)
    file.symlink_to(blob)
    before = stamp(folder)
    assert cache.keep(before, before, FOUND)
    blob.write_bytes(blob.read_bytes())
    assert cache.find(stamp(folder)) is None
