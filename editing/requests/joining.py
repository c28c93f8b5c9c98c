"""How a target follows its prompt in running text: with a space, or without one.

English puts a space between two words; Chinese, Japanese, Thai and others put none.
The last word of the prompt and the first character of the target decide: a space stands
between an English word and a Chinese one, and none after Chinese, whatever follows.
None follows white space, an opening quotation mark, bracket or mark of emphasis, or the
marker that ends a chat template, and none comes before closing punctuation.
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

_MARKER = re.compile(
    r"(?:<[|\uff5c][^<>\n]+[|\uff5c]>|</?[^\s<>|\uff5c]+>|<</?[^\s<>]+>>"
    r"|\[\|[^\[\]\n]+\|\]|\[/?[A-Z_]{2,}\])$"
)
"""The end of a chat template's header, such as ``<|assistant|>`` or ``[/INST]``."""

_OPENING_CATEGORIES = frozenset({"Ps", "Pi"})
_CLOSING_CATEGORIES = frozenset({"Pe", "Pf"})

_EMPHASIS = re.compile(r"(?:(?<!\*)\*{1,3}|(?<!_)_{1,3}|(?<!`)`{1,3})$")
"""A mark of emphasis or code at a prompt's end; longer runs are blanks or bars."""

_CLITIC = re.compile(
    r"(?:['\u2019](?:s|re|ll|ve|d|m)|n['\u2019]t)(?=$|[\s.,;:!?)\]])", re.IGNORECASE
)
"""Beginnings of a target that end an English word, such as ``'s`` and ``n't``."""

_CLITIC_END = re.compile(r"['\u2019](?:s|re|ll|ve|d|m)$", re.IGNORECASE)

_POINTS = re.compile(r"\.{2}|[.,;:!?\u2026%]+(?=$|\W)")
"""Points that continue the prompt: ``. He``, but not ``.NET`` or ``!Kung``."""

_APART = frozenset(
    "\"#&'*/@\\\u00a1\u00a7\u00b6\u00b7\u00bf\u2022\u2023\u2020\u2021\u203b"
)
"""Other punctuation (Po) that does not close: such a mark begins a word."""


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
    if _ends_open(prompt) or _begins_closed(prompt, target):
        return False
    if _UNSPACED.match(prompt[-1]):
        return False
    return not (_UNSPACED.match(target) and _ends_in_unspaced_word(prompt))


def _ends_in_unspaced_word(prompt: str) -> bool:
    """Whether the last word is of a script without spaces, or written to such a one.

    ``\u5f20\u4f1f\u7684Acme`` is; ``\u5f20\u4f1f's`` is English.
    """
    last = prompt.split()[-1]
    return _CLITIC_END.search(last) is None and _UNSPACED.search(last) is not None


def _ends_open(prompt: str) -> bool:
    """Whether what follows a prompt is written to its last character."""
    last, before = prompt[-1], prompt[-2:-1]
    if prompt.endswith("____"):  # a blank
        return False
    if _MARKER.search(prompt):
        return True
    if last in "*_`" and (_opens_emphasis(prompt) or _closes_emphasis(prompt)):
        return not _closes_emphasis(prompt)
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
        return _opens_by_place(prompt[:-1], closed=prompt.count('"') % 2 == 0)
    if unicodedata.category(last) in _CLOSING_CATEGORIES:
        return last in "\u00bb\u203a\u201d" and _is_outside(before)  # as in »Wort«
    if last in "\u00ab\u2039":
        return not _closes_inward_quotation(prompt)
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


def _opens_by_place(before: str, *, closed: bool) -> bool:
    """Whether a mark that looks alike at both ends opens after this text.

    Args:
        before: The prompt without the mark.
        closed: Whether an earlier mark of the kind may be what this one closes.
    """
    last = before[-1:]
    if not last or last.isspace() or unicodedata.category(last) in _OPENING_CATEGORIES:
        return True
    joined = _is_outside(last) or last in "*_`" or _UNSPACED.match(last) is not None
    return joined and not closed


def _opens_emphasis(prompt: str) -> bool:
    """Whether a prompt ends in a mark that opens emphasis or code: ``is **``."""
    found = _EMPHASIS.search(prompt)
    return found is not None and _opens_by_place(
        prompt[: found.start()], closed=_closes_emphasis(prompt)
    )


def _closes_emphasis(prompt: str) -> bool:
    """Whether a prompt ends in a mark that closes emphasis, as ``the **Ada**`` does."""
    found = _EMPHASIS.search(prompt)
    if found is None or prompt[: found.start()][-1:].isspace():
        return False
    mark = re.escape(found[0])
    opened = rf"(?<!\w){mark}(?=[^\s*_`]|[*_`]+[^\s*_`])(?:(?!{mark}).)*{mark}$"
    return re.search(opened, prompt, re.DOTALL) is not None


def _closes_inward_quotation(prompt: str) -> bool:
    """Whether a prompt ends in the last mark of a quotation such as ``»Wort«``."""
    opening = {"\u00ab": "\u00bb", "\u2039": "\u203a"}[prompt[-1]]
    start = prompt.rfind(opening)
    if start <= prompt[:-1].rfind(prompt[-1]) or _is_outside(prompt[-2:-1]):
        return False
    return _is_outside(prompt[:start][-1:])


def _begins_closed(prompt: str, target: str) -> bool:
    """Whether a target begins with what is written to the word before."""
    first, word = target[:1], re.match(r".\w", target) is not None
    if word and first in "-\u2010\u2011":
        return target[1].isalpha()
    if not first or _CLITIC.match(target):
        return bool(first)
    if first == '"':
        return not word and prompt.count('"') % 2 == 1
    category = unicodedata.category(first)
    if category in _CLOSING_CATEGORIES:  # »Wort« and ”ord” begin with Pf, too
        return category == "Pe" or not word
    return category == "Po" and _is_closing_point(target)


def _is_closing_point(target: str) -> bool:
    """Whether a target begins with a point, comma or the like of any script."""
    if target[0] in ".!:%":
        return _POINTS.match(target) is not None
    return unicodedata.normalize("NFKC", target[0])[0] not in _APART
