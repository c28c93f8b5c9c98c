"""Aggregation of the statistics of one exchange, as the replies arrive."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from flwr.app import Message
from flwr.serverapp.exception import AggregationError

from editing.algebra.encodings import Encoding, decode
from editing.algebra.statistics import (
    LayerStatistics,
    LongResidualsError,
    StatisticsError,
    Total,
    pool,
)
from editing.algebra.threads import threads_for
from strategies.rounds.limits import Limits, validate_same_edits
from strategies.rounds.registry import PartyRegistry
from strategies.rounds.state import EditedLayer
from strategies.wire.messages import read_statistics, read_targets_reply
from strategies.wire.metrics import EvaluationSums

Observer = Callable[[int, int, LayerStatistics], None]
"""Receives layer, party's id and valid statistics, before they are added up."""


class SpoiledModelError(AggregationError):
    """Layers that are merged made the model worse for several parties."""

    def __init__(self, number: int, why: str) -> None:
        """Give the round and the reason, and what to do."""
        super().__init__(
            f"Round {number} is stopped, and nothing of it is applied: {why}. Not they "
            "are at fault, but the update before. `gate.requests` finds out whose; a "
            "merge that overshoots needs a larger `run.max-residual-ratio`."
        )


class Aggregation:
    """The parties' statistics of the layers of one exchange.

    For a merge that needs their sum alone, memory does not grow with their number.
    """

    def __init__(
        self,
        number: int,
        layers: Sequence[int],
        edited: Mapping[int, EditedLayer],
        needs: Literal["sum", "each"] = "sum",
        observe: Observer = lambda *_: None,
        encoding: Encoding | None = None,
    ) -> None:
        """Start without any party.

        Args:
            number: The round.
            layers: The layers of the exchange.
            edited: All edited layers.
            needs: Whether the parties' statistics are added up or kept apart.
            observe: Receives each party's.
            encoding: What the parties were asked for; any if None.
        """
        self._number, self._needs, self._observe = number, needs, observe
        self._encoding = encoding
        self._layers = {layer: edited[layer] for layer in layers}
        self._parts: dict[int, list[LayerStatistics]] = {each: [] for each in layers}
        self._parties: list[int] = []
        self._totals = {each: Total() for each in layers}

    def decode(self, reply: Message) -> dict[int, LayerStatistics]:
        """Decode and validate every layer of a reply, once.

        An invalid layer is a `StatisticsError` that names it.
        """
        return {layer: self._decode(layer, reply) for layer in self._layers}

    def add(self, statistics: dict[int, LayerStatistics], party: int = -1) -> None:
        """Add what `decode` made of one party's reply, and empty it.

        So a caller that still has it when the next reply comes holds nothing.
        """
        self._parties.append(party)
        for layer, edited in self._layers.items():
            part = statistics.pop(layer)
            self._observe(layer, party, part)
            if self._needs == "each":
                self._parts[layer].append(part)
                continue
            with threads_for(edited.d_in):
                self._totals[layer].add(part)

    def add_all(self, replies: Iterable[Message], registry: PartyRegistry) -> None:
        """Add valid replies of a later exchange; refuse parties with invalid ones.

        If residuals of several parties are too long by then, the layers merged before
        are why: they made the model worse. Nobody is refused for them, and the round is
        stopped by a `SpoiledModelError`.
        """
        edits, long = registry.outcomes[self._number].edits, dict[int, str]()
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                statistics = self.decode(reply)
                validate_same_edits(statistics, edits.get(node))
            except LongResidualsError as error:
                long[node] = str(error)
            except StatisticsError as error:
                registry.refuse(self._number, node, str(error))
            else:
                self.add(statistics, registry.parties.id_of(node))
                registry.count_statistics(self._number, reply)
        self._blame(long, registry)

    def _blame(self, long: Mapping[int, str], registry: PartyRegistry) -> None:
        """Refuse the only party with too long residuals; of several, nobody."""
        if not long:
            return
        names = ", ".join(registry.parties.label(node) for node in long)
        why = f"residuals of {names} are too long after its earlier layers"
        parties = [registry.parties.id_of(node) for node in long]
        registry.callbacks.on_long_residuals(self._number, why, parties)
        if len(long) > 1:
            raise SpoiledModelError(self._number, why)
        for node, reason in long.items():
            registry.refuse(self._number, node, reason)

    @property
    def parties(self) -> Sequence[int]:
        """Return the parties' ids, in the order of the replies."""
        return self._parties

    def statistics(self, layer: int) -> Sequence[LayerStatistics]:
        """Return a layer's statistics: the sum, or each in the order of the replies."""
        return self._parts[layer] if self._needs == "each" else [self.pooled(layer)]

    def pooled(self, layer: int) -> LayerStatistics:
        """Return the sum of a layer's statistics; of rows, while they are few."""
        if self._needs == "sum":
            return self._totals[layer].statistics()
        with threads_for(self._layers[layer].d_in):
            return pool(self._parts[layer])

    def _decode(self, layer: int, reply: Message) -> LayerStatistics:
        edited = self._layers[layer]
        try:
            sent = read_statistics(reply.content, layer, self._number)
            with threads_for(edited.d_in):
                return decode(
                    sent, edited.d_in, edited.d_out, edited.bounds, self._encoding
                )
        except StatisticsError as error:
            raise type(error)(f"layer {layer}: {error}") from None


def add_targets(
    number: int,
    replies: Iterable[Message],
    registry: PartyRegistry,
    limits: Limits,
    aggregation: Aggregation,
) -> None:
    """Add the statistics of a round's first exchange, and refuse invalid replies.

    A party without requests in this round takes no part in it, which is not a refusal.
    """
    for reply in replies:
        node = reply.metadata.src_node_id
        try:
            statistics = _read_targets(number, reply, registry, limits, aggregation)
        except StatisticsError as error:
            registry.refuse(number, node, str(error))
            continue
        if statistics:
            aggregation.add(statistics, registry.parties.id_of(node))
            registry.count_statistics(number, reply)
        else:
            registry.active.remove(node)


def _read_targets(
    number: int,
    reply: Message,
    registry: PartyRegistry,
    limits: Limits,
    aggregation: Aggregation,
) -> dict[int, LayerStatistics]:
    """Validate a party's summary of its targets, and the statistics made of them.

    Both may be a `StatisticsError`. Without requests there are no statistics.
    """
    outcome, node = registry.outcomes[number], reply.metadata.src_node_id
    targets = read_targets_reply(reply.content)
    limits.validate_targets(targets, number, registry.parties.number_of(node))
    statistics: dict[int, LayerStatistics] = {}
    if targets.requests > 0:
        statistics = aggregation.decode(reply)
        outcome.edits[node] = limits.count_edits(statistics, targets)
    outcome.targets[node] = targets
    return statistics


def add_metrics(
    number: int, replies: Iterable[Message], registry: PartyRegistry, limits: Limits
) -> EvaluationSums:
    """Add the parties' metrics of a round, and refuse parties whose are invalid."""
    total = EvaluationSums()
    for reply in replies:
        node = reply.metadata.src_node_id
        party = registry.parties.number_of(node)
        try:
            own = limits.read_evaluation(reply, number, party)
        except StatisticsError as error:
            registry.refuse(number, node, str(error))
        else:
            registry.callbacks.on_metrics(registry.parties.id_of(node), own)
            total += own
    return total
