"""What the server keeps of a layer, of a round, and between rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from strategies.exchange import Refusal
from strategies.memory import Memory
from strategies.messages import TargetsReply
from strategies.resolution import Entry


@dataclass(frozen=True, slots=True)
class EditedLayer:
    """What the server must know of a layer that is edited.

    Attributes:
        weight: The parameter's name.
        d_out: Width of the hidden state.
        d_in: Width of the keys.
        memory: The layer's prior, and what the rounds so far added to it.
    """

    weight: str
    d_out: int
    d_in: int
    memory: Memory


@dataclass(frozen=True, slots=True)
class RoundState:
    """All that the next round depends on, as it is after a whole round.

    Attributes:
        number: The round, counted from 1; 0 is before any edit.
        delta: All updates so far by parameter name, in float64.
        grams: What is remembered of each layer, in float64.
        history: Tokens of the requests that were edited, if tokens are compared.
    """

    number: int
    delta: Mapping[str, Tensor]
    grams: Mapping[int, Tensor]
    history: tuple[Entry, ...] = ()


@dataclass(slots=True)
class RoundOutcome:
    """What a round came to, besides its delta and metrics.

    Attributes:
        refusals: Parties that were left out, and why.
        idle: Parties that have no request in this round; that is no refusal.
        content: Parties all of whose requests were left out; that is none either.
        bytes_up: Bytes of statistics that each party sent, by node.
        requests: Requests that are edited, of all parties.
        known: Requests left out because the model holds them.
        left_out: Requests left out because of another party's.
        duplicates: Requests that were made more than once.
        conflicts: Facts that were given different objects.
        examined: Requests that the two sums are over.
        residual_norm: Sum of ``‖z − h‖``.
        residual_ratio: Sum of ``‖z − h‖ / ‖h‖``.
    """

    refusals: list[Refusal] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    content: list[int] = field(default_factory=list)
    bytes_up: dict[int, int] = field(default_factory=dict)
    requests: int = 0
    known: int = 0
    left_out: int = 0
    duplicates: int = 0
    conflicts: int = 0
    examined: int = 0
    residual_norm: float = 0.0
    residual_ratio: float = 0.0

    def count(self, node: int, reply: TargetsReply) -> None:
        """Add what a party says of its requests."""
        self.requests += reply.requests
        self.known += reply.known
        self.left_out += reply.left_out
        self.examined += reply.requests + reply.known
        self.residual_norm += reply.residual_norm
        self.residual_ratio += reply.residual_ratio
        if reply.requests == 0:
            had_some = reply.known + reply.left_out > 0
            (self.content if had_some else self.idle).append(node)

    def missing(self) -> str:
        """Say who is not taking part, and why."""
        refused = [f"node {each.node}: {each.reason}" for each in self.refusals]
        idle = [f"node {node}: it has no request" for node in self.idle]
        return "; ".join(refused + idle) or "nobody"
