"""A scenario's tables: read, changed by key, their paths made absolute."""

import json
from collections.abc import Mapping
from pathlib import Path

from editing.base.errors import InputError
from editing.base.foreign_text import show_foreign
from editing.files.home import expand_home
from editing.files.text import explain_text_error, parse_toml, read_text
from editing.hyperparameters.presets import is_preset
from editing.sources.embedded import EMBEDDED, HUB, OWN_MODELS, SELF, looks_local
from strategies.scenario import COMPUTE, FEDERATED

Table = dict[str, object]


class ConfigurationError(InputError):
    """A setting is unknown, mistyped or out of range."""


PATH_KEYS = (
    ("model", "path"),
    ("requests", "source"),
    ("requests", "templates"),
    ("editing", "hyperparameters"),
    ("editing", "context_templates"),
    ("prior", "covariance"),
    ("prior", "text"),
    ("gate", "text"),
    ("capability", "text"),
    ("capability", "task_dir"),
    ("output", "directory"),
    ("output", "checkpoint"),
    ("output", "watch"),
    ("output", "tensorboard"),
    ("output", "mlflow"),
    ("output", "wandb"),
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
    if hub and value in OWN_MODELS:
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


def read_tables(path: Path) -> Table:
    """Read a TOML file, underscored names.

    Raises:
        ConfigurationError: If there is no such file or it is no TOML.
    """
    try:
        return underscored(parse_toml(read_text(path)), str(path))
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); name a scenario, a TOML file "
            "such as those in sims/scenarios"
        ) from None
    except ConfigurationError:
        raise
    except ValueError as error:
        reason = explain_text_error(error)
        raise ConfigurationError(f"{path}: is no TOML: {reason}") from None


def underscored(table: Mapping[str, object], origin: str) -> Table:
    """Write every key with underscores, so that both spellings are one.

    Raises:
        ConfigurationError: If a table gives one key in both spellings.
    """
    plain: Table = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in plain:
            raise ConfigurationError(f"{origin}: `{key}` is given in both spellings")
        plain[name] = underscored(value, origin) if isinstance(value, dict) else value
    return plain


def parse_override(text: str) -> tuple[list[str], object]:
    """Split ``table.key=value``; the value is TOML, and a bare word is a text.

    Raises:
        ConfigurationError: If there is no table, key or value.
    """
    key, equals, value = text.partition("=")
    keys = key.strip().replace("-", "_").split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigurationError(
            f"--set {text}: wanted `table.key=value`, such as `parties.count=3`"
        )
    try:
        parsed: object = parse_toml(f"value = {value.strip()}")["value"]
        json.dumps(parsed)
    except (ValueError, TypeError):  # a bare word, or a date
        return keys, value.strip()
    return keys, parsed
