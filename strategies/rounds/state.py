"""What the server keeps of a layer, of a round, and between rounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from editing.algebra.statistics import NormBounds
from strategies.conflicts.policies import Entry
from strategies.rounds.exchange import Refusal
from strategies.rounds.memory import Memory
from strategies.wire.messages import TargetsReply


@dataclass(frozen=True, slots=True)
class EditedLayer:
    """What the server must know of a layer that is edited.

    Attributes:
        weight: The parameter's name.
        d_out: Width of the hidden state.
        d_in: Width of the keys.
        memory: The layer's prior, and what the rounds so far added to it.
        bounds: How long a party's keys and residuals may be.
    """

    weight: str
    d_out: int
    d_in: int
    memory: Memory
    bounds: NormBounds = field(default_factory=NormBounds)


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
        bytes_up: Bytes of statistics that each party sent, by node.
        told: What each party says of its requests, by node; a party that is refused
            before the round is merged is taken out again.
        edits: How many edits each party's statistics are sums over, by node. A request
            with further phrasings is several.
        merged: Whether the round's update has been made.
        duplicates: Requests that were made more than once.
        conflicts: Facts that were given different objects.
    """

    refusals: list[Refusal] = field(default_factory=list)
    bytes_up: dict[int, int] = field(default_factory=dict)
    told: dict[int, TargetsReply] = field(default_factory=dict)
    edits: dict[int, int] = field(default_factory=dict)
    merged: bool = False
    duplicates: int = 0
    conflicts: int = 0

    @property
    def requests(self) -> int:
        """Requests that are edited, of all parties."""
        return sum(each.requests for each in self.told.values())

    @property
    def known(self) -> int:
        """Requests left out because the model holds them."""
        return sum(each.known for each in self.told.values())

    @property
    def left_out(self) -> int:
        """Requests left out because of another party's."""
        return sum(each.left_out for each in self.told.values())

    @property
    def examined(self) -> int:
        """Requests that the sums of residuals are over."""
        return self.requests + self.known

    @property
    def residual_norm(self) -> float:
        """Sum of ``‖z − h‖``."""
        return sum(each.residual_norm for each in self.told.values())

    @property
    def residual_ratio(self) -> float:
        """Sum of ``‖z − h‖ / ‖h‖``."""
        return sum(each.residual_ratio for each in self.told.values())

    @property
    def idle(self) -> list[int]:
        """Parties that have no request in this round; that is no refusal."""
        return [node for node, each in self.told.items() if has_none(each)]

    @property
    def content(self) -> list[int]:
        """Parties all of whose requests were left out; that is none either."""
        return [
            node
            for node, each in self.told.items()
            if each.requests == 0 and not has_none(each)
        ]

    def refuse(self, refusal: Refusal) -> None:
        """Note that a party goes on no further, and what it does not contribute."""
        self.refusals.append(refusal)
        if not self.merged:
            self.told.pop(refusal.node, None)

    def missing(self) -> str:
        """Say who is not taking part, and why."""
        refused = [f"node {each.node}: {each.reason}" for each in self.refusals]
        idle = [f"node {node}: it has no request" for node in self.idle]
        return "; ".join(refused + idle) or "nobody"


def has_none(reply: TargetsReply) -> bool:
    """Whether a party has no request at all."""
    return reply.requests + reply.known + reply.left_out == 0
