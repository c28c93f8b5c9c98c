"""What a simulated client's process does: a message in, the client app's answer out."""

import json
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import ClientAppException, LoadClientAppError

from sims.processes.workers.transport import pack, receive, send, unpack

ERRORS = {each.__name__: each for each in (ClientAppException, LoadClientAppError)}
"""What Flower's simulation raises for a client app."""


class ClientTraceback(Exception):
    """The traceback of another process, shown where its error is raised again."""

    def __str__(self) -> str:
        """Return it as it was printed there."""
        return f"\n{self.args[0]}"


def work(connection: Connection, load: Callable[[], ClientApp]) -> None:
    """Answer each message that comes, until nobody can send more."""
    with connection, suppress(EOFError, ConnectionError):
        while True:
            send(connection, answer(receive(connection), load))


def answer(asked: list[bytes], load: Callable[[], ClientApp]) -> list[bytes]:
    """Give a message to the app, as Flower's `ray_actor` does.

    Args:
        asked: The message and its node's context, packed.
        load: Gives the app.

    Returns:
        The reply and the context after it, packed; or one part, an error by its name.
    """
    message, context = unpack(asked)
    try:
        reply = load()(message=message, context=context)
        return pack(reply, context)
    except Exception as error:
        is_load = isinstance(error, LoadClientAppError)
        kind = LoadClientAppError if is_load else ClientAppException
        failed = [kind.__name__, str(error), traceback.format_exc()]
        return [json.dumps(failed).encode()]


def ask(
    connection: Connection, message: Message, context: Context
) -> tuple[Message, Context]:
    """Have a message answered by the process at the other end.

    If the client app failed there, its error is raised here again; if the process has
    ended, it is an `EOFError` or `OSError`.
    """
    send(connection, pack(message, context))
    found = receive(connection)
    if len(found) == 1:
        kind, text, trace = json.loads(found[0])
        raise ERRORS[kind](text) from ClientTraceback(trace)
    return unpack(found)
