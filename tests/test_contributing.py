"""The five steps that add a merge, carried out as they are written."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trees import FOLDERS, ROOT

HEADING = "## How to add a merge, in five steps"
STEP = re.compile(r"^### (\d)\. ", re.MULTILINE)
BLOCK = re.compile(
    r"(Create|Edit)\s`([^`\n]+)`:\n\n```(python|diff)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def steps() -> list[str]:
    """Read the numbered steps."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text.partition(f"{HEADING}\n")[2], flags=re.MULTILINE)[
        0
    ]
    numbered = STEP.split(section)[1:]
    assert numbered[::2] == list("12345")
    return numbered[1::2]


def hunks(diff: str) -> Iterator[tuple[str, str]]:
    """Yield what each part of a diff finds and what it leaves."""
    for part in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = [line or " " for line in part.splitlines()]
        before = [line[1:] for line in lines if not line.startswith("+")]
        after = [line[1:] for line in lines if not line.startswith("-")]
        yield "\n".join(before) + "\n", "\n".join(after) + "\n"


def carry_out(step: str, tree: Path) -> int:
    """Do what a step says; its parts must fit the files, each in one place."""
    blocks = BLOCK.findall(step)
    for verb, name, _, content in blocks:
        path = tree / name
        assert path.exists() == (verb == "Edit"), name
        text = path.read_text(encoding="utf-8") if verb == "Edit" else content
        for before, after in hunks(content) if verb == "Edit" else ():
            assert text.count(before) == 1, f"{name} holds this once:\n{before}"
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")
    return len(blocks)


def run(tree: Path, *arguments: str) -> None:
    """Run Python in the tree.

    Raises:
        AssertionError: With what it printed, if it fails.
    """
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=tree, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the tree without its data and follow the steps in the copy."""
    tree = tmp_path_factory.mktemp("clone")
    for folder in (*FOLDERS, "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "embedded", ".*")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tree)
    for step in steps():
        assert carry_out(step, tree) >= 1
    return tree


def touched(prefix: str = "") -> list[str]:
    """List the Python files that the steps create or edit."""
    names = {name for step in steps() for _, name, _, _ in BLOCK.findall(step)}
    return sorted(each for each in names if re.match(rf"{prefix}.*\.py$", each))


def test_the_tests_that_the_steps_write_pass(tree: Path) -> None:
    """Those of the merge, and those of the names by which a scenario chooses it."""
    tests = touched("tests/")
    assert "tests/strategies/merges/test_median.py" in tests
    run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


def test_the_new_files_pass_the_checks(tree: Path) -> None:
    """What a contributor copies is what the project would accept."""
    run(tree, "-m", "ruff", "check", "--no-cache", *touched())
    run(tree, "-m", "ruff", "format", "--no-cache", "--check", *touched())
