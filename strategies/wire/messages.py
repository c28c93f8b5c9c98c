"""The protocol: messages between server and clients.

Every message carries the whole job, because in deployment each one meets a new process.
The model never travels, and neither do requests, prompts, subjects or targets.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from pydantic import Field, NonNegativeInt, ValidationError

from editing.algebra.encodings import EncodedStatistics, Encoding
from editing.algebra.statistics import StatisticsError
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.hyperparameters.config import Plan
from editing.malmen.rule import AnyRule
from strategies.wire.arrays import to_array, to_tensors
from strategies.wire.updates import write_updates

PROTOCOL_VERSION = 9
"""Changes with the meaning of any message."""


class Phase(StrEnum):
    """The kinds of message; each is a Flower message type."""

    DESCRIBE = "query.describe"
    MOMENTS = "query.moments"
    TOKENS = "query.tokens"
    KEYS = "query.keys"
    SHARES = "query.shares"
    ANSWERS = "train.answers"
    TARGETS = "train.targets"
    STATISTICS = "train.statistics"
    MEMORY = "train.memory"
    BEGIN = "train.begin"
    VALUES = "train.values"
    LOSSES = "train.losses"
    GRADIENTS = "train.gradients"
    UNMASK = "query.unmask"
    EVALUATE = "evaluate.requests"
    FORGET = "query.forget"


class ProtocolError(InputError):
    """Server and client are of different versions."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever the bytes of the server's message make a library raise into a line.

    Args:
        what: What is read.

    Raises:
        ProtocolError: Naming it.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise ProtocolError(
            f"The server's message does not hold {what} as in protocol "
            f"{PROTOCOL_VERSION} ({type(error).__name__}). Do server and clients run "
            "the same version?"
        ) from None


class ModelIdentity(Settings):
    """What must be equal for two nodes to edit the same model.

    Attributes:
        weights: SHA-256 of all parameters and their precision.
        tokenizer: SHA-256 of how the tokenizer tokenizes.
        configuration: SHA-256 of what else decides what the model computes.
    """

    weights: str
    tokenizer: str
    configuration: str = ""

    def differences(self, other: "ModelIdentity") -> list[str]:
        """Name what differs."""
        fields = ("weights", "tokenizer", "configuration")
        return [name for name in fields if getattr(self, name) != getattr(other, name)]


class OwnPrior(Settings):
    """What a party needs to solve by itself, under the schedule ``alone``.

    Attributes:
        covariance: SHA-256 of ``C₀``, which the party has from its own text or file.
        travels: Whether ``C₀`` is sent with the job, because it is made of all parties'
            texts and no node has it.
        weight: ``λ``.
        memory_weight: ``γ``; the grams of earlier rounds travel with the job.
    """

    covariance: str
    travels: bool = False
    weight: float
    memory_weight: float


class Job(Settings):
    """All that a client needs to know about the run.

    Attributes:
        protocol: The server's `PROTOCOL_VERSION`.
        identity: Of the server's model.
        plan: Hyperparameters, schedule and context templates.
        encoding: How statistics shall be written.
        label: Names the part of the run, for files that stay with the party.
        round: Counted from 1; 0 is before any edit.
        last: Whether it is the run's last one; said when requests are evaluated.
        before: Digest of the updates that the model carried when the round began.
        layers: Layers whose statistics are asked for.
        pooled: Whether this party holds everybody's requests (`global`).
        prior: Under ``alone``, what the party solves against.
        answers: For editors that read keys and gradients at the answers' tokens, how
            values are made of them.
    """

    protocol: int = PROTOCOL_VERSION
    identity: ModelIdentity
    plan: Plan
    encoding: Encoding = "factors"
    label: str = "run"
    round: int = 0
    last: bool = False
    before: str = ""
    layers: tuple[int, ...] = ()
    pooled: bool = False
    prior: OwnPrior | None = None
    answers: AnyRule | None = None

    @property
    def pools_moments(self) -> bool:
        """Whether a round begins with moments of keys and gradients."""
        return self.answers is not None and self.answers.pools

    def asking(self, number: int, layers: Sequence[int]) -> "Job":
        """Return the job of a round that asks for the statistics of some layers."""
        return self.model_copy(update={"round": number, "layers": tuple(layers)})


class TargetsReply(Settings):
    """A party's summary of its targets of a round.

    The sums are over the requests that it computed targets for, so `requests + known`.

    Attributes:
        requests: How many are edited.
        known: How many are left out because the model knows them.
        left_out: How many are left out because of their resolutions.
        residual_norm: Sum of ``‖z − h‖``.
        residual_ratio: Sum of ``‖z − h‖ / ‖h‖``.
    """

    requests: NonNegativeInt
    known: NonNegativeInt = 0
    left_out: NonNegativeInt = 0
    residual_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    residual_ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


def write_job(
    job: Job,
    delta: ArrayRecord,
    config: ConfigRecord | None = None,
    prior: ArrayRecord | None = None,
) -> RecordDict:
    """Pack a job with the updates that the model shall carry, by parameter name.

    Args:
        job: What is asked.
        delta: The updates.
        config: What a caller of the strategy adds for clients of its own.
        prior: Under ``alone``, what a party cannot know of its prior
            (`strategies.wire.priors`).
    """
    return RecordDict(
        {
            **write_updates(delta),
            "job": ConfigRecord({"job": job.model_dump_json()}),
            "config": config or ConfigRecord(),
            "prior": prior or ArrayRecord(),
        }
    )


def read_job(content: RecordDict) -> Job:
    """Undo `write_job`, the updates aside.

    Raises:
        ProtocolError: If the message is not one of this protocol.
    """
    try:
        job = Job.model_validate_json(str(content["job"]["job"]))
    except (KeyError, ValidationError, TypeError) as error:
        raise ProtocolError(
            f"The server's message is not one of protocol {PROTOCOL_VERSION} "
            f"({type(error).__name__}). Do server and clients run the same version?"
        ) from None
    if job.protocol != PROTOCOL_VERSION:
        raise ProtocolError(
            f"The server uses protocol {job.protocol}, this client "
            f"{PROTOCOL_VERSION}. Run the same version on both sides."
        )
    return job


def write_statistics(parts: Mapping[int, EncodedStatistics], number: int) -> RecordDict:
    """Pack a party's statistics of some layers, in the round of that number."""
    arrays = {
        f"{layer}.{name}": to_array(tensor)
        for layer, part in parts.items()
        for name, tensor in part.tensors.items()
    }
    facts: dict[str, str | int] = {"round": number}
    for layer, part in parts.items():
        facts |= {f"{layer}.encoding": part.encoding, f"{layer}.count": part.count}
    return RecordDict(
        {"statistics": ArrayRecord(arrays), "facts": ConfigRecord({**facts})}
    )


def read_statistics(content: RecordDict, layer: int, number: int) -> EncodedStatistics:
    """Unpack one layer of a party's statistics; `write_statistics` packs it.

    Raises:
        StatisticsError: If the layer is not there, of another round or not of this
            protocol.
    """
    try:
        facts, arrays = content.config_records["facts"], content.array_records
        prefix = f"{layer}."
        named = {
            name.removeprefix(prefix): array
            for name, array in arrays["statistics"].items()
            if name.startswith(prefix)
        }
        encoding, count = facts[f"{layer}.encoding"], facts[f"{layer}.count"]
        sent_in = facts["round"]
        tensors = to_tensors(ArrayRecord(named))
    except Exception as error:  # whatever a party's bytes make numpy raise
        raise StatisticsError(
            f"Statistics of layer {layer} were asked for, and the reply does not hold "
            f"them ({type(error).__name__})."
        ) from None
    if sent_in != number:
        raise StatisticsError(
            f"Statistics of round {number} were asked for, and these are of another."
        )
    if not isinstance(count, int):
        raise StatisticsError(f"The count of layer {layer} is no whole number.")
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise StatisticsError(f"Statistics of layer {layer} are no real numbers.")
    return EncodedStatistics(str(encoding), tensors, count)


def write_targets_reply(reply: TargetsReply) -> RecordDict:
    """Pack a summary of targets."""
    return RecordDict({"targets": ConfigRecord({"targets": reply.model_dump_json()})})


def read_targets_reply(content: RecordDict) -> TargetsReply:
    """Undo `write_targets_reply`.

    Raises:
        StatisticsError: If the reply does not contain the number of requests.
    """
    try:
        return TargetsReply.model_validate_json(str(content["targets"]["targets"]))
    except (KeyError, ValidationError, TypeError):
        raise StatisticsError("its number of requests is not in the reply") from None


def write_contribution(
    reply: TargetsReply, parts: Mapping[int, EncodedStatistics], number: int
) -> RecordDict:
    """Pack a summary of targets, and the first statistics made of them."""
    return RecordDict({**write_targets_reply(reply), **write_statistics(parts, number)})
