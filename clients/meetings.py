"""Requests of several parties that meet: tokens out, rulings in."""

from collections.abc import Callable, Sequence

from clients.requests import ClientConfig
from clients.selection import Asked
from clients.storage import PrivateFolder
from editing.errors import InputError
from editing.tokens import blind, keep_key, read_key
from strategies.notices import Ruling, TokenEntry


def find_key(config: ClientConfig, folder: PrivateFolder) -> bytes:
    """Read the key that the parties have in common and the server does not.

    The parties of a simulation have one home, and the first of them makes it there.

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


def heed_rulings(
    asked: Sequence[Asked], rulings: Sequence[Ruling], read: Callable[[], bytes]
) -> list[Asked]:
    """Leave out what the server rules out, each ruling held to its request first.

    Args:
        asked: The requests of the round.
        rulings: What the server says of them.
        read: Gives the parties' key; asked only if there are rulings.
    """
    if not rulings:
        return list(asked)
    _check_rulings(asked, rulings, read())
    dropped = {(each.party, each.place) for each in rulings if not each.kept}
    return [each for each in asked if (each.party, each.place) not in dropped]


def _check_rulings(
    asked: Sequence[Asked], rulings: Sequence[Ruling], key: bytes
) -> None:
    """Hold each ruling to the request that it is about.

    Raises:
        InputError: If the request is not here, or its token is another.
    """
    by_place = {(each.party, each.place): each.request for each in asked}
    for ruling in rulings:
        own = by_place.get((ruling.party, ruling.place))
        if own is None or blind(own, key).fact != ruling.fact:
            raise InputError(
                f"The server rules on request {ruling.place} of party {ruling.party}, "
                "and this node holds another one there or none. Did its requests or "
                "the key change while the run went on?"
            )
