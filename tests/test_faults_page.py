"""The page on faults names tests that there are."""

import ast
import re

from tests.trees import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_the_page_names_is_there() -> None:
    """A row whose test was renamed or removed would promise what nobody checks."""
    named = NAMED.findall((ROOT / "docs" / "faults.md").read_text(encoding="utf-8"))
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert name in functions, f"{path}::{name}"
