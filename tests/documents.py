"""Reading the documents: their links, their commands, and the keys they set."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, groupby, pairwise
from pathlib import Path

FENCE = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:[ \t]+(\S+)", re.MULTILINE)
SOURCE = re.compile(r"""\b(?:src|href|srcset)=["']([^"']+)["']""")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    @property
    def text(self) -> str:
        """The file as it is."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The file without its code blocks, in which `#` begins no heading."""
        return FENCE.sub("", self.text)

    def links(self) -> list[str]:
        """List the targets of links and images that are not on the web."""
        prose = INLINE_CODE.sub("", self.prose)
        found = [
            *LINK.findall(prose),
            *REFERENCE.findall(prose),
            *SOURCE.findall(prose),
        ]
        return [target for target in found if not ELSEWHERE.match(target)]

    def anchors(self) -> set[str]:
        """List the fragments a link may end in, as GitHub makes them of headings."""
        anchors: set[str] = set()
        for heading in HEADING.findall(self.prose):
            slug = slug_of(heading)
            numbered = (f"{slug}-{number}" for number in range(1, 100))
            anchors.add(
                slug
                if slug not in anchors
                else next(n for n in numbered if n not in anchors)
            )
        return anchors | set(
            re.findall(r"""\b(?:id|name)=["']([^"']+)["']""", self.prose)
        )

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command in code, whether in a block or in a line."""
        blocks = (block for _, _, block in FENCE.findall(self.text))
        lines = (
            line for each in blocks for line in each.replace("\\\n", " ").split("\n")
        )
        for line in (*lines, *INLINE_CODE.findall(self.prose)):
            yield from simple_commands(line.strip().removeprefix("$ "))


def slug_of(heading: str) -> str:
    """Turn a heading into its fragment: lower case, hyphens for blanks, no signs."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def broken_link(document: Document, target: str) -> str | None:
    """Say what is wrong with a link, if anything is."""
    place, _, fragment = target.partition("#")
    path = (document.path.parent / place) if place else document.path
    if not path.exists():
        return f"{document.path.name}: {target} leads to no file"
    if fragment and path.suffix == ".md" and fragment not in Document(path).anchors():
        return f"{document.path.name}: {target} leads to no heading"
    return None


def simple_commands(line: str) -> list[list[str]]:
    """Split a line of code as a shell does, at the signs that join commands too.

    Raises:
        ValueError: If a line that begins with a command we check leaves a quotation
            open; other code, such as Python's, need not be a shell's.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError as error:
        if re.match(r"(make|python3?|flwr) ", line):
            raise ValueError(f"{error}: {line}") from error
        return []
    operators = (set(word) <= set("|&;<>") for word in words)
    groups = groupby(zip(words, operators, strict=True), key=lambda pair: pair[1])
    return [[word for word, _ in group] for operator, group in groups if not operator]


def call(words: list[str], *program: str) -> list[str] | None:
    """Give the arguments of a call of a program, from wherever it is run."""
    rest = list(dropwhile(lambda word: re.match(r"\w+=", word), words))
    if not rest or [Path(rest[0]).name, *rest[1 : len(program)]] != list(program):
        return None
    return rest[len(program) :]


def make_targets(words: list[str]) -> list[str]:
    """List the targets that a call of make names."""
    arguments = call(words, "make") or []
    return [word for word in arguments if "=" not in word and not word.startswith("-")]


def sims_arguments(words: list[str]) -> list[str] | None:
    """Give what follows ``python -m sims``, without the brackets of a synopsis."""
    arguments = call(words, "python", "-m", "sims")
    return None if arguments is None else [word.strip("[]") for word in arguments]


def keys_set(words: list[str]) -> list[str]:
    """List the keys that a call of ``flwr run`` or of ``python -m sims`` sets."""
    arguments = call(words, "flwr", "run") or sims_arguments(words) or []
    return [
        key
        for option, value in pairwise(arguments)
        if option in {"--run-config", "-c", "--set"} and not value.endswith(".toml")
        for key in re.findall(r"""([\w.-]+)\s*=\s*(?:"[^"]*"|'[^']*'|\S+)""", value)
    ]
