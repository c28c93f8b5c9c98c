"""The project speaks the field's plain English, and old coinages stay away."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trees import FOLDERS, ROOT, modules, name_of

INSTEAD = {
    "judge": "evaluate",
    "judged": "evaluated",
    "judges": "evaluates",
    "judging": "evaluating",
    "judgement": "likelihood",
    "judgements": "likelihoods",
    "told": "called with, given",
    "ruling": "resolution",
    "rulings": "resolutions",
    "heed": "apply",
    "heeds": "applies",
    "roster": "party registry",
    "rivals": "conflicting requests",
    "complain": "report",
    "complaint": "validation error",
    "complaints": "validation errors",
    "spoilt": "corrupted",
    "beside": "next to, together with",
    "behind": "after",
    "slope": "gradient",
}
"""Words that stand for something else in the field's language."""

PHRASES = {
    r"goes? on from": "resumes after",
    r"whole rounds?": "completed round",
    r"requests? that meets?": "duplicate and conflicting requests",
    r"tak(?:e|es|en|ing) (?:it |them |a delta )?home": "export",
    r"for who\b": "for users who",
    r"count(?:s|ed|ing)? (?:a|the) covariance": "estimate a covariance",
}

ALLOWED = {
    # A profession and a place of the generated world, on which the model is trained.
    "sims/world/vocabulary.py": {"judge", "beside"},
    "tests/test_words.py": {*INSTEAD},
}
"""Files in which a word means itself."""

PROSE = [
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "sims/**/*.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"  # it says what the old words became
]
WORD = re.compile(r"[A-Za-z]+")
PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield names, comments and strings of a module, each with its line."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], " ".join(PARTS.findall(token.string))
        elif token.type in {tokenize.COMMENT, tokenize.STRING}:
            yield token.start[0], token.string.replace("_", " ")


def coinages(text: str) -> set[str]:
    """Find the coinages in a text, each with the word to use instead."""
    words = {word.lower() for word in WORD.findall(text)}
    flat = " ".join(text.split()).lower()
    found = {f"{word} → {INSTEAD[word]}" for word in words & set(INSTEAD)}
    return found | {
        f"{match[0]} → {better}"
        for pattern, better in PHRASES.items()
        for match in re.finditer(rf"\b{pattern}", flat)
    }


@pytest.mark.parametrize("path", PROSE, ids=name_of)
def test_pages_use_the_words_of_the_field(path: Path) -> None:
    """A researcher can search for every word of them."""
    prose = re.sub(r"`[^`\n]*test_\w+`", "", path.read_text(encoding="utf-8"))
    assert coinages(prose) == set()


@pytest.mark.parametrize("path", modules(*FOLDERS), ids=name_of)
def test_code_uses_the_words_of_the_field(path: Path) -> None:
    """In names, comments, docstrings and messages."""
    allowed = ALLOWED.get(name_of(path), set())
    found = [
        f"{name_of(path)}:{line}: {each}"
        for line, text in texts_of(path)
        for each in sorted(coinages(text))
        if each.split(" →")[0] not in allowed
    ]
    assert found == [] or name_of(path) == "tests/test_words.py"


def test_planted_coinages_are_found() -> None:
    """As words and as parts of names, and not within other words."""
    assert coinages("def judge_requests") == {"judge → evaluate"}
    assert coinages("it goes on\nfrom there") == {"goes on from → resumes after"}
    assert coinages("handle, unheeded, besides, prejudged") == set()
