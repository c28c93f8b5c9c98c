"""The five steps of CONTRIBUTING.md, carried out as they are written.

``python -m tests.steps FOLDER`` copies the tree to a folder and follows them there.
"""

import ast
import re
import shutil
import sys
from pathlib import Path

from tests.trees import FOLDERS, ROOT, imported_names, modules, name_of, parse

HEADING = "## How to add a merge, in five steps"
STEP = re.compile(r"^### (\d)\. ", re.MULTILINE)
BLOCK = re.compile(
    r"(Create|Edit)\s`([^`\n]+)`:\n\n```(python|diff)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

LISTS = {
    "strategies.merges.choice.MERGES",
    "strategies.merges.choice.known_names",
    "strategies.methods.known_methods",
}
"""What lists all merges."""

APART = {"tests/test_contributing.py", "tests/test_containers.py"}
"""Tests of the whole tree that no merge can change; the first follows the steps."""


def left_out(folder: str, names: list[str]) -> set[str]:
    """Choose what is not copied: caches, and what git does not keep in the root."""
    own = {".git", ".hypothesis", ".venv", "results"} if Path(folder) == ROOT else set()
    return {
        name
        for name in names
        if name in own or name == "__pycache__" or name.endswith("_cache")
    }


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


def follow(tree: Path) -> None:
    """Copy the tree to a folder that is to be made, and follow all steps there."""
    shutil.copytree(ROOT, tree, ignore=left_out, symlinks=True)
    for step in steps():
        assert carry_out(step, tree) >= 1


def touched(prefix: str = "") -> list[str]:
    """List the Python files that the steps create or edit."""
    names = {name for step in steps() for _, name, _, _ in BLOCK.findall(step)}
    return sorted(each for each in names if re.match(rf"{prefix}.*\.py$", each))


def affected() -> list[str]:
    """List the tests that a further merge can make fail, as pytest names them.

    They are those that use a list of all merges from `LISTS`, those of the modules that
    use one, those of the documents and the layout, and those that the steps edit.
    """
    found = {name_of(path) for path in (ROOT / "tests").glob("test_*.py")} - APART
    for path in modules(*FOLDERS):
        tree, name = parse(path), name_of(path)
        lists = {each.rpartition(".")[2] for each in imported_names(tree) & LISTS}
        if lists and name.startswith("tests/"):
            found |= {f"{name}{part}" for part in parts_with(tree, lists)}
        elif lists:
            folder, _, file = name.rpartition("/")
            found.add(f"tests/{folder}/test_{file}")
    there = (name for name in found if (ROOT / name.partition("::")[0]).is_file())
    return sorted({*there, *touched("tests/")})


def parts_with(tree: ast.Module, words: set[str]) -> list[str]:
    """Name the tests of a module that use one of some names; all if a helper does."""
    users = [
        part
        for part in tree.body
        if any(isinstance(n, ast.Name) and n.id in words for n in ast.walk(part))
    ]
    names = [part.name for part in users if isinstance(part, ast.FunctionDef)]
    alone = len(names) == len(users) and all(n.startswith("test_") for n in names)
    return [f"::{name}" for name in names] if alone else [""]


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
