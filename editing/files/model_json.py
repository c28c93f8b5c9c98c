"""The JSON files of a model's folder, which all hold objects."""

from pathlib import Path

from editing.base.errors import ModelFilesError
from editing.files.text import parse_json, read_text

OBJECTS = (
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
)
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
KINDS = {"[": "a list", '"': "a text", "t": "true", "f": "false", "n": "null"}
"""What JSON holds, by its first character; anything else that is JSON is a number."""

HEAD_BYTES = 4096
"""As much of a file as shows what it holds; a tokenizer may be many megabytes."""


def check_json_files(path: str) -> None:
    """Refuse a model's folder with a JSON file that holds no object.

    The library takes that for granted. What is no JSON at all it refuses by itself.

    Args:
        path: A folder; nothing is checked of a hub name.

    Raises:
        ModelFilesError: Naming the file, what was wanted and what came.
    """
    for name in (*OBJECTS, *INDEXES):
        file = Path(path) / name
        if file.is_file() and (kind := _other_kind(file)):
            raise ModelFilesError(_describe(file, "a JSON object", kind))
    for name in INDEXES:
        file = Path(path) / name
        if file.is_file() and not isinstance(_weight_map(file), dict):
            wanted = "a JSON object with an object `weight_map`"
            raise ModelFilesError(_describe(file, wanted, "none"))


def _other_kind(file: Path) -> str | None:
    """Return what a file holds instead of an object; None if it may hold one."""
    with file.open("rb") as stream:
        first = stream.read(HEAD_BYTES).decode(errors="replace").lstrip()[:1]
    if first in KINDS:
        return KINDS[first]
    return "a number" if first.isdecimal() or first == "-" else None


def _weight_map(file: Path) -> object:
    """Return the map of an index; an empty one if the file is no JSON."""
    try:
        held = parse_json(read_text(file))
    except ValueError:
        return {}
    return held.get("weight_map") if isinstance(held, dict) else None


def _describe(file: Path, wanted: str, got: str) -> str:
    return (
        f"{file}: wanted {wanted}, got {got}. Put the file there as `save_pretrained` "
        "writes it."
    )
