"""What a client reports when it cannot answer: the class of the failure, no more."""

from typing import Literal, get_args

from flwr.app import ConfigRecord, RecordDict
from pydantic import TypeAdapter, ValidationError

from strategies.wire.names import PartyName

Failure = Literal[
    "another protocol version",
    "another model",
    "another covariance",
    "another hypernetwork",
    "updates that are missing",
    "settings that cannot be used",
    "requests that are missing",
    "a file of requests that holds none",
    "requests that are malformed",
    "requests that changed during the round",
    "requests that cannot be used",
    "texts that cannot be used",
    "a model that cannot be loaded",
    "keys that are not genuine",
    "a sum that it refuses",
    "numbers beyond run.max-key-ratio, run.max-residual-ratio or run.max-residual-norm",
    "not enough memory",
    "no room on its disk",
    "files that it cannot use",
    "arithmetic that failed",
    "an error of the program",
]
"""All that a client reports of a failure; the rest stays in its own log."""

MISSING_UPDATES: Failure = "updates that are missing"
"""Reported by a node that lacks updates which the server took it to hold."""

FORGED: Failure = "keys that are not genuine"
"""Reported of keys that another party did not make."""

BEYOND_BOUND: Failure = (
    "numbers beyond run.max-key-ratio, run.max-residual-ratio or run.max-residual-norm"
)
"""Reported of numbers that a secure sum cannot hold within the run's bounds."""

MOST_PARTIES = 1_000_000
"""Numbers of parties are lower."""

INPUT_FAILURES: frozenset[Failure] = frozenset(
    {
        "another model",
        "another covariance",
        "another hypernetwork",
        "settings that cannot be used",
        "requests that are missing",
        "a file of requests that holds none",
        "requests that are malformed",
        "requests that cannot be used",
        "texts that cannot be used",
        "a model that cannot be loaded",
    }
)
"""Failures of what a party was given: they last until its operator corrects them.

A file of requests that changes during a round is not among them: the next round reads
the new file.
"""

UNKNOWN_FAILURE = "a failure without a name"

_NAME = TypeAdapter(PartyName)


def write_failure(
    failure: Failure, name: str = "", about: int | None = None
) -> RecordDict:
    """Pack the class of a failure with the party's name, and nothing else.

    Args:
        failure: The class.
        name: What the party is called.
        about: The number of another party, whose keys are not genuine.
    """
    record = ConfigRecord({"kind": failure, "name": name})
    if about is not None:
        record["about"] = about
    return RecordDict({"failure": record})


def read_failure(content: RecordDict) -> str | None:
    """Return the class of a failure, or None if the reply reports none.

    A text that is not a `Failure` may hold anything, so it is replaced.
    """
    record = content.config_records.get("failure")
    if record is None:
        return None
    kind, about = record.get("kind"), record.get("about")
    if kind not in get_args(Failure):
        return UNKNOWN_FAILURE
    if kind == FORGED and isinstance(about, int) and 0 <= about < MOST_PARTIES:
        return f"{FORGED}, of party {about}"
    return str(kind)


def read_failed_name(content: RecordDict) -> str:
    """Return the name of a party that reports a failure; empty if it is not a name.

    A node that fails in its handshake has no other way to give its party's name.
    """
    name = content.config_records.get("failure", ConfigRecord()).get("name")
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        return ""
