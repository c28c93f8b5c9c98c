"""Reading the tree's own Python files."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BUNDLED = ("editing", "strategies", "clients", "server")
"""The folders that travel to every node, from the inside out."""

PRODUCT = (*BUNDLED, "sims", "deploy")
"""The folders that hold the system."""

FOLDERS = (*PRODUCT, "tests")


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


def imported_names(tree: ast.AST) -> set[str]:
    """Name what a syntax tree imports from modules, each as ``module.name``."""
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def public(path: Path) -> set[str]:
    """Name the public functions and classes that a module defines."""
    return {
        node.name
        for node in parse(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    }


def rooms(*folders: str) -> list[Path]:
    """List the folders that hold modules, in a stable order."""
    return sorted({path.parent for path in modules(*folders)})


def import_graph(*folders: str) -> dict[str, set[str]]:
    """Map each module to those of the same folders that it imports."""
    paths = {
        name_of(path).removesuffix(".py").replace("/", "."): path
        for path in modules(*folders)
        if path.name != "__init__.py"
    }
    return {
        name: (imported(tree) | imported_names(tree)) & paths.keys()
        for name, tree in ((name, parse(path)) for name, path in paths.items())
    }


def between_rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Contract a graph of modules to one of rooms.

    A module directly below a top-level folder stands for itself.
    """

    def room_of(module: str) -> str:
        return module.rpartition(".")[0] if module.count(".") > 1 else module

    joined: dict[str, set[str]] = {}
    for module, targets in graph.items():
        own = joined.setdefault(room_of(module), set())
        own.update({room_of(each) for each in targets} - {room_of(module)})
    return joined


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """List the sets of nodes that reach each other, sorted."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for each in graph.get(waiting.pop(), set()) - seen:
                seen.add(each)
                waiting.append(each)
        return seen

    reach = {node: reached(node) for node in graph}
    found = {
        tuple(
            sorted(
                other
                for other in graph
                if other in reach[node] and node in reach[other]
            )
        )
        for node in graph
        if node in reach[node]
    }
    return [list(each) for each in sorted(found)]
