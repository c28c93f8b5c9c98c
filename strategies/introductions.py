"""Introductions: what a party says of itself before anything is computed."""

from flwr.app import ConfigRecord, RecordDict
from pydantic import ValidationError

from editing.settings import Settings
from editing.statistics import StatisticsError
from strategies.messages import Job, ModelIdentity


class Introduction(Settings):
    """What a client says of itself before anything is computed.

    Attributes:
        protocol: The client's `PROTOCOL_VERSION`.
        identity: Of the client's model.
        party: Its place in sums, so that they do not depend on node numbers; −1 if the
            node was given none.
    """

    protocol: int
    identity: ModelIdentity
    party: int


def write_introduction(introduction: Introduction) -> RecordDict:
    """Pack what a client says of itself."""
    text = introduction.model_dump_json()
    return RecordDict({"introduction": ConfigRecord({"introduction": text})})


def read_introduction(content: RecordDict) -> Introduction:
    """Undo `write_introduction`.

    Raises:
        StatisticsError: If the reply is not of this protocol.
    """
    try:
        text = str(content["introduction"]["introduction"])
        return Introduction.model_validate_json(text)
    except (KeyError, ValidationError):
        raise StatisticsError("the introduction is not of this protocol") from None


def check_introduction(introduction: Introduction, job: Job) -> None:
    """Hold a party to the server's protocol and model.

    Raises:
        StatisticsError: Naming what differs.
    """
    if introduction.protocol != job.protocol:
        raise StatisticsError(
            f"it speaks protocol {introduction.protocol}, the server {job.protocol}"
        )
    different = job.identity.differences(introduction.identity)
    if different:
        raise StatisticsError(
            f"its model differs from the server's in: {', '.join(different)}"
        )
