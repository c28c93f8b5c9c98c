"""Every file that a run reads has its digest, under the name it is refused by."""

from hashlib import sha256
from pathlib import Path

import pytest

from editing.evaluation.capability.config import CapabilityConfig
from editing.evaluation.capability.measure import CapabilityMeasure
from editing.requests.records import hub_revision
from server.inputs import (
    digest_capability,
    digest_file,
    digest_folder,
    digest_inputs,
    digest_source,
)
from strategies.partitioning.settings import RequestsConfig


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with requests and held-out facts."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "requests.json").write_text("its own")
    (folder / "held_out.json").write_text("facts")
    return folder


def test_each_file_is_digested_by_its_bytes(model: Path, tmp_path: Path) -> None:
    """And one that is not named, or that the server does not see, is left out."""
    source, templates = tmp_path / "mine.json", tmp_path / "phrasings.json"
    source.write_bytes(b"mine")
    templates.write_bytes(b"phrasings")
    named = RequestsConfig(source=str(source), templates=str(templates))
    assert digest_inputs(named, str(model)) == {
        "requests": sha256(b"mine").hexdigest(),
        "templates": sha256(b"phrasings").hexdigest(),
        "held_out": sha256(b"facts").hexdigest(),
    }
    source.unlink()
    (model / "held_out.json").unlink()
    assert set(digest_inputs(named, str(model))) == {"templates"}


def test_the_capability_curves_text_and_folder_of_tasks_are_digested(
    model: Path,
) -> None:
    """Each if it is named."""
    assert digest_capability(CapabilityMeasure()) == {}
    config = CapabilityConfig(text="x", tasks=("quiz",), task_dir=str(model))
    assert digest_capability(CapabilityMeasure(config, "some text")) == {
        "capability_text": sha256(b"some text").hexdigest(),
        "capability_tasks": digest_folder(model),
    }


def test_embedded_requests_are_those_in_the_models_folder(model: Path) -> None:
    """A hub id has no folder to look in."""
    found = digest_inputs(RequestsConfig(), str(model))
    assert found["requests"] == sha256(b"its own").hexdigest()
    assert digest_inputs(RequestsConfig(), "some/model") == {}


def test_what_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    """A node's path may be anything at the server."""
    assert digest_file(tmp_path) is None
    assert digest_file(tmp_path / "none") is None


def test_a_saved_folder_is_digested_by_all_that_it_holds(
    model: Path, tmp_path: Path
) -> None:
    """Names and bytes; the digest stays where the folder is moved."""
    saved = tmp_path / "saved"
    (saved / "test").mkdir(parents=True)
    (saved / "dataset_dict.json").write_text("{}")
    (saved / "test" / "data.arrow").write_bytes(b"rows")
    first = digest_source(str(saved))
    assert first == digest_folder(saved) != digest_folder(saved / "test")
    assert digest_inputs(RequestsConfig(source=str(saved)), str(model))["requests"] == (
        first
    )
    moved = saved.rename(tmp_path / "moved")
    assert digest_source(str(moved)) == first
    (moved / "test" / "data.arrow").rename(moved / "test" / "other.arrow")
    assert digest_source(str(moved)) not in {first, None}
    (moved / "test" / "other.arrow").rename(moved / "test" / "data.arrow")
    (moved / "test" / "data.arrow").write_bytes(b"ROWS")
    assert digest_source(str(moved)) not in {first, None}
    (moved / "dataset_dict.json").unlink()
    assert digest_source(str(moved)) is None


def test_a_data_set_of_the_hub_is_known_by_its_revision(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has no digest where it cannot be found."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "test.json").write_text("[]")
    named = RequestsConfig(source="hub:owner/name")
    digest = digest_inputs(named, str(model))["requests"]
    assert digest == hub_revision("hub:owner/name") == digest_source("hub:owner/name")
    assert digest_source("hub:owner/name:none.json") is None
