"""A run's settings as a scenario's file, with which `run` repeats it."""

import json

from server.config import RunConfig
from sims.studies.running.record import list_settings


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
    settings = dict(list_settings(tables | {"requests": requests}))
    return "".join(
        f"{key} = {json.dumps(settings[key], ensure_ascii=False)}\n"
        for key in sorted(settings)
    )
