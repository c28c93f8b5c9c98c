"""What a party may do wrong: changes to what it sends."""

from collections.abc import Callable

import numpy as np
from flwr.app import Array, RecordDict

from strategies.wire.failures import Failure, write_failure
from strategies.wire.handshakes import (
    Handshake,
    read_handshake,
    write_handshake,
)
from strategies.wire.messages import (
    Phase,
    TargetsReply,
    read_targets_reply,
    write_targets_reply,
)
from tests.federation import Federation, on_phase
from tests.strategies.transport import write_numbers

Content = Callable[[RecordDict], None]
"""Changes a reply's content in place."""


def introduced(**changes: object) -> Content:
    """Have a party say something else of itself."""

    def change(content: RecordDict) -> None:
        said = read_handshake(content)
        changed = Handshake.model_validate({**said.model_dump(), **changes})
        content["handshake"] = write_handshake(changed)["handshake"]

    return change


def sent(name: str, array: np.ndarray) -> Content:
    """Put another array among a party's statistics."""

    def change(content: RecordDict) -> None:
        content.array_records["statistics"][name] = Array(array)

    return change


def renamed(name: str, other: str) -> Content:
    """Send an array under a name that nobody knows."""

    def change(content: RecordDict) -> None:
        record = content.array_records["statistics"]
        record[other] = record.pop(name)

    return change


def claimed(name: str, value: int | str) -> Content:
    """Put another fact next to a party's statistics."""

    def change(content: RecordDict) -> None:
        content.config_records["facts"][name] = value

    return change


def said(**changes: float) -> Content:
    """Have a party say something else of its targets."""

    def change(content: RecordDict) -> None:
        changed = {**read_targets_reply(content).model_dump(), **changes}
        record = write_targets_reply(TargetsReply.model_validate(changed))
        content["targets"] = record["targets"]

    return change


def measured(**metrics: float) -> Content:
    """Put other numbers into a party's reply."""

    def change(content: RecordDict) -> None:
        content["metrics"] = write_numbers(metrics)["metrics"]

    return change


def without_layer(content: RecordDict) -> None:
    """Leave a layer out."""
    for name in [n for n in content.array_records["statistics"] if n.startswith("2.")]:
        del content.array_records["statistics"][name]


def without_statistics(content: RecordDict) -> None:
    """Leave all layers out."""
    del content["statistics"]


def failing(failure: Failure) -> Content:
    """Report a failure in the place of an answer."""

    def change(content: RecordDict) -> None:
        content.clear()
        content["failure"] = write_failure(failure)["failure"]

    return change


def disturb(federation: Federation, phase: Phase, change: Content) -> None:
    """Have the second party do something wrong."""
    federation.tampers[1] = on_phase(phase, change)
