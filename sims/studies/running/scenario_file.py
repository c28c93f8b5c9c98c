"""A run's settings as a scenario's file, with which `run` repeats it."""

import json
from collections.abc import Iterator, Mapping

from server.config import RunConfig


def write_scenario(config: RunConfig, source: str) -> str:
    """Write all settings that are not the defaults as TOML.

    Args:
        config: The settings.
        source: Where the requests are, from the file's own folder.
    """
    tables = config.model_dump(
        mode="json", exclude={"output"}, exclude_defaults=True, exclude_none=True
    )
    requests = tables.get("requests", {}) | {"source": source}
    lines = list(list_settings(tables | {"requests": requests}))
    return "".join(f"{key} = {value}\n" for key, value in sorted(lines))


def list_settings(
    tables: Mapping[str, object], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield each setting of nested tables: its dotted key, and its value in TOML."""
    for key, value in tables.items():
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, Mapping):
            yield from list_settings(value, f"{name}.")
        else:
            yield name, json.dumps(value, ensure_ascii=False)
