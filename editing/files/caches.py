"""Where this project keeps what it can make again."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return this project's folder in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "collabedit-flower"
