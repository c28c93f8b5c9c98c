"""Every file that a run reads has its digest, under the name it is refused by."""

from hashlib import sha256
from pathlib import Path

import pytest

from server.inputs import digest_file, digest_inputs
from strategies.scenario import RequestsConfig


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with requests and held-out facts beside it."""
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


def test_embedded_requests_are_those_beside_the_model(model: Path) -> None:
    """A hub id has no folder to look in."""
    found = digest_inputs(RequestsConfig(), str(model))
    assert found["requests"] == sha256(b"its own").hexdigest()
    assert digest_inputs(RequestsConfig(), "some/model") == {}


def test_what_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    """A node's path may be anything at the server."""
    assert digest_file(tmp_path) is None
    assert digest_file(tmp_path / "none") is None
