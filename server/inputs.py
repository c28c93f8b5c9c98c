"""Digests of what a run reads, by which a changed file is noticed."""

import hashlib
from pathlib import Path

from editing.evaluation.capability.measure import CapabilityMeasure
from editing.requests.records import hub_revision, saved_dataset
from editing.sources.embedded import EMBEDDED, HUB, file_in_model
from strategies.partitioning.settings import RequestsConfig


def digest_inputs(requests: RequestsConfig, model_path: str) -> dict[str, str]:
    """Return the SHA-256 of each input file on the server; never of parties' files.

    Of requests at the hub, the commit they are read from.
    """
    source, templates = requests.source, requests.templates
    embedded = file_in_model(model_path, "requests.json")
    held_out = file_in_model(model_path, "held_out.json")
    own = str(embedded or "") if source == EMBEDDED else source
    digests = {
        "requests": digest_source(own) if own else None,
        "templates": digest_file(Path(templates)) if templates else None,
        "held_out": digest_file(held_out) if held_out else None,
    }
    return {name: digest for name, digest in digests.items() if digest}


def digest_capability(measure: CapabilityMeasure) -> dict[str, str]:
    """Return the SHA-256 of the capability curve's text, and of the folder of tasks."""
    options = measure.config.task_options
    folder = options.folder if options else None
    digests = {
        "capability_text": measure.digest,
        "capability_tasks": digest_folder(folder) if folder else None,
    }
    return {name: digest for name, digest in digests.items() if digest}


def digest_source(source: str) -> str | None:
    """What a source of requests holds: a file's digest, a saved folder's, a commit.

    None if nothing of it can be read, or if it is some other folder.
    """
    if source.startswith(HUB):
        return hub_revision(source)
    path = Path(source)
    return digest_folder(path) if saved_dataset(path) else digest_file(path)


def digest_folder(folder: Path) -> str:
    """SHA-256 of the names and contents of all files in a folder, in order of names."""
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        digest.update(f"{digest_file(file)}\n".encode())
    return digest.hexdigest()


def digest_file(file: Path) -> str | None:
    """SHA-256 of a file; None if there is none that may be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
