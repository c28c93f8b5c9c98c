"""The server's record of a layer, of a round, and of what carries over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from flwr.app import ArrayRecord
from jaxtyping import Float
from torch import Tensor

from editing.algebra.factors import Factors
from editing.algebra.influence import Influence
from editing.algebra.statistics import LayerStatistics, NormBounds
from editing.algebra.threads import threads_for
from editing.base.errors import InputError
from editing.editors.base import Editor
from editing.editors.memit import MemitEditor
from editing.editors.system import LayerState
from strategies.conflicts.policies import Entry
from strategies.merges.base import NOWHERE, Merge, MergeContext
from strategies.rounds.exchange import Refusal
from strategies.rounds.memory import Memory
from strategies.wire.messages import OwnPrior, TargetsReply
from strategies.wire.priors import write_prior


@dataclass(frozen=True, slots=True)
class EditedLayer:
    """An edited layer.

    Attributes:
        weight: The parameter's name.
        d_out: Width of the hidden state.
        d_in: Width of the keys.
        memory: The layer's prior, with the grams of the rounds so far.
        bounds: Largest norms of a party's keys and residuals.
        editor: Lays out what is solved.
        kept: What the editor keeps from round to round.
        context: The layer and the run's seed, for merges that draw.
        original: The unedited weight, in any precision; None if it is not known.
    """

    weight: str
    d_out: int
    d_in: int
    memory: Memory
    bounds: NormBounds = field(default_factory=NormBounds)
    editor: Editor = field(default_factory=MemitEditor)
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    context: MergeContext = NOWHERE
    original: Float[Tensor, "d_out d_in"] | None = None

    def remembers(self, *, last: bool) -> bool:
        """Whether a round that is over is remembered; the last one only to report."""
        return self.editor.remembers or (self.memory.remembers and not last)

    def state(self, total: Tensor | None = None) -> LayerState:
        """Return all that the editor knows, given the updates of earlier rounds."""
        return LayerState(self.memory.prior(), total, self.kept)

    def merge(
        self,
        merge: Merge,
        parts: Sequence[LayerStatistics],
        total: Tensor | None,
        number: int,
        parties: Sequence[int] = (),
    ) -> Float[Tensor, "d_out d_in"]:
        """Merge statistics by what the editor solves, and take the steps after it.

        Args:
            merge: The run's.
            parts: The parties' statistics, or their sum.
            total: Updates of earlier rounds; None if there are none.
            number: The round.
            parties: The parties' numbers, in the order of their statistics.
        """
        with threads_for(self.d_in):
            system = self.editor.system(self.state(total))
            weight = (
                self._weight(total) if merge.reads_weight or self.editor.post else None
            )
            place = replace(
                self.context,
                round=number,
                parties=tuple(parties),
                weight=weight,
                prior=self.memory.prior(),
            )
            delta = merge(parts, system, place)
            return self._finish(delta, weight) if self.editor.post else delta

    def _weight(self, total: Tensor | None) -> Tensor | None:
        """Return the weight as the round begins, in float64, if it is known."""
        if self.original is None:
            return None
        weight = self.original.to("cpu", torch.float64)
        return weight if total is None else weight + total

    def _finish(self, delta: Tensor, weight: Tensor | None) -> Tensor:
        """Take the steps after the merge.

        Raises:
            InputError: If the weight is not known.
        """
        original = self._weight(None)
        if weight is None or original is None:
            steps = ", ".join(f"`{step.name}`" for step in self.editor.post)
            raise InputError(
                f"{steps} read the weight of {self.weight}, which is not known here. "
                "Give `EditedLayer` the unedited weight as `original`."
            )
        for step in self.editor.post:
            delta = step(delta, weight, original)
        return delta

    def resumed(
        self, gram: Tensor | None, kept: Mapping[str, Tensor] | None
    ) -> "EditedLayer":
        """Return the layer with what a checkpoint holds of it."""
        memory = self.memory if gram is None else self.memory.remember(gram)
        return replace(self, memory=memory, kept=kept or self.kept)

    def remember(
        self,
        gram: Float[Tensor, "d_in d_in"],
        count: int,
        before: Tensor | None,
        after: Float[Tensor, "d_out d_in"],
    ) -> "EditedLayer":
        """Remember a round that is over.

        Args:
            gram: Of the round, the sum over its parties.
            count: Its number of edits.
            before: Updates of earlier rounds; None if there were none.
            after: With this round's.
        """
        written = after if before is None else after - before
        with threads_for(self.d_in):
            kept = self.editor.remember(self.state(before), gram, count, written)
        return replace(self, memory=self.memory.remember(gram), kept=kept)


def remember_round(
    layers: Mapping[int, EditedLayer],
    grams: Mapping[int, Tensor],
    count: int,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
) -> dict[int, EditedLayer]:
    """Have layers remember a round that is over.

    Args:
        layers: All edited layers.
        grams: Of the round, by layer; a layer without one remembers nothing of it.
        count: Its number of edits.
        before: All updates by parameter name, before the round.
        after: With it.
    """
    found = dict(layers)
    for layer, gram in grams.items():
        edited = layers[layer]
        total = before.get(edited.weight)
        found[layer] = edited.remember(gram, count, total, after[edited.weight])
    return found


def budget_in_use(layers: Mapping[int, EditedLayer]) -> float | None:
    """Return the largest budget in use, in per cent; None if the editor has none."""
    used = [each.editor.budget_in_use(each.kept) for each in layers.values()]
    return max((each for each in used if each is not None), default=None)


@dataclass(frozen=True, slots=True)
class RoundState:
    """All that the next round depends on, after a completed round.

    Attributes:
        number: The round, counted from 1; 0 is before any edit.
        delta: All updates so far by parameter name, in float64.
        grams: The memory of each layer, in float64 and symmetric to the last bit; of
            a layer of which nothing is remembered, none.
        kept: By layer and name, what the editor keeps.
        history: Tokens of the requests edited so far, if tokens are compared.
        factors: Of the updates that travel as two factors.
    """

    number: int
    delta: Mapping[str, Tensor]
    grams: Mapping[int, Tensor]
    history: tuple[Entry, ...] = ()
    factors: Mapping[str, Factors] = field(default_factory=dict)
    kept: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


@dataclass(slots=True)
class RoundOutcome:
    """The result of a round, apart from its delta and metrics.

    Attributes:
        refusals: Parties that were left out, and why.
        bytes_up: Bytes of statistics that each node sent.
        targets: Each node's summary of its targets. A party that is refused before the
            round is merged is removed.
        edits: How many edits each node's statistics are sums over. A request with
            further phrasings is several.
        merged: Whether the round's update has been made.
        duplicates: Requests that were made more than once.
        conflicts: Facts with more than one object.
        influences: What each party weighs, by layer and party's name, if it is known.
        gate: What the release gate measured of an accepted round; empty if it is open.
        budget: Of an editor that has one, the budget in use in per cent, in the layer
            where it is largest.
    """

    refusals: list[Refusal] = field(default_factory=list)
    bytes_up: dict[int, int] = field(default_factory=dict)
    targets: dict[int, TargetsReply] = field(default_factory=dict)
    edits: dict[int, int] = field(default_factory=dict)
    merged: bool = False
    duplicates: int = 0
    conflicts: int = 0
    influences: dict[int, dict[str, Influence]] = field(default_factory=dict)
    gate: str = ""
    budget: float | None = None

    @property
    def requests(self) -> int:
        """Number of edited requests of all parties."""
        return sum(each.requests for each in self.targets.values())

    @property
    def known(self) -> int:
        """Number of requests left out because the model knows them."""
        return sum(each.known for each in self.targets.values())

    @property
    def left_out(self) -> int:
        """Number of requests left out because of another party's."""
        return sum(each.left_out for each in self.targets.values())

    @property
    def examined(self) -> int:
        """Number of requests with a target."""
        return self.requests + self.known

    @property
    def residual_norm(self) -> float:
        """Sum of ``‖z − h‖`` over them."""
        return sum(each.residual_norm for each in self.targets.values())

    @property
    def residual_ratio(self) -> float:
        """Sum of ``‖z − h‖ / ‖h‖`` over them."""
        return sum(each.residual_ratio for each in self.targets.values())

    @property
    def idle(self) -> list[int]:
        """Nodes without a request in this round; that is not a refusal."""
        return [node for node, each in self.targets.items() if has_none(each)]

    @property
    def unedited(self) -> list[int]:
        """Nodes all of whose requests were left out; nor is that."""
        return [
            node
            for node, each in self.targets.items()
            if each.requests == 0 and not has_none(each)
        ]

    def refuse(self, refusal: Refusal) -> None:
        """Record that a party is left out, and drop what it would contribute."""
        self.refusals.append(refusal)
        if not self.merged:
            self.targets.pop(refusal.node, None)

    def missing(self, label: Callable[[int], str]) -> str:
        """List who takes no part, and why.

        Args:
            label: Returns the name of a node's party.
        """
        refused = [f"{label(each.node)}: {each.reason}" for each in self.refusals]
        idle = [f"{label(node)}: it has no request" for node in self.idle]
        return "; ".join(refused + idle) or "nobody"


def has_none(reply: TargetsReply) -> bool:
    """Return whether a party has no request at all."""
    return reply.requests + reply.known + reply.left_out == 0


def write_own_prior(
    prior: OwnPrior | None, layers: Mapping[int, EditedLayer]
) -> ArrayRecord:
    """Pack what a party that solves alone cannot know of its prior.

    Args:
        prior: What the party solves against; None if it does not solve.
        layers: All edited layers.
    """
    if prior is None:
        return ArrayRecord()
    memories = {layer: edited.memory for layer, edited in layers.items()}
    return write_prior(
        remembered(layers) if prior.memory_weight > 0 else {},
        {layer: each.covariance for layer, each in memories.items() if prior.travels},
    )


def remembered(layers: Mapping[int, EditedLayer]) -> dict[int, Tensor]:
    """Return the grams of earlier rounds, of the layers that have some."""
    grams = {layer: edited.memory.grams for layer, edited in layers.items()}
    return {layer: gram for layer, gram in grams.items() if gram is not None}
