"""Find the models that come with the system, and the files in a model's folder."""

from pathlib import Path

from editing.base.errors import InputError, ModelFilesError

EMBEDDED = "embedded"
"""The reserved name of the model, requests and text that come with the system."""

LARGER = "larger"
"""The reserved name of the larger model, of more people; see `sims/larger/MODEL.md`."""

OWN_MODELS = (EMBEDDED, LARGER)
"""The models that come with the system; `model.path` names them by one word."""

HUB = "hub:"
"""The prefix of a data set's name on the hub, where a path is accepted too."""

SELF = "self"
"""The reserved name of text that the model itself generates."""


def locate_embedded(name: str = EMBEDDED) -> Path:
    """Find a model's folder, next to this package or in the current folder.

    It is a folder of that name, of any package.

    Args:
        name: One of `OWN_MODELS`.

    Raises:
        InputError: If neither has it, as on a node that was sent the app's bundle.
    """
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        for configuration in sorted(root.glob(f"*/{name}/config.json")):
            return configuration.parent
    chosen = "" if name == EMBEDDED else f" --model {name}"
    raise InputError(
        f"The {name} model is not here: an app bundle carries no weights. In a clone, "
        f"run `python -m sims export-model DIR{chosen}` and set `model.path` to that "
        "folder."
    )


def resolve_model(path: str) -> str:
    """Resolve `embedded` and `larger` to their folders; leave other paths as they are.

    Raises:
        ModelFilesError: If a path that is no hub name leads nowhere, which the hub's
            library would take for a misspelt name.
    """
    if path in OWN_MODELS:
        return str(locate_embedded(path))
    if looks_local(path) and not Path(path).exists():
        raise ModelFilesError(
            f"`model.path` {path!r}: there is no such folder. Wanted a folder with "
            "config.json, weights and tokenizer, as `save_pretrained` writes it, a hub "
            f"name, or the word `{EMBEDDED}` or `{LARGER}`."
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
