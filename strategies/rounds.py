"""What the server keeps of a layer, and of a round."""

from dataclasses import dataclass, field

from strategies.exchange import Refusal
from strategies.memory import Memory


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


@dataclass(slots=True)
class RoundOutcome:
    """What a round came to, besides its delta and metrics.

    Attributes:
        refusals: Parties that were left out, and why.
        idle: Parties that have no request in this round; that is no refusal.
        bytes_up: Bytes of statistics that each party sent, by node.
        requests: Requests of all parties that have some.
    """

    refusals: list[Refusal] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    bytes_up: dict[int, int] = field(default_factory=dict)
    requests: int = 0

    def missing(self) -> str:
        """Say who is not taking part, and why."""
        refused = [f"node {each.node}: {each.reason}" for each in self.refusals]
        idle = [f"node {node}: it has no request" for node in self.idle]
        return "; ".join(refused + idle) or "nobody"
