"""The files of a model: which there are, and how large; no weight is read."""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open

from editing.base.errors import InputError
from editing.files.text import read_json_object
from editing.models.loading import load_tokenizer, missing_files
from sims.sizes.shapes import ModelShape
from sims.sizes.tables import write_size

CONFIGURATION = "config.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
LEAST_BYTES = 1.9
"""Bytes a parameter, in half precision; a little less for weights that are tied."""

INDEXES = tuple(f"{name}.index.json" for name in WHOLE)


def find_configuration(path: str) -> str:
    """Find a model's configuration in its folder, or in the cache of the hub.

    Raises:
        InputError: If it is in neither.
    """
    found = find_file(path, CONFIGURATION)
    if found is None:
        raise InputError(f"`model.path` {path!r}: {say_missing(path, CONFIGURATION)}")
    kind = read_json_object(found).get("model_type", "unknown")
    return f"{found}, a model of type {kind}"


def read_tokenizer(path: str) -> str:
    """Load the tokenizer, and name the longest input."""
    tokenizer, longest = load_tokenizer(path)
    return f"{len(tokenizer)} tokens; the model reads {longest} of them"


def find_weights(path: str, shape: ModelShape | None) -> str:
    """Find all files of the weights, by the index where they are several.

    Args:
        path: A folder, or a name of the hub.
        shape: Says how large they should be, if it is known.

    Raises:
        InputError: If some are missing.
    """
    if Path(path).is_dir() and (lacking := missing_files(Path(path), weights=True)):
        raise InputError(f"{path}: it has {', '.join(f'no {n}' for n in lacking)}")
    files = list(weight_files(path))
    if not files:
        words = say_missing(path, "weights")
        if shape is not None:
            half = write_size(2 * shape.parameters)
            words += f" They take {half} in half precision."
        raise InputError(f"`model.path` {path!r}: {words}")
    for file in files:
        check_header(file)
    size = sum(file.stat().st_size for file in files)
    if shape is not None and size < LEAST_BYTES * shape.parameters:
        raise InputError(
            f"`model.path` {path!r}: the files of its weights have {write_size(size)}, "
            f"and {shape.parameters:,} parameters need more. Download them again"
        )
    return f"{len(files)} file{'s' if len(files) > 1 else ''}, {write_size(size)}"


def weight_files(path: str) -> Iterator[Path]:
    """Yield the files of the weights, in the form that is loaded.

    Raises:
        InputError: If an index names a file that is not there.
    """
    for name in INDEXES:
        index = find_file(path, name)
        if index is None:
            continue
        for part in listed_in(index):
            file = find_file(path, part)
            if file is None:
                raise InputError(f"{index} lists {part}: {say_missing(path, part)}")
            yield file
        return
    yield from [*filter(None, (find_file(path, name) for name in WHOLE))][:1]


def listed_in(index: Path) -> list[str]:
    """Return the names of the files that an index lists, each once.

    Raises:
        InputError: If it lists no files next to it.
    """
    listed = read_json_object(index).get("weight_map")
    names = list(listed.values()) if isinstance(listed, dict) else []
    if not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise InputError(
            f"{index}: wanted `weight_map`, an object with the name of a file next to "
            "it for each weight. Download the model again"
        )
    return list(dict.fromkeys(names))


def check_header(file: Path) -> None:
    """Validate the header of a file of weights, which says how long the file is.

    Raises:
        InputError: If it is damaged.
    """
    if file.suffix != ".safetensors":
        return
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file}: is no whole file of weights ({error}). Download it again"
        ) from None


def find_file(path: str, name: str) -> Path | None:
    """Find a file of a model in its folder, or in the cache of the hub."""
    folder = Path(path)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    if path.count("/") > 1 or path.startswith((".", "/", "~")):
        return None
    found = try_to_load_from_cache(path, name)
    return Path(found) if isinstance(found, str) else None


def say_missing(path: str, what: str) -> str:
    """Say where a file was looked for, and how to get it."""
    if Path(path).is_dir():
        return f"the folder has no {what}"
    return (
        f"neither a folder nor the cache of the Hugging Face hub has its {what}. "
        f"Download it with `hf download {path}`, or name a folder."
    )
