"""How a target follows its prompt in running text: with a space, or without one.

English puts a space between two words; Chinese, Japanese, Thai and others put none.
None follows white space, an opening quotation mark or bracket, or the marker that ends
a chat template, and none comes before closing punctuation.
"""

import re
import unicodedata
from typing import Literal, TypeAlias

TargetSpace: TypeAlias = Literal["auto", "always", "never"]
"""Whether a space is put before a target: as running text has it, always, or never."""

_UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, Tai Lue, Tai Tham, Tai Viet
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese, Javanese
    "\u2e80-\u303f\u3040-\u30ff\u31c0-\u31ff"  # radicals, CJK punctuation, Kana
    "\u3100-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\ua000-\ua4cf"  # Yi
    "\uff01-\uff9f"  # full-width forms, half-width Katakana
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"  # more Kana, more Han
    "]"
)
"""Characters of scripts that are written without spaces between words."""

_MARKER = re.compile(r"(?:<[|\uff5c]?/?[^\s<>|\uff5c]+[|\uff5c]?>|\[/?[A-Z_]{2,}\])$")
"""The end of a chat template's header, such as ``<|assistant|>`` or ``[/INST]``."""

_OPENING_CATEGORIES = frozenset({"Ps", "Pi"})
_CLOSING_CATEGORIES = frozenset({"Pe", "Pf"})

_CLOSES = re.compile(
    r"(?:[.,;:!?\u2026]+|%)(?=$|\W)|['\u2019](?:s|re|ll|ve|d|m)(?=$|\s)"
)
"""Beginnings of a target that continue the prompt: ``, who``, but not ``.NET``."""


def split_running_text(
    prompt: str, target: str, space: TargetSpace = "auto"
) -> tuple[str, str]:
    """Join a prompt and its target, and cut the text where the target begins.

    A single space at the prompt's end is counted as the target's, because tokenizers
    write a word together with the space before it.

    Args:
        prompt: A finished text.
        target: What follows; white space at its end is dropped, and a space at its
            beginning is kept, unless the prompt ends in white space.
        space: Whether a space is put between them.

    Returns:
        Two texts; one after the other they are the running text.
    """
    bare = target.strip()
    if space == "always":
        return prompt, f" {bare}"
    if prompt.endswith(" ") and not prompt[:-1].endswith((" ", "\t", "\n")):
        return (prompt[:-1], f" {bare}") if prompt != " " else (prompt, bare)
    if prompt[-1:].isspace() or not prompt:
        return prompt, bare
    own = target[:1].isspace()
    wanted = own or (space == "auto" and wants_space(prompt, bare))
    return prompt, f" {bare}" if wanted else bare


def wants_space(prompt: str, target: str) -> bool:
    """Whether running text has a space between a prompt and its target.

    Args:
        prompt: A text that does not end in white space.
        target: A text that does not begin with white space.
    """
    if _ends_open(prompt) or _begins_closed(target):
        return False
    last, first = prompt[-1], target[:1]
    if _UNSPACED.match(last):
        return False
    return not (_UNSPACED.match(first) and _is_mostly_unspaced(prompt))


def _is_mostly_unspaced(text: str) -> bool:
    unspaced = len(_UNSPACED.findall(text))
    words = re.findall(r"\w+", _UNSPACED.sub(" ", text))
    return unspaced >= len(words)


def _ends_open(prompt: str) -> bool:
    """Whether what follows a prompt is written to its last character."""
    last, before = prompt[-1], prompt[-2:-1]
    if _MARKER.search(prompt):
        return True
    if last in "-\u2010\u2011\u2013\u2014/_":  # joined only if nothing is before it
        return bool(before) and not before.isspace()
    if unicodedata.category(last) == "Sc":  # before a number, not after one
        return re.search(r"\d\s?.$", prompt) is None
    return last in "#@\\\u00a1\u00bf" or _ends_in_opening_mark(prompt)


def _ends_in_opening_mark(prompt: str) -> bool:
    """Whether a prompt ends in a bracket or quotation mark that opens."""
    last, before = prompt[-1], prompt[-2:-1]
    if last in "'\u2019":
        return _ends_in_open_apostrophe(prompt)
    if last == '"':
        return _is_outside(before) or _after_unspaced(prompt, '"')
    if unicodedata.category(last) in _CLOSING_CATEGORIES:
        return last in "\u00bb\u201d" and _is_outside(before)  # as in »Wort«
    if last == "\u201c" and "\u201e" in prompt:  # closes a German quotation
        return prompt.rindex("\u201e") < prompt[:-1].rfind("\u201c")
    return unicodedata.category(last) in _OPENING_CATEGORIES


def _ends_in_open_apostrophe(prompt: str) -> bool:
    """Whether an apostrophe opens a quotation or joins two words, as in ``dell'``."""
    before = prompt[-2:-1]
    if _is_outside(before):
        return True
    opened = re.search(r"(?:^|[\s(\[{])['\u2018]\w[^'\u2018\u2019]*$", prompt[:-1])
    return before.isalpha() and before not in "sS" and opened is None


def _is_outside(before: str) -> bool:
    """Whether a quotation mark after this character opens a quotation."""
    return (
        not before
        or before.isspace()
        or before in ":=\u2014\u2013"
        or unicodedata.category(before) in _OPENING_CATEGORIES
    )


def _after_unspaced(prompt: str, mark: str) -> bool:
    """Whether a mark opens a quotation in a text whose words have no spaces."""
    before = prompt[-2:-1]
    return _UNSPACED.match(before) is not None and prompt.count(mark) % 2 == 1


def _begins_closed(target: str) -> bool:
    """Whether a target begins with what is written to the word before."""
    first = target[:1]
    if not first:
        return False
    if re.match(r"[-\u2010\u2011]\w", target):
        return target[1].isalpha()
    if unicodedata.category(first) == "Po" and _UNSPACED.match(first):
        return True
    closes = unicodedata.category(first) in _CLOSING_CATEGORIES
    return (closes and first not in "\u00bb\u201d\u2019") or bool(_CLOSES.match(target))
