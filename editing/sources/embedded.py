"""Find the model that comes with the system, and the files in a model's folder."""

from pathlib import Path

from editing.base.errors import InputError, ModelFilesError

EMBEDDED = "embedded"
"""The reserved name of the model, requests and text that come with the system."""

HUB = "hub:"
"""The prefix of a data set's name on the hub, where a path is accepted too."""

SELF = "self"
"""The reserved name of text that the model itself generates."""

_CONFIGURATIONS = f"*/{EMBEDDED}/config.json"
"""Where the embedded model may be: in a folder of that name, of any package."""


def locate_embedded() -> Path:
    """Find the embedded model's folder, next to this package or in the current folder.

    Raises:
        InputError: If neither has it, as on a node that was sent the app's bundle.
    """
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        for configuration in sorted(root.glob(_CONFIGURATIONS)):
            return configuration.parent
    raise InputError(
        "The embedded model is not here: an app bundle carries no weights. In a clone, "
        "run `python -m sims export-model DIR` and set `model.path` to that folder."
    )


def resolve_model(path: str) -> str:
    """Resolve `embedded` to its folder; leave other paths as they are.

    Raises:
        ModelFilesError: If a path that is no hub name leads nowhere, which the hub's
            library would take for a misspelt name.
    """
    if path == EMBEDDED:
        return str(locate_embedded())
    if looks_local(path) and not Path(path).exists():
        raise ModelFilesError(
            f"`model.path` {path!r}: there is no such folder. Wanted a folder with "
            "config.json, weights and tokenizer, as `save_pretrained` writes it, a hub "
            f"name, or the word `{EMBEDDED}`."
        )
    return path


def looks_local(path: str) -> bool:
    """Return whether a path cannot be a hub name, such as `gpt2` or `owner/name`."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1


def file_in_model(model_path: str, name: str) -> Path | None:
    """Return a file of a model's folder; None if there is no folder or no such file."""
    candidate = Path(model_path) / name
    return candidate if candidate.is_file() else None


def resolve_source(source: str, model_path: str, name: str, setting: str) -> Path:
    """Turn `embedded` into a file of the model's folder; leave paths as they are.

    Raises:
        InputError: If the model's folder has no such file.
    """
    if source != EMBEDDED:
        return Path(source)
    found = file_in_model(model_path, name)
    if found is None:
        raise InputError(
            f"`{setting}` is `{EMBEDDED}`, and the folder of the model {model_path} "
            f"has no {name}. Name a file with `{setting}`."
        )
    return found
