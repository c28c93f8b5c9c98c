"""Where a report comes from: when it was made, of which versions, by which command."""

import re
import shlex
import sys
import tomllib
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from editing.base.settings import Settings

PROJECT = "collabedit-flower"
LIBRARIES = {"Flower": "flwr", "torch": "torch"}
"""What the results depend on besides the project, and the names of the packages."""

UNKNOWN = "of unknown version"
HIDDEN = "…"
SECRET = re.compile(r"token|passw|secret|credential|api[-_.]?key", re.IGNORECASE)
"""Names of options whose value nobody else may read."""


class Origin(Settings):
    """Where a report comes from.

    Attributes:
        date: When it was made, in UTC.
        versions: Of the project and of what it runs on, by name.
        command: What started the run, without secrets; empty if it is not known.
    """

    date: str
    versions: dict[str, str]
    command: str = ""

    def describe(self) -> str:
        """Return date and versions in a line."""
        named = [f"{name} {version}" for name, version in self.versions.items()]
        return f"Made {self.date} by {', '.join(named)}."


def find_origin(command: str = "") -> Origin:
    """Return the origin of what is made now.

    Args:
        command: What started it; secrets in it are hidden.
    """
    versions = {PROJECT: find_own_version()}
    versions |= {name: find_version(each) for name, each in LIBRARIES.items()}
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Origin(date=date, versions=versions, command=hide_secrets(command))


def find_own_version() -> str:
    """Return the version that the project's own file states; its bundle has it too."""
    file = Path(__file__).parents[2] / "pyproject.toml"
    try:
        stated = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"]
    except (OSError, ValueError, KeyError):
        return find_version(PROJECT)
    return str(stated)


def find_version(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def own_command() -> str:
    """Return the command of this process; empty if it is not ``python -m sims``."""
    called = Path(sys.argv[0]) if sys.argv else Path()
    if called.parts[-2:] != ("sims", "__main__.py"):
        return ""
    return shlex.join(["python", "-m", "sims", *sys.argv[1:]])


def hide_secrets(command: str) -> str:
    """Return a command without passwords and tokens, in options or in addresses."""
    try:
        words = shlex.split(command)
    except ValueError:  # no command of a shell
        words = [command]
    shown, hidden = list[str](), False
    for word in words:
        name, sign, _ = word.partition("=")
        if hidden:
            shown.append(HIDDEN)
        elif sign and SECRET.search(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(re.sub(r"://[^/@]*@", f"://{HIDDEN}@", word))
        option = word.startswith("-") and not sign
        hidden = option and not hidden and SECRET.search(word) is not None
    return shlex.join(shown)
