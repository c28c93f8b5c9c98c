"""All checks of a node, from the options that it is started with."""

import http.client
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.common.config import parse_config_args
from flwr.supercore.utils import get_flwr_home

from clients.settings import NodeConfig, read_node_config
from editing.base.errors import InputError
from editing.files.caches import user_cache
from sims.nodes.checks import (
    Answer,
    Finding,
    ask_control,
    check_bundles,
    check_certificates,
    check_clock,
    check_control,
    check_model,
    check_named,
    check_parties_key,
    check_private,
    check_writable,
)
from sims.nodes.places import is_loopback, require_place
from sims.processes.bundles import build_bundle, digest_of, find_installed
from sims.processes.superlink import APP

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a SuperNode and its client process are started with.

    Attributes:
        superlink: Where the node connects to, as ``host:port``.
        root_certificates: The authority's certificate; None without TLS.
        key: The node's private key; None without node authentication.
        node_config: The file, or the settings, of the node.
        approved: The SHA-256 of each bundle that may run.
        isolation: Who starts client processes: the SuperNode itself (``subprocess``),
            or a program next to it (``process``).
        host: Where the SuperNode serves its client processes.
    """

    superlink: str
    root_certificates: Path | None = None
    key: Path | None = None
    node_config: str | None = None
    approved: tuple[str, ...] = ()
    isolation: str = "subprocess"
    host: str = "127.0.0.1"


def examine(options: NodeOptions) -> Iterator[Finding]:
    """Make all checks; what cannot be checked is an alarm too.

    A server's address that is none is an `InputError`, before anything is asked.
    """
    require_place("superlink", options.superlink)
    yield from examine_server(options, datetime.now(UTC))
    yield from examine_start(options)
    home = get_flwr_home()
    own = digest_of(build_bundle(APP))
    yield from check_bundles(options.approved, own, find_installed(home))
    config = NodeConfig()
    try:
        config = read_config(options.node_config)
    except InputError as error:
        yield Finding(f"--node-config: {error}", alarm=True)
    else:
        yield from examine_settings(config)
    yield from examine_files(options, config, home)


def examine_server(options: NodeOptions, now: datetime) -> Iterator[Finding]:
    """Check what the server shows here, and the certificates."""
    authority, answer = options.root_certificates, None
    try:
        answer = ask_control(options.superlink, authority)
    except (OSError, http.client.HTTPException) as error:
        yield Finding(
            f"{options.superlink} cannot be asked ({error}): whether its control paths "
            "are open here, and whether the clocks agree, was not checked",
            alarm=True,
        )
    if answer is not None:
        yield from (check_control(options.superlink, answer), check_clock(answer))
    if authority is None:
        yield Finding(
            "without `--root-certificates` the connection has no TLS: everybody on the "
            "way reads and changes what is sent",
            alarm=True,
        )
    else:
        yield from check_certificates(authority, end_of(answer), now)


def end_of(answer: Answer | None) -> datetime | None:
    """Return when the server's certificate ends, if it has shown one."""
    return None if answer is None else answer.ends


def examine_start(options: NodeOptions) -> Iterator[Finding]:
    """Check how the node is started."""
    if options.approved and options.isolation != "process":
        yield Finding(
            "without `--isolation process` the SuperNode starts client processes "
            "itself, which look at no `--only-bundle`",
            alarm=True,
        )
    if not is_loopback(options.host):
        yield Finding(
            f"--host {options.host}: the port for the node's own client processes is "
            "open to the network; start the SuperNode with `--host 127.0.0.1`",
            alarm=True,
        )


def read_config(given: str | None) -> NodeConfig:
    """Read a node's settings as Flower and the app do.

    A setting that the app refuses is an `InputError` too.

    Raises:
        InputError: If they cannot be read, or are neither a file nor settings.
    """
    try:
        parsed: Mapping[str, Scalar] = parse_config_args([given] if given else None)
        config = read_node_config(Context(0, 0, {**parsed}, RecordDict(), {}))
    except InputError:
        raise
    except Exception as error:  # Flower refuses texts by errors of its command line
        raise InputError(f"{given}: cannot be read ({error})") from None
    if given is not None and not parsed and not given.endswith(".toml"):
        raise InputError(
            f"{given!r}: has no settings; wanted a file whose name ends in .toml, or "
            "settings such as partition-id=0"
        )
    return config


def examine_settings(config: NodeConfig) -> Iterator[Finding]:
    """Check what the settings name, and what they lack."""
    if config.model_path is not None:
        yield check_model(config.model_path)
    named = {
        "covariance-path": config.covariance_path,
        "hypernetwork-path": config.hypernetwork_path,
    }
    for setting, path in named.items():
        if path is not None:
            yield check_named(setting, path)
    yield check_parties_key(config.key_path, required=config.require_secure_sum)


def examine_files(
    options: NodeOptions, config: NodeConfig, home: Path
) -> Iterator[Finding]:
    """Check the node's files: private ones, and folders to write to."""
    private = {
        "requests-path": config.requests_path,
        "text-path": config.text_path,
        "key-path": config.key_path,
        "--auth-supernode-private-key": options.key,
    }
    for name, path in private.items():
        if path is not None:
            yield check_private(name, path)
    kept = os.environ.get("COLLABEDIT_HOME") or str(home / "collabedit")
    folders = {
        "FLWR_HOME": home,
        "private-folder": config.private_folder or Path(kept),
        "target-cache": config.target_cache,
        "the cache": user_cache(),
    }
    for name, folder in folders.items():
        if folder is not None:
            yield check_writable(name, folder)
