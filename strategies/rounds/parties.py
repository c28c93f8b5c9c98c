"""Parties by their nodes: numbers, ids, and the names that operators gave them."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from editing.algebra.statistics import StatisticsError
from editing.base.errors import InputError
from strategies.wire.handshakes import FIRST_UNNUMBERED_ID, Handshake

RETURN_SECONDS = 90.0
"""How long parties that cannot be reached are waited for if too few are left.

Flower takes a node for gone 38 to 60 s after its last sign of life, and so all of them
after its own link was down; their next sign comes up to 25 s after that.
"""

MOST_HANDSHAKES = 3
"""In how many rounds a node that failed in its handshake is asked for another."""


class PartyInputError(InputError):
    """A party's own input is wrong: without it the result would lack its edits."""

    def __init__(self, party: str, reason: str) -> None:
        """Name the party, the reason, and what to do."""
        super().__init__(
            f"The input of {party} is wrong: {reason}. Its own log has the details. "
            "Correct the input there and start the run again, or run without the party."
        )


@dataclass(frozen=True, slots=True)
class Party:
    """A party that has joined.

    Attributes:
        number: Orders the sums; −1 if the node was given none.
        id: The number, or for a party without one a number beyond all parties'.
        name: What its operator called it; empty if nothing.
    """

    number: int
    id: int
    name: str = ""

    @property
    def label(self) -> str:
        """What log, report and errors call the party."""
        if self.name:
            return self.name
        if self.number >= 0:
            return f"party {self.number}"
        return f"unnumbered party {self.id - FIRST_UNNUMBERED_ID + 1}"


class Parties:
    """All parties that have joined, and the nodes that were asked to.

    Attributes:
        by_node: The party that each node represents.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.by_node: dict[int, Party] = {}
        self._nodes: dict[int, int] = {}
        self._called: Counter[str] = Counter()
        self._unnumbered = 0
        self._names: dict[int, str] = {}
        self._asked: dict[int, list[int]] = {}

    @property
    def joined(self) -> list[int]:
        """The nodes in the order of their parties' numbers, unnumbered ones last."""
        return sorted(
            self.by_node,
            key=lambda node: (self.number_of(node) < 0, self.number_of(node), node),
        )

    def number_of(self, node: int) -> int:
        """Return the number of a node's party; −1 if it has none."""
        party = self.by_node.get(node)
        return -1 if party is None else party.number

    def id_of(self, node: int) -> int:
        """Return the id of the party of a node that has joined."""
        return self.by_node[node].id

    def label(self, node: int) -> str:
        """Return what log, report and errors call a node's party.

        Names need not differ: one that is used twice comes with the party's number.
        """
        party = self.by_node.get(node)
        if party is None:
            return self._names.get(node) or self._label_unknown(node)
        if party.name and self._called[party.name] > 1:
            return f"{party.name} ({replace(party, name='').label})"
        return party.label

    def label_of(self, own: int) -> str:
        """Return what log, report and errors call the party of an id."""
        return self.label(self._nodes.get(own, -1))

    def _label_unknown(self, node: int) -> str:
        asked = list(self._asked)
        place = asked.index(node) if node in asked else len(asked)
        return f"unidentified node {place + 1}"

    def introduce(self, node: int, name: str) -> None:
        """Keep the name of a node that may be refused."""
        if name:
            self._names[node] = name

    def join(self, node: int, handshake: Handshake) -> None:
        """Register a node's party, in the place of a node that has left it."""
        number, own = handshake.party, handshake.party
        if number < 0:
            own = FIRST_UNNUMBERED_ID + self._unnumbered
            self._unnumbered += 1
        for replaced in (node, self._nodes.get(own, node)):
            self._leave(replaced)
        self.by_node[node] = Party(number, own, handshake.name)
        self._nodes[own] = node
        self._called[handshake.name] += 1

    def _leave(self, node: int) -> None:
        party = self.by_node.pop(node, None)
        if party is not None:
            del self._nodes[party.id]
            self._called[party.name] -= 1

    def check_number(self, number: int, connected: Collection[int]) -> None:
        """Validate that no other connected node represents the same party.

        Raises:
            StatisticsError: If another node does.
        """
        if number >= 0 and self._nodes.get(number) in connected:
            raise StatisticsError(
                f"it claims to be party {number}, and so does another node; "
                "give each node a `partition-id` of its own"
            )

    def ask(self, nodes: Iterable[int], number: int) -> None:
        """Record that nodes are asked for their handshakes in a round."""
        for node in nodes:
            self._asked.setdefault(node, []).append(number)

    def was_asked(self, node: int, number: int) -> bool:
        """Return whether a node was asked in this round."""
        return number in self._asked.get(node, ())

    def may_not_be_asked_again(self, node: int) -> bool:
        """Return whether a node has had all its handshakes."""
        return len(self._asked[node]) >= MOST_HANDSHAKES
