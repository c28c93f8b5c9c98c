"""Model folders: their precision, their files, and progress over their weights."""

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from rich.progress import track
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
)

from editing.base.errors import InputError
from editing.files.model_json import check_json_files
from editing.models.loading import ModelError, first_line, load_weights
from editing.sources.embedded import file_in_model, resolve_model
from editing.sources.own_code import explain_own_code, runs_own_code
from sims.console import hush_libraries, open_console
from sims.deltas.published import Published

SHARD_SIZE = "5GB"

COMPANIONS = (
    *("LICENSE", "LICENSE.md", "LICENSE.txt", "USE_POLICY.md"),
    *("NOTICE", "NOTICE.md", "NOTICE.txt"),
    *("preprocessor_config.json", "processor_config.json"),
    *("video_preprocessor_config.json", "chat_template.json", "chat_template.jinja"),
    *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"),
    *("hyperparameters.json", "context_templates.json"),
)
"""Files next to a model that belong to it, though the library may not write them.

The last two are read by runs, so that an edited model can be edited again. Only these
are copied: any other file may hold requests or texts, or describe a machine, and
``special_tokens_map.json`` would override the tokenizer as it was saved.
"""


def load_whole(path: str, dtype: str) -> PreTrainedModel:
    """Load a model of any family; adding to a weight takes its name alone.

    Args:
        path: A folder, a hub name, or ``embedded``.
        dtype: The precision of its weights.

    Raises:
        InputError: If no model can be loaded.
    """
    hush_libraries()
    place = resolve_model(path)
    try:
        model = load_weights(place, dtype=torch_dtype(dtype))
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # the library takes much of the files for granted
        reason = explain_own_code(error) or first_line(error)
        raise InputError(
            f"--model {path}: no causal language model can be loaded "
            f"({reason}); wanted a folder as `save_pretrained` writes it, "
            "or a hub name"
        ) from None
    model.requires_grad_(False)
    return model


def save_whole(
    model: PreTrainedModel,
    source: str,
    folder: Path,
    max_shard_size: str,
    published: Published | None = None,
) -> None:
    """Write weights and configuration, and the rest of a model from another folder.

    Args:
        model: What is written.
        source: The model whose tokenizer and, if local, `COMPANIONS` are copied: a
            folder, a hub name, or ``embedded``.
        folder: Where to.
        max_shard_size: Largest file of weights.
        published: The checkpoint of the model, if it holds more than `model`.

    Raises:
        InputError: If there is no tokenizer.
    """
    check_json_files(resolve_model(source))
    try:
        place = resolve_model(source)
        own = runs_own_code(place)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=own)
    except Exception as error:
        raise InputError(
            f"--model {source}: its tokenizer cannot be loaded ({first_line(error)}); "
            "wanted tokenizer files next to the weights"
        ) from None
    tokenizer.save_pretrained(folder)
    if published is None:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    else:
        published.write(model, folder, max_shard_size)
    copy_companions(Path(resolve_model(source)), folder)


def copy_companions(source: Path, folder: Path) -> None:
    """Copy those `COMPANIONS` that a folder lacks, contents only.

    Args:
        source: The model's folder; a hub name has none.
        folder: Where to.
    """
    for name in COMPANIONS:
        found = file_in_model(str(source), name)
        if found is not None and not (folder / name).exists():
            shutil.copyfile(found, folder / name)


def share_files(folder: Path) -> None:
    """Give the weights the mode of the card; the library admits the owner alone."""
    mode = (folder / "README.md").stat().st_mode
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)


def check_shard_size(size: str) -> None:
    """Refuse a size that the library would refuse after all the work.

    Raises:
        InputError: If it is no number with a unit.
    """
    if not re.fullmatch(r"[1-9]\d*(KB|MB|GB|TB)", size):
        raise InputError(
            f"--max-shard-size {size!r}: wanted a whole number with KB, MB, GB or TB, "
            f"such as {SHARD_SIZE}"
        )


def stored_dtype(folder: Path) -> str:
    """Return the precision of a folder's weights, by its configuration.

    Raises:
        InputError: If there is no such folder, or it holds no model.
    """
    if not folder.is_dir():
        raise InputError(
            f"--model {folder}: there is no such folder; wanted one that `apply` wrote"
        )
    check_json_files(str(folder))
    try:
        own = runs_own_code(str(folder))
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=own)
        found = config.dtype
    except Exception as error:
        raise InputError(
            f"{folder}: no model folder ({first_line(error)}); wanted one "
            "that `apply` wrote"
        ) from None
    return str(found or torch.float32).removeprefix("torch.")


def torch_dtype(name: str) -> torch.dtype:
    """Return the precision of a name.

    Raises:
        InputError: If it is no precision of weights.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype {name!r}: wanted float32, bfloat16 or float16")
    return found


def dtype_name(dtype: torch.dtype) -> str:
    """Return a precision's name in settings."""
    return str(dtype).removeprefix("torch.")


def hub_name(model_path: str) -> str | None:
    """Return the base's name on the hub, if it came from there."""
    local = Path(resolve_model(model_path)).exists()
    return None if local else model_path


def follow(names: Iterable[str], work: str) -> Iterator[str]:
    """Yield the weights, with a progress bar on a terminal."""
    console = open_console(stderr=True)
    weights = list(names)
    yield from track(
        weights, work, console=console, disable=not console.is_terminal, transient=True
    )
