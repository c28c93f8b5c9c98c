"""Bundles of the app: what a clone sends to nodes, and which of them a node runs.

A server sends its nodes the app as one file, a Flower App Bundle. It is made of the
app's files alone: neither the folder, nor the order or the times of the files go into
it. So the SHA-256 of two clones of one version is equal, and a node's operator who has
read a version can approve it by that number.
"""

import hashlib
import re
import subprocess
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Mapping
from logging import ERROR
from pathlib import Path

from flwr.clientapp.client_app import ClientApp, LoadClientAppError
from flwr.supercore import log

APPROVED = "approved"
"""The folder of Flower's home with the approved bundles' files, apart from others."""

DIGEST = re.compile(r"[0-9a-f]{64}")

MISREAD = (OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError)
"""What Flower raises where it reads a file of TOML that is odd."""


class NotApprovedError(LoadClientAppError):
    """A server sent a bundle that this node's operator has not approved."""


def build_bundle(app: Path) -> bytes:
    """Build the bundle of a clone, exactly as nodes receive it.

    Raises:
        InputError: If the folder is no clone, or its pyproject.toml is odd.
    """
    from flwr.cli.build import build_fab_from_disk

    # A keeper loads this module, and nothing of the app, which each run brings along.
    from editing.base.errors import InputError

    try:
        return build_fab_from_disk(app)
    except MISREAD as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{app}: is no clone of an app ({type(error).__name__}: {reason})"
        ) from None


def digest_of(bundle: bytes) -> str:
    """Return the SHA-256 of a bundle, in hexadecimal."""
    return hashlib.sha256(bundle).hexdigest()


def read_digest(text: str) -> str:
    """Read the SHA-256 of a bundle from a command line.

    Raises:
        ArgumentTypeError: If it is none.
    """
    if not DIGEST.fullmatch(text.lower()):
        raise ArgumentTypeError(
            f"{text!r} is no SHA-256; wanted 64 hexadecimal digits, as `python -m sims "
            "bundle` prints them"
        )
    return text.lower()


def list_files(bundle: bytes) -> dict[str, str]:
    """List the files of a bundle with the SHA-256 of each."""
    from io import BytesIO
    from zipfile import ZipFile

    with ZipFile(BytesIO(bundle)) as archive:
        lines = archive.read(".info/CONTENT").decode().splitlines()
    return {name: digest for name, digest, _ in (line.rsplit(",", 2) for line in lines)}


def find_changed(app: Path, files: Collection[str]) -> list[str]:
    """List the files of a bundle that are not as the clone's last commit has them.

    Without Git, or outside a clone, none are known to be.
    """
    command = ["git", "status", "--porcelain", "--untracked-files=all", "-z"]
    try:
        done = subprocess.run(command, cwd=app, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    named = {entry[3:] for entry in done.stdout.decode().split("\0")}
    return sorted(named & set(files))


def refuse_others(bundle: bytes, approved: Collection[str]) -> str:
    """Return a bundle's SHA-256 if it is approved.

    Raises:
        NotApprovedError: If it is not, naming it.
    """
    digest = digest_of(bundle)
    if digest not in approved:
        raise NotApprovedError(
            f"Refused bundle {digest}: this node runs approved code alone. To approve "
            "it, read the version that the server's operator names, compare its "
            f"`python -m sims bundle`, and add `--only-bundle {digest}`"
        )
    return digest


def run_only(approved: Collection[str]) -> None:
    """Have Flower's client in this process run approved bundles and no other.

    What counts is the SHA-256 of the bytes that arrived, whatever the server says that
    they are. The app is loaded from a folder where approved bundles alone are unpacked:
    Flower's own is named after 8 digits of the 64, which another bundle can share.
    """
    from flwr.supercore.utils import get_flwr_home
    from flwr.supernode.runtime import run_clientapp

    # Flower lets nobody look at a bundle before it is unpacked.
    flower = vars(run_clientapp)
    install, loader = flower["install_from_fab"], flower["get_load_client_app_fn"]
    places: list[Path] = []

    def install_approved(bundle: bytes, **_: object) -> Path:
        try:
            digest = refuse_others(bundle, approved)
        except NotApprovedError as error:
            log(ERROR, "%s", error)
            raise
        own = get_flwr_home() / APPROVED / digest
        places.append(install(bundle, own, skip_prompt=True))
        return places[-1]

    def load_approved(**_: object) -> Callable[[str, str, str], ClientApp]:
        (place,) = places
        load: Callable[[str, str, str], ClientApp] = loader(
            default_app_ref="", app_path=str(place), multi_app=True
        )
        return load

    flower["install_from_fab"] = install_approved
    flower["get_load_client_app_fn"] = load_approved


def find_installed(home: Path) -> Mapping[str, str]:
    """List the bundles that a node has run without approval, by what Flower calls them.

    Args:
        home: The node's Flower home.

    Returns:
        The first 8 digits of each one's SHA-256, by its folder's name.
    """
    folders = (each for each in (home / "apps").glob("*") if each.is_dir())
    return {each.name: each.name.rpartition(".")[2] for each in folders}
