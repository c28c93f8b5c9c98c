"""Places in a network: a host and a port, checked before anybody connects to them."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from editing.base.errors import InputError
from editing.base.foreign_text import show_foreign
from sims.processes.certificates import is_host_name

PORT = re.compile(r"[0-9]{1,5}")
EVERYWHERE = frozenset({"", "0.0.0.0", "::"})
"""Hosts that listen at all addresses of a machine."""


def is_port(text: str) -> bool:
    """Whether a text is the number of a port."""
    return bool(PORT.fullmatch(text)) and 0 < int(text) <= 65535


def is_host(text: str) -> bool:
    """Whether a text is a name, an address, or one of IPv6 in brackets."""
    try:
        if text.startswith("[") and text.endswith("]"):
            return not IPv6Address(text[1:-1]).scope_id
        return bool(IPv4Address(text))
    except ValueError:
        return is_host_name(text)


def split_place(text: str) -> tuple[str, str]:
    """Split at the last colon; a port alone has an empty host."""
    host, _, port = text.rpartition(":")
    return host, port


def require_place(option: str, text: str) -> None:
    """Require a host and a port.

    Raises:
        InputError: If it is anything else.
    """
    host, port = split_place(text)
    if not (is_host(host) and is_port(port)):
        raise InputError(
            f"--{option} {show_foreign(text)}: wanted a host and a port, such as "
            "127.0.0.1:8000"
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def collide(listen: str, other: str) -> bool:
    """Whether who listens at a port, or at a place, is reached at another place."""
    (host, port), (theirs, there) = split_place(listen), split_place(other)
    if int(port) != int(there):
        return False
    own, host = is_loopback(theirs), host.lower().strip("[]")
    same = host == theirs.lower().strip("[]")
    return same or (own and (host in EVERYWHERE or host == "localhost"))
