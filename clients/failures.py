"""Failures at a node: the class goes to the server, the details to the node's log.

An exception may quote paths, prompts and subjects. So the server receives one of a few
fixed texts, and the node's own log has the message, and the trace unless the input is
bad.
"""

import errno
import logging
from collections.abc import Callable

import torch
from flwr.app import Context, Message

from clients.covariance.own_prior import OtherCovarianceError
from clients.own_requests import ChangedRequestsError, MalformedRequestsError
from clients.secure.party import RefusedSumError
from clients.settings import NodeSettingsError, name_of_node
from clients.updates import MissingUpdatesError
from editing.base.errors import EmptySourceError, InputError, MissingSourceError
from editing.base.foreign_text import keep_logs_harmless
from editing.covariance.texts import TextError
from editing.files.disk import causes, has_no_room, system_number
from editing.malmen.hypernetwork import HypernetworkError
from editing.models.loading import ModelError
from strategies.secure.fixed_point import BeyondBoundError
from strategies.secure.keys import ForgedKeyError
from strategies.wire.failures import (
    BEYOND_BOUND,
    FORGED,
    MISSING_UPDATES,
    Failure,
    write_failure,
)
from strategies.wire.messages import ProtocolError

logger = logging.getLogger(__name__)

_TORCH_OUT_OF_MEMORY = "can't allocate memory"


class OtherModelError(InputError):
    """Server and client do not hold the same model."""


KINDS: tuple[tuple[type[Exception], Failure], ...] = (
    (ProtocolError, "another protocol version"),
    (OtherModelError, "another model"),
    (OtherCovarianceError, "another covariance"),
    (HypernetworkError, "another hypernetwork"),
    (ModelError, "a model that cannot be loaded"),
    (MissingUpdatesError, MISSING_UPDATES),
    (NodeSettingsError, "settings that cannot be used"),
    (MissingSourceError, "requests that are missing"),
    (EmptySourceError, "a file of requests that holds none"),
    (MalformedRequestsError, "requests that are malformed"),
    (ChangedRequestsError, "requests that changed during the round"),
    (ForgedKeyError, FORGED),
    (RefusedSumError, "a sum that it refuses"),
    (BeyondBoundError, BEYOND_BOUND),
    (TextError, "texts that cannot be used"),
    (ArithmeticError, "arithmetic that failed"),
    (InputError, "requests that cannot be used"),
    (OSError, "files that it cannot use"),
)
"""What the server may know of an exception; the first class that fits counts."""


def keep_private(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    """Answer a failure with its class and the party's name; the log has the details.

    Flower would send an exception's text to the server, with paths and prompts in it.
    For a client that exits it would send nothing, and its node would wait for ever.
    Bad input is logged in one line; any other failure with its traceback.
    """
    keep_logs_harmless()  # of what requests and the server's message say
    try:
        return call_next(message, context)
    except (Exception, SystemExit) as error:
        kind = message.metadata.message_type
        trace = None if isinstance(error, InputError) else error
        logger.error("%s failed: %s", kind, error, exc_info=trace)
        shared = "party" in message.content.config_records  # its node has many parties
        name = "" if shared else name_of_node(context)
        about = error.party if isinstance(error, ForgedKeyError) else None
        return Message(write_failure(classify(error), name, about), reply_to=message)


def classify(error: BaseException) -> Failure:
    """Return the class of a failure, which is all that the server may know."""
    if has_no_room(error):
        return "no room on its disk"
    if any(_is_of_memory(each) for each in causes(error)):
        return "not enough memory"
    for kind, failure in KINDS:
        if isinstance(error, kind):
            return failure
    return "an error of the program"


def _is_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; torch has no class for that on a CPU."""
    if isinstance(error, RuntimeError) and _TORCH_OUT_OF_MEMORY in str(error):
        return True
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or system_number(error) == errno.ENOMEM
