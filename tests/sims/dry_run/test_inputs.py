"""Texts and covariances are found, or it is said what to do."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from server.config import RunConfig, read_scenario
from sims.cli.options import DEFAULT_SCENARIO
from sims.dry_run.inputs import find_prior, fit_requests, read_merges, read_requests


def configure(*settings: str) -> RunConfig:
    """Read the default scenario with settings."""
    return read_scenario(DEFAULT_SCENARIO, settings)


def test_a_text_of_the_hub_is_read_up_to_its_first_document(tmp_path: Path) -> None:
    """A local folder stands in for the hub; one with no document is refused."""
    (tmp_path / "text.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    named = f"hub:{tmp_path}"
    config = configure(f"prior.text={named}")
    assert find_prior(config, "embedded") == f"estimated on {named}"
    missing = configure(f"prior.text=hub:{tmp_path / 'no'}")
    with pytest.raises(InputError, match="cannot be read as text"):
        find_prior(missing, "embedded")


def test_files_of_a_covariance_must_be_there(tmp_path: Path) -> None:
    """All of them."""
    kept = tmp_path / "layer_0.npz"
    kept.write_bytes(b"")
    both = configure(f'prior.covariance=["{kept}", "{tmp_path / "layer_1.npz"}"]')
    with pytest.raises(InputError, match="layer_1"):
        find_prior(both, "embedded")
    (tmp_path / "layer_1.npz").write_bytes(b"")
    assert "layer_0" in find_prior(both, "embedded")


def test_generated_text_needs_nothing() -> None:
    """Only the model."""
    assert "generates" in find_prior(configure("prior.text=self"), "embedded")


def test_merges_and_requests_are_read_as_a_run_reads_them() -> None:
    """With the number that is edited."""
    assert read_merges(configure()) == "collabedit"
    assert read_requests(configure()) == "160 in embedded, of which 100 are edited"
    with pytest.raises(InputError, match="not known without"):
        fit_requests(configure("requests.source=nowhere.json"), "embedded")
