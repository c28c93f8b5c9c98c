"""Duplicate and conflicting requests at a party: tokens out, resolutions in."""

from collections.abc import Sequence

from clients.selection import Asked
from clients.settings import ClientConfig
from clients.storage import PrivateFolder
from editing.base.errors import InputError
from strategies.conflicts.blind_tokens import blind, keep_key, read_key
from strategies.conflicts.records import Resolution, TokenEntry


def find_key(config: ClientConfig, folder: PrivateFolder) -> bytes:
    """Read the key that the parties share and the server lacks.

    In a simulation the first party makes it, next to the folders of its runs.

    Raises:
        InputError: If a party with requests of its own was not given the key.
    """
    if config.key is not None:
        return read_key(config.key)
    if config.own_requests is None:
        return keep_key(folder.path.parent / "group.key")
    raise InputError(
        "The run compares blind tokens of requests, and this node was not given the "
        "key that all parties share. Make one with `openssl rand -hex 32`, give every "
        "party the file, and name it with `key-path` in the node config."
    )


def blind_requests(asked: Sequence[Asked], key: bytes) -> list[TokenEntry]:
    """Write the requests of a round as the server may see them."""
    entries = []
    for each in asked:
        token = blind(each.request, key)
        entries.append(
            TokenEntry(
                party=each.party,
                place=each.place,
                fact=token.fact,
                target=token.target,
            )
        )
    return entries


def apply_resolutions(
    asked: Sequence[Asked], resolutions: Sequence[Resolution]
) -> list[Asked]:
    """Return the requests of a round that the resolutions keep."""
    dropped = {
        (each.round, each.party, each.place) for each in resolutions if not each.kept
    }
    return [each for each in asked if place_of(each) not in dropped]


def check_resolutions(
    asked: Sequence[Asked], resolutions: Sequence[Resolution], key: bytes
) -> None:
    """Validate that each resolution is about a request of this node.

    Args:
        asked: The requests of all rounds so far.
        resolutions: The server's, of some of them.
        key: The parties' own.

    Raises:
        InputError: If the request is not here, or its token is another.
    """
    by_place = {place_of(each): each.request for each in asked}
    for resolution in resolutions:
        own = by_place.get((resolution.round, resolution.party, resolution.place))
        if own is None or blind(own, key).fact != resolution.fact:
            raise InputError(
                f"The server resolves request {resolution.place} of party "
                f"{resolution.party}, round {resolution.round}, and this node holds "
                "another one there or none. Did its requests or the key change during "
                "the run?"
            )


def place_of(asked: Asked) -> tuple[int, int, int]:
    """Return round, party and place, by which a resolution names a request."""
    return asked.round, asked.party, asked.place
