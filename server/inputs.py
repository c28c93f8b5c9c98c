"""Digests of what a run reads, by which a changed file is noticed."""

import hashlib
from pathlib import Path

from editing.embedded import EMBEDDED, file_beside
from strategies.scenario import RequestsConfig


def digest_inputs(requests: RequestsConfig, model_path: str) -> dict[str, str]:
    """SHA-256 of each file that the server sees; what lies at the parties is theirs."""
    source, templates = requests.source, requests.templates
    embedded = file_beside(model_path, "requests.json")
    named = {
        "requests": embedded if source == EMBEDDED else Path(source),
        "templates": Path(templates) if templates else None,
        "held_out": file_beside(model_path, "held_out.json"),
    }
    digests = {name: digest_file(file) for name, file in named.items() if file}
    return {name: digest for name, digest in digests.items() if digest}


def digest_file(file: Path) -> str | None:
    """SHA-256 of a file; None if there is none that may be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
