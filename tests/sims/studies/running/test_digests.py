"""What makes two trials one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.config import RunConfig, read_scenario
from sims.studies.running import digests
from sims.studies.running.digests import digest_path, digest_trial
from tests.sims.studies.made_up import make_pool

POOL = make_pool(2)
SETTINGS = (
    "parties.count=2",
    "requests.source=pool.json",
    "editing.context-templates=words.json",
)


def read(folder: Path, *settings: str) -> RunConfig:
    """Read settings over a file of context templates in a folder."""
    scenario = folder / "mine.toml"
    scenario.write_text("")
    words = f"editing.context-templates={folder / 'words.json'}"
    return read_scenario(scenario, (*SETTINGS, words, *settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keep a file that the settings name."""
    (tmp_path / "words.json").write_text("[]")
    return tmp_path


def change_words(folder: Path, _: pytest.MonkeyPatch) -> None:
    """Change a file that is read."""
    (folder / "words.json").write_text('["{}"]')


def change_versions(_: Path, patch: pytest.MonkeyPatch) -> None:
    """Change the code."""
    patch.setattr(digests, "describe_versions", lambda: {"code": "other"})


@pytest.mark.parametrize(
    "setting", ["prior.weight=3", "merge.name=ties", "run.seed=1", "parties.count=3"]
)
def test_a_setting_makes_another_trial(setting: str, folder: Path) -> None:
    """Whatever it is."""
    assert digest_trial(read(folder), POOL) != digest_trial(read(folder, setting), POOL)


@pytest.mark.parametrize(
    "setting",
    ["requests.source=other.json", "output.directory=there", "run.name=mine"],
)
def test_a_place_makes_no_other_trial(setting: str, folder: Path) -> None:
    """Or no trial could be taken from another folder."""
    assert digest_trial(read(folder), POOL) == digest_trial(read(folder, setting), POOL)


@pytest.mark.parametrize("change", [change_words, change_versions])
def test_files_and_versions_belong_to_a_trial(
    change: Callable[[Path, pytest.MonkeyPatch], None],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another file at the same place, and other code, make other numbers."""
    before = digest_trial(read(folder), POOL)
    change(folder, monkeypatch)
    assert digest_trial(read(folder), POOL) != before


def test_requests_and_attacks_belong_to_a_trial(folder: Path) -> None:
    """In their order."""
    config = read(folder)
    found = {
        digest_trial(config, POOL),
        digest_trial(config, POOL[::-1]),
        digest_trial(config, POOL[1:]),
        digest_trial(config, POOL, "an attack"),
    }
    assert len(found) == 4


def test_a_folders_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    """Not of where it is."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one").write_text("1")
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")
    (tmp_path / "b" / "one").rename(tmp_path / "b" / "two")
    assert digest_path(tmp_path / "a") != digest_path(tmp_path / "b")
