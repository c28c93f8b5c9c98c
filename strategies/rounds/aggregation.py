"""Statistics of one exchange, added up as they come and dropped."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from flwr.app import Message

from editing.algebra.encodings import decode
from editing.algebra.statistics import LayerStatistics, StatisticsError, pool
from strategies.rounds.limits import check_same_edits
from strategies.rounds.registry import PartyRegistry
from strategies.rounds.state import EditedLayer
from strategies.wire.messages import read_statistics


class Aggregation:
    """What the parties sent of some layers in one exchange.

    For a merge that needs their sum alone, memory does not grow with their number.
    """

    def __init__(
        self,
        number: int,
        layers: Sequence[int],
        known: Mapping[int, EditedLayer],
        needs: Literal["sum", "each"] = "sum",
    ) -> None:
        """Begin with nobody.

        Args:
            number: The round.
            layers: What was asked for.
            known: All edited layers.
            needs: Whether the parties' statistics are added up or kept apart.
        """
        self._number, self._needs = number, needs
        self._layers = {layer: known[layer] for layer in layers}
        self._parts: dict[int, list[LayerStatistics]] = {each: [] for each in layers}

    def add(self, reply: Message) -> None:
        """Take in what a party sent.

        If any of it cannot be right, nothing is taken, and a `StatisticsError` says
        what is wrong.
        """
        if len(self._layers) > 1:  # one layer at a time is in memory
            for layer in self._layers:
                self._decode(layer, reply)
        for layer, parts in self._parts.items():
            part = self._decode(layer, reply)
            if self._needs == "sum" and parts:
                parts[0] = parts[0] + part
            else:
                parts.append(part)

    def add_all(self, replies: Iterable[Message], registry: PartyRegistry) -> None:
        """Take in what comes, and refuse who sends what cannot be right."""
        edits = registry.outcomes[self._number].edits
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                check_same_edits(reply, self._layers, edits.get(node))
                self.add(reply)
            except StatisticsError as error:
                registry.refuse(self._number, node, str(error))
            else:
                registry.count_statistics(self._number, reply)

    def statistics(self, layer: int) -> Sequence[LayerStatistics]:
        """What was sent of a layer: the sum, or each in the order of the replies."""
        return self._parts[layer]

    def pooled(self, layer: int) -> LayerStatistics:
        """The sum of what was sent of a layer."""
        return pool(self._parts[layer])

    def _decode(self, layer: int, reply: Message) -> LayerStatistics:
        edited = self._layers[layer]
        try:
            sent = read_statistics(reply.content, layer, self._number)
            return decode(sent, edited.d_in, edited.d_out, edited.bounds)
        except StatisticsError as error:
            raise StatisticsError(f"layer {layer}: {error}") from None
