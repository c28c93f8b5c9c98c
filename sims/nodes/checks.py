"""What the operator of a node can see from where the node runs, one check each."""

import errno
import http.client
import ssl
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

from editing.base.errors import InputError
from editing.sources.embedded import looks_local, resolve_model
from sims.nodes.proxy import CONTROL
from sims.processes.certificates import Ending
from sims.processes.credentials import find_endings

CLOSED = frozenset({401, 403, 404, 421})
"""What a proxy answers, or a SuperLink with accounts, where paths are closed."""

SECONDS = 10.0
"""How long the server is waited for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        text: A line for the operator, with what to do about it.
        alarm: Whether something is to be done.
    """

    text: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """How a server answers a request for a path of operators.

    Attributes:
        status: The HTTP status.
        ahead: Seconds that the clock here is ahead of the server's; None if it does
            not tell the time.
        ends: When its certificate ends; None without TLS.
    """

    status: int
    ahead: float | None
    ends: datetime | None


def ask_control(superlink: str, authority: Path | None) -> Answer:
    """Ask a server for the list of runs, which changes nothing.

    Without a connection, or trust in it, the error is an `OSError`.

    Args:
        superlink: The address that the node is started with, as ``host:port``.
        authority: The certificate that the server's is signed by; None without TLS.
    """
    link = http.client.HTTPConnection(superlink, timeout=SECONDS)
    if authority is not None:
        trusted = ssl.create_default_context(cafile=authority)
        link = http.client.HTTPSConnection(superlink, timeout=SECONDS, context=trusted)
    try:
        link.connect()
        ends = read_end(link.sock)
        before = time.time()
        headers = {"Content-Type": "application/protobuf"}
        link.request("POST", f"{CONTROL}list-runs", b"", headers)
        reply = link.getresponse()
        here = (before + time.time()) / 2
        return Answer(reply.status, seconds_ahead(here, reply.getheader("Date")), ends)
    finally:
        link.close()


def read_end(line: object) -> datetime | None:
    """Read when the certificate of the other side ends; None without TLS."""
    if not isinstance(line, ssl.SSLSocket):
        return None
    end = str((line.getpeercert() or {})["notAfter"])
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC)


def seconds_ahead(here: float, there: str | None) -> float | None:
    """Compare our clock with a server's `Date`, which has whole seconds."""
    try:
        time_there = parsedate_to_datetime(there or "").timestamp()
    except (ValueError, OverflowError):
        return None
    return here - (time_there + 0.5)


def check_control(superlink: str, answer: Answer) -> Finding:
    """Alarm if the paths of operators are open where the node is."""
    place = f"{CONTROL} at {superlink}"
    if answer.status in CLOSED:
        return Finding(f"{place} is closed here ({answer.status})")
    return Finding(
        f"{place} answers here ({answer.status}): whoever is in this network can run "
        "code on every node. Ask the server's operator for a proxy that passes "
        "/v1/fleet/ alone (`python -m sims proxy-config`), and run approved bundles "
        "alone (`--only-bundle`)",
        alarm=True,
    )


def check_clock(answer: Answer) -> Finding:
    """Alarm if the clock differs from the server's by more than Flower admits."""
    if answer.ahead is None:
        return Finding("the server does not tell the time; the clock was not checked")
    most = float(SYSTEM_TIME_TOLERANCE)
    slowest = TIMESTAMP_TOLERANCE + most
    side = "ahead of" if answer.ahead > 0 else "slower than"
    if abs(answer.ahead) <= most:
        return Finding(f"the clock is within {most:.0f} s of the server's")
    return Finding(
        f"the clock is {abs(answer.ahead):.0f} s {side} the server's, which refuses "
        f"nodes that are more than {most:.0f} s ahead or {slowest:.0f} s "
        "slow. Set both by the same time servers (NTP)",
        alarm=True,
    )


def check_certificates(
    authority: Path, ends: datetime | None, now: datetime
) -> Iterator[Finding]:
    """Alarm if the authority's or the server's certificate ends within 30 days.

    Args:
        authority: The node's copy of the authority's certificate.
        ends: When the server's ends; None if it is not known.
        now: The time.
    """
    try:
        found = [*find_endings(authority)]
    except InputError as error:
        yield Finding(str(error), alarm=True)
        return
    if ends is not None:
        found.append(Ending(Path("the server's certificate"), ends))
    for each in found:
        if warning := each.warn(now):
            yield Finding(f"{warning}. Tell the server's operator", alarm=True)
        else:
            yield Finding(f"{each.file}: until {each.time:%Y-%m-%d}")


def check_writable(name: str, folder: Path) -> Finding:
    """Alarm if nothing can be written to a folder, or it cannot be made."""
    try:
        place = find_place(folder)
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            return Finding(f"{name} {folder} can be written")
    except (OSError, ValueError) as error:
        return Finding(
            f"{name} {folder} cannot be written ({reason_of(error)}): the node's "
            "client would fail; change who owns it, or name another folder",
            alarm=True,
        )


def check_private(name: str, path: Path) -> Finding:
    """Alarm if other users of the machine can read a file or a folder."""
    try:
        place = find_place(path)
        open_to = who_reads(place.resolve(strict=True))
    except (OSError, ValueError, RuntimeError) as error:  # the last: a loop of links
        return Finding(f"{name} {path} cannot be read ({reason_of(error)})", alarm=True)
    if not open_to:
        return Finding(f"{name} {path} is readable by its owner alone")
    mode = "go-rwx" if place.is_file() else "700"
    return Finding(
        f"{name} {path} can be read by {' and '.join(open_to)} of this machine: "
        f"`chmod {mode} {path}`",
        alarm=True,
    )


def find_place(path: Path) -> Path:
    """Make a path absolute, ``~`` and ``~user`` resolved.

    Raises:
        FileNotFoundError: If there is no such user.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "no such user") from None


def reason_of(error: Exception) -> str:
    """Say why, in few words."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def check_model(path: str) -> Finding:
    """Alarm if there is no model in a folder; hub names are taken as they are."""
    try:
        place = Path(resolve_model(path))
        if not place.exists():
            return Finding(
                f"model-path {path} is a name of the hub, which is not asked"
            )
        if (place / "config.json").is_file():
            return Finding(f"model-path {path} has a config.json")
    except (InputError, OSError) as error:
        return Finding(f"model-path {path}: {reason_of(error)}", alarm=True)
    return Finding(
        f"model-path {path} has no config.json: the node's client would fail; name a "
        "folder as `save_pretrained` writes it",
        alarm=True,
    )


def check_named(setting: str, path: str) -> Finding:
    """Alarm if a setting names a file by a path that leads nowhere."""
    try:
        if not looks_local(path) or Path(path).exists():
            return Finding(f"{setting} {path}")
        reason = "it is not there"
    except OSError as error:
        reason = reason_of(error)
    return Finding(
        f"{setting} {path}: {reason}, and the node's client would fail",
        alarm=True,
    )


def check_parties_key(key: Path | None, *, required: bool) -> Finding:
    """Alarm if a node answers under masks alone and has no key for them."""
    if key is not None:
        return Finding("with `key-path` this node takes part in secure sums")
    return Finding(
        "without `key-path` secure sums and comparisons fail at this node: get the "
        "file of the key that all parties share",
        alarm=required,
    )


def who_reads(place: Path) -> list[str]:
    """Say who else can read a file: it and all folders on the way must let them."""
    mode = place.stat().st_mode
    ways = [parent.stat().st_mode for parent in place.parents]
    every = stat.S_IXOTH
    group = all(way & (every | stat.S_IXGRP) for way in ways)
    found = ["its group"] if mode & stat.S_IRGRP and group else []
    others = all(way & every for way in ways)
    return found + (["all users"] if mode & stat.S_IROTH and others else [])


def check_bundles(
    approved: Collection[str], own: str, installed: Mapping[str, str]
) -> Iterator[Finding]:
    """Alarm if code runs here, or did, that is not approved.

    Args:
        approved: The SHA-256 of each approved bundle.
        own: That of the bundle of this clone.
        installed: The first digits of bundles that ran without approval, by name.
    """
    if not approved:
        yield Finding(
            "no bundle is approved, so this node runs whatever the server sends: read "
            "the code of this clone, then start its client process with `--only-bundle "
            f"{own}`",
            alarm=True,
        )
    elif own in approved:
        yield Finding(f"the bundle of this clone is approved: {own}")
    else:
        yield Finding(
            f"the bundle of this clone, {own}, is not approved: the clone has other "
            "code than you approved, or `--only-bundle` is of another version",
            alarm=True,
        )
    for name in unapproved(approved, installed):
        yield Finding(
            f"the bundle {name} was sent here, and it is not approved: look at what it "
            "is, and remove its folder from `apps` in FLWR_HOME",
            alarm=True,
        )


def unapproved(approved: Collection[str], installed: Mapping[str, str]) -> list[str]:
    """List the installed bundles that no approved one begins like."""
    known = tuple(approved)
    return sorted(
        name
        for name, first in installed.items()
        if not any(digest.startswith(first) for digest in known)
    )


def count_alarms(findings: Iterable[Finding]) -> int:
    """Count what is to be done."""
    return sum(each.alarm for each in findings)
