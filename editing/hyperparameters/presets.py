"""Published hyperparameters of well-known models, one data file each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from editing.base.errors import InputError
from editing.hyperparameters.config import Hyperparameters
from editing.hyperparameters.files import (
    parse_hyperparameters,
    read_hyperparameter_file,
)

FOLDER = Path(__file__).resolve().parent / "presets"

TUNED = frozenset({"hf", "base", "chat", "instruct", "it"})
"""Words of a model's name for its tuning, which do not change its preset."""

VERSION = re.compile(r"v\d+(\.\d+)*")
HUB_CACHE = "models--"
"""How the folder of a model begins in the hub's cache: ``models--OWNER--NAME``."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Published hyperparameters of one model.

    Attributes:
        name: What a setting calls it.
        model: The hub name of the model that they were published for.
        values: The published fields; others stay at their defaults.
        source: The file or paper that they are from.
        sources: Where single fields are from, if from elsewhere.
        note: What a user should know of them.
    """

    name: str
    model: str
    values: Mapping[str, object]
    source: str
    sources: Mapping[str, str]
    note: str

    @property
    def parameters(self) -> Hyperparameters:
        """The values, with defaults for what is not published."""
        return parse_hyperparameters(self.values, f"preset {self.name}")


@cache
def preset_names() -> tuple[str, ...]:
    """All presets, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def is_preset(name: str) -> bool:
    """Whether a setting names a preset; capitals do not matter."""
    return name.casefold() in preset_names()


def read_preset(name: str) -> Preset:
    """Read a preset by name; capitals do not matter.

    Raises:
        InputError: If there is none of that name.
    """
    if not is_preset(name):
        raise InputError(f"{name!r} is no preset; {suggest_preset(name)}")
    found = read_hyperparameter_file(FOLDER / f"{name.casefold()}.toml")
    facts = found.bookkeeping
    sources = facts.get("sources", {})
    return Preset(
        name=name.casefold(),
        model=str(facts["model"]),
        values=found.values,
        source=str(facts["source"]),
        sources=dict(sources) if isinstance(sources, Mapping) else {},
        note=str(facts.get("note", "")),
    )


def suggest_preset(name: str) -> str:
    """Name the nearest preset, or all of them."""
    close = get_close_matches(name.casefold(), preset_names(), n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"presets are {', '.join(preset_names())}"


def match_preset(model: str) -> str | None:
    """Find the preset of a model by its hub name or folder; None if none fits.

    Owners, capitals, hyphens, versions and words such as ``Instruct`` do not matter:
    ``meta-llama/Llama-2-7b-chat-hf`` is ``llama-2-7b``. A size or series does:
    ``Llama-3.1-8B`` is no ``llama-3-8b``.
    """
    wanted = _spell(_last_name(model))
    return next((name for name in preset_names() if _spell(name) == wanted), None)


def _last_name(model: str) -> str:
    parts = [part for part in re.split(r"[/\\]", model) if part]
    cached = [part for part in parts if part.startswith(HUB_CACHE)]
    return cached[-1].split("--")[-1] if cached else (parts or [""])[-1]


def _spell(name: str) -> tuple[str, ...]:
    words = [
        word
        for word in re.split(r"[-_ ]+", name.casefold())
        if word not in TUNED and not VERSION.fullmatch(word)
    ]
    if words[:1] == ["meta"]:  # Meta-Llama-3-8B
        words = words[1:]
    return tuple(re.findall(r"\d+(?:\.\d+)*|[^\W\d]+|[^\w-]", "-".join(words)))
