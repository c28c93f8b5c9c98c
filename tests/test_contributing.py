"""The steps that add a merge and an editor, carried out as written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.steps import apply, follow, touched

pytestmark = pytest.mark.process


def run(tree: Path, *command: str) -> None:
    """Run a command in the tree, with this environment's programs.

    Raises:
        AssertionError: With what it printed, if it fails.
    """
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        command,
        cwd=tree,
        env={**environment, "PATH": programs},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the tree and follow the steps in the copy."""
    tree = tmp_path_factory.mktemp("clone") / "tree"
    follow(tree)
    return tree


def test_a_diff_must_fit_in_one_place() -> None:
    """Or the steps would do something else than they say."""
    text = "one\ntwo | and more\nthree\n"
    diff = " two |…\n+new\n@@\n-three\n+four\n"
    assert apply(diff, text, "text") == "one\ntwo | and more\nnew\nfour\n"
    for wrong in (" two\n+new\n", " t…\n+new\n"):
        with pytest.raises(AssertionError, match=r"holds this [02] times"):
            apply(wrong, text, "text")


def test_the_tests_that_the_steps_write_pass(tree: Path) -> None:
    """Those of the new classes and of their names; `.ci/run` runs others in a copy."""
    tests = touched("tests/")
    assert "tests/strategies/merges/test_median.py" in tests
    assert "tests/editing/editors/test_rlsedit.py" in tests
    run(tree, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


def test_the_comparison_of_all_merges_passes(tree: Path, tmp_path: Path) -> None:
    """The one that `.ci/run` makes, here without Flower's processes."""
    run(tree, ".ci/compare", str(tmp_path / "comparison"), "in-process")


def test_the_new_files_pass_the_checks(tree: Path) -> None:
    """What a contributor copies is what the project would accept."""
    run(tree, "ruff", "check", "--no-cache", *touched())
    run(tree, "ruff", "format", "--no-cache", "--check", *touched())
