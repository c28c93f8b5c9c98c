"""The paths in a scenario, made absolute."""

from pathlib import Path

from editing.base.errors import InputError
from editing.base.foreign_text import show_foreign
from editing.files.home import expand_home
from editing.hyperparameters.presets import is_preset
from editing.sources.embedded import EMBEDDED, HUB, SELF, looks_local
from strategies.scenario import COMPUTE, FEDERATED

Table = dict[str, object]

PATH_KEYS = (
    ("model", "path"),
    ("requests", "source"),
    ("requests", "templates"),
    ("editing", "hyperparameters"),
    ("editing", "context_templates"),
    ("prior", "covariance"),
    ("prior", "text"),
    ("gate", "text"),
    ("output", "directory"),
    ("output", "checkpoint"),
    ("output", "watch"),
    ("output", "tensorboard"),
)


def resolve_paths(tables: Table, folder: Path) -> Table:
    """Make the paths absolute that start at a folder; hub ids and presets stay."""
    refuse_nul(tables)
    resolved: Table = tables
    for table, key in PATH_KEYS:
        within = tables.get(table)
        value = within.get(key) if isinstance(within, dict) else None
        if key == "hyperparameters" and isinstance(value, str) and is_preset(value):
            continue
        named = f"{table}.{key.replace('_', '-')}"
        if isinstance(value, str):
            absolute: object = resolve_path(value, folder, named, hub=key == "path")
        elif isinstance(value, list) and key == "covariance":
            absolute = [resolve_path(each, folder, named) for each in value]
        else:
            continue
        resolved = overlay(resolved, {table: {key: absolute}})
    return resolved


def refuse_nul(tables: Table) -> None:
    """Refuse paths with a NUL, which no file's name may hold.

    Raises:
        InputError: Naming the setting.
    """
    for table, key in PATH_KEYS:
        within = tables.get(table)
        value = within.get(key) if isinstance(within, dict) else None
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and "\0" in each:
                raise InputError(
                    f"`{table}.{key}`: wanted a path, got {show_foreign(each)}"
                )


def resolve_path(
    value: object, folder: Path, named: str, *, hub: bool = False
) -> object:
    """Make one path absolute; what is no path stays as it is.

    A home folder that is not known is an `InputError` that names the setting.
    """
    if not isinstance(value, str) or not is_path(value, folder, hub=hub):
        return value
    return str((folder / expand_home(Path(value), named)).resolve())


def is_path(value: str, folder: Path, *, hub: bool) -> bool:
    """Return whether a text is a path: no reserved word, hub id or empty setting."""
    words = {"", EMBEDDED, SELF, COMPUTE, FEDERATED}
    if value in words or value.startswith((HUB, "[")):
        return False
    return not hub or looks_local(value) or (folder / value).exists()


def overlay(below: Table, above: Table) -> Table:
    """Merge nested tables; the values of the second win."""
    merged = dict(below)
    for key, value in above.items():
        merged[key] = value
        lower = below.get(key)
        if isinstance(lower, dict) and isinstance(value, dict):
            merged[key] = overlay(lower, value)
    return merged
