"""The steps of CONTRIBUTING.md that add a merge and an editor, carried out as written.

``python -m tests.steps FOLDER`` copies the tree to a folder and follows them there.
"""

import re
import shutil
import sys
from pathlib import Path

from tests.trees import ROOT

HEADINGS = {
    "## How to add a merge, in five steps": "12345",
    "## How to add an editor, in four steps": "1234",
}
"""The sections that are followed, and the numbers of their steps."""

STEP = re.compile(r"^### (\d)\. ", re.MULTILINE)
BLOCK = re.compile(
    r"(Create|Edit)\s`([^`\n]+)`:\n\n```(python|diff)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


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
    found: list[str] = []
    for heading, numbers in HEADINGS.items():
        rest = text.partition(f"{heading}\n")[2]
        section, *_ = re.split(r"^## ", rest, flags=re.MULTILINE)
        numbered = STEP.split(section)[1:]
        assert numbered[::2] == list(numbers)
        found += numbered[1::2]
    return found


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


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
