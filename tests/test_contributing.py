"""The five steps that add a merge, carried out as they are written."""

import re
import shutil
import subprocess
import sys
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


def pattern_of(line: str) -> str:
    """Match a line of a diff; one that ends in `…` stands for all that begin so."""
    begun = line[1:].removesuffix("…")
    return re.escape(begun) + (r"[^\n]*" if line.endswith("…") else "")


def apply(diff: str, text: str, name: str) -> str:
    """Apply a diff without line numbers; each part must fit in one place only."""
    for part in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = [line or " " for line in part.splitlines()]
        old = [f"({pattern_of(line)})" for line in lines if not line.startswith("+")]
        found = list(re.finditer("^" + "\n".join(old) + "$", text, re.MULTILINE))
        assert len(found) == 1, f"{name} holds this {len(found)} times:\n{part}"
        kept = iter(found[0].groups())
        new = [
            (line, line[1:] if line.startswith("+") else next(kept)) for line in lines
        ]
        written = "\n".join(each for line, each in new if not line.startswith("-"))
        text = text[: found[0].start()] + written + text[found[0].end() :]
    return text


def carry_out(step: str, tree: Path) -> int:
    """Do what a step says; its parts must fit the files, each in one place."""
    blocks = BLOCK.findall(step)
    for verb, name, _, content in blocks:
        path = tree / name
        assert path.exists() == (verb == "Edit"), name
        if verb == "Create":
            path.write_text(content, encoding="utf-8")
        else:
            edited = apply(content, path.read_text(encoding="utf-8"), name)
            path.write_text(edited, encoding="utf-8")
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


def test_a_diff_must_fit_in_one_place() -> None:
    """Or the steps would do something else than they say."""
    text = "one\ntwo | and more\nthree\n"
    diff = " two |…\n+new\n@@\n-three\n+four\n"
    assert apply(diff, text, "text") == "one\ntwo | and more\nnew\nfour\n"
    for wrong in (" two\n+new\n", " t…\n+new\n"):
        with pytest.raises(AssertionError, match=r"holds this [02] times"):
            apply(wrong, text, "text")


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
