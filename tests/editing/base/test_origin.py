"""Laws of where a report comes from: date, versions and command, and no secret."""

import re
import shlex
import sys
from pathlib import Path

import flwr
import pytest
import torch

from editing.base.origin import (
    PROJECT,
    UNKNOWN,
    find_origin,
    find_version,
    hide_secrets,
    own_command,
)

COMMAND = "python -m sims run 'my file.toml' --set 'a.b=\"<c>\"' --engine in-process"
ROOT = Path(__file__).parents[3]


def test_versions_are_those_that_run() -> None:
    """The project's own comes from its file; what is not installed is said so."""
    origin = find_origin()
    (stated,) = re.findall(
        r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert origin.versions == {
        PROJECT: stated,
        "Flower": flwr.__version__,
        "torch": torch.__version__,
    }
    assert find_version("no-such-package-anywhere") == UNKNOWN
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", origin.date)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (COMMAND, COMMAND),
        ("a --token abc --set x=1", "a --token … --set x=1"),
        ("a --api-key=abc b", "a --api-key=… b"),
        ("a --set hub.password=abc", "a --set hub.password=…"),
        ("a https://me:abc@host/path", "a https://…@host/path"),
        ("a 'not closed abc", "'a '\"'\"'not closed abc'"),
    ],
)
def test_no_secret_is_shown(given: str, shown: str) -> None:
    """Neither an option's nor an address's; everything else stays."""
    assert shlex.split(hide_secrets(given)) == shlex.split(shown)
    assert hide_secrets(hide_secrets(given)) == hide_secrets(given)


def test_the_command_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``python -m sims`` alone: of another program nothing is claimed."""
    words = ["run", "a file.toml", "--set", "run.seed=1"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/sims/__main__.py", *words])
    assert own_command() == "python -m sims run 'a file.toml' --set run.seed=1"
    monkeypatch.setattr(sys, "argv", ["/somewhere/pytest/__main__.py", *words])
    assert own_command() == ""
