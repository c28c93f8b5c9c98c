"""Reading the tree's own Python files."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BUNDLED = ("editing", "strategies", "clients", "server")
"""The folders that travel to every node, from the inside out."""

FOLDERS = (*BUNDLED, "sims", "deploy", "tests")


def modules(*folders: str) -> list[Path]:
    """List the Python files of some folders, in a stable order."""
    return [
        path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def parse(path: Path) -> ast.Module:
    """Read a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    """Name a file from the root of the tree."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function with the number of lines below its docstring."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            first = body[0].lineno if body else (node.end_lineno or 0) + 1
            place = f"{name_of(path)}:{node.lineno} {node.name}"
            yield place, (node.end_lineno or 0) - first + 1


def imported(tree: ast.AST) -> set[str]:
    """Name every module that a syntax tree imports, at its top or later."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def public(path: Path) -> set[str]:
    """Name the public functions and classes that a module defines."""
    return {
        node.name
        for node in parse(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    }
