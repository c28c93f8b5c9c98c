"""Estimate what a run sends, holds in memory and writes, from shapes alone.

With ``L`` edited layers of ``d_out × d_in``, ``n`` requests of a party in a round,
``P`` parties, and ``b`` bytes a number of the model's precision. Statistics and solves
are in float64, so 8 bytes a number, unless they travel in float32. A party's rows are
``min(n, d_in)``. While rows are few (`SHARE`) they are kept and solved as they are, and
otherwise as the ``d_in²`` numbers of their gram. Messages also hold the job, 1 to 2 kB
of JSON, included as `JOB_BYTES`. What a run really sends is in its ``events.jsonl``.
Editors that read at the answers have a row a token, and an exchange of moments more.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from editing.algebra.statistics import SHARE
from editing.base.settings import Settings
from editing.editors.choice import MEMIT
from sims.sizes.by_editor import ANSWER_TOKENS, DOUBLE, ByEditor
from sims.sizes.shapes import ModelShape

JOB_BYTES = 1400
"""Approximate bytes of a message to a node besides arrays."""

REPLY_BYTES = 700
"""Approximate bytes of a reply besides arrays, an evaluation's metrics included."""

PROGRAM_BYTES = 560_000_000
"""Bytes of a process that has loaded Python, torch and transformers, and no model."""

LINK_COPIES = 2.0
"""Memory of Flower's SuperLink for each byte of waiting replies; measured."""

EXCHANGE_SECONDS = 6.1
"""Seconds of an exchange of small messages in deployment, Flower 1.41; measured."""

STATE_TOKENS = 20
"""Tokens of a request that differ up to its subject, in all contexts; measured."""

BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


class EstimateOrder(Settings):
    """The run to estimate.

    Attributes:
        parties: Number of parties.
        requests: New requests of each party in a round, further phrasings included.
        rounds: Number of rounds; grams are remembered in all but the last.
        encoding: How statistics travel.
        encoding_down: How updates travel.
        covariance: Precision of the covariance's file; published ones are in float32,
            and those of this program in float64.
        schedule: How many layers travel together.
        dtype: The model's precision, in which updates travel, too.
        bandwidth: The server's connection in megabits a second.
        evaluate_every: After every how many rounds requests are evaluated.
        editor: The editor's name; its settings are its defaults.
        answer_tokens: Tokens of an answer, for editors that read at each of them.
    """

    parties: PositiveInt = 10
    requests: PositiveInt = 100
    rounds: PositiveInt = 1
    encoding: Literal["factors", "factors-float32", "dense"] = "factors"
    encoding_down: Literal["whole", "factors"] = "whole"
    covariance: Literal["float32", "float64"] = "float32"
    schedule: Literal["layerwise", "frozen-uniform", "frozen-harmonic", "boundary"] = (
        "layerwise"
    )
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    bandwidth: PositiveFloat = 1000.0
    evaluate_every: PositiveInt = 1
    editor: str = MEMIT
    answer_tokens: PositiveFloat = ANSWER_TOKENS


@dataclass(frozen=True)
class Estimate:
    """Sizes of one run, in bytes, and its times, in seconds."""

    shape: ModelShape
    order: EstimateOrder

    @cached_property
    def own(self) -> ByEditor:
        """What the editor reads, sends and keeps besides."""
        return ByEditor(self.order.editor, self.shape)

    @property
    def layer_count(self) -> int:
        """``L``; under `boundary` two of the layers are edited."""
        layers = len(self.shape.layers)
        return min(layers, 2) if self.order.schedule == "boundary" else layers

    @property
    def exchanges(self) -> int:
        """Exchanges of statistics in a round: ``L``, or 1 if layers travel together."""
        one_by_one = self.order.schedule in {"layerwise", "boundary"}
        one_by_one &= self.own.rule is None
        return self.layer_count if one_by_one else 1

    @property
    def square(self) -> int:
        """``d_in²``, the numbers of a gram."""
        return self.shape.d_in**2

    @property
    def matrix(self) -> int:
        """``d_out · d_in``, the numbers of an update."""
        return self.shape.d_out * self.shape.d_in

    @property
    def weights(self) -> int:
        """``b`` times the model's parameters."""
        return BYTES[self.order.dtype] * self.shape.parameters

    @property
    def triangle(self) -> int:
        """``d_in (d_in + 1) / 2``, the numbers that half a gram holds."""
        return self.shape.d_in * (self.shape.d_in + 1) // 2

    @property
    def rows(self) -> int:
        """Rows of a party's statistics: ``min(n, d_in)``, ``n`` tokens at answers."""
        tokens = 1 if self.own.rule is None else self.order.answer_tokens
        return min(round(self.order.requests * tokens), self.shape.d_in)

    @property
    def statistics(self) -> int:
        """One party's statistics of one layer as they travel.

        ``factors``: ``8 · rows · (d_in + d_out)``, in float32 half of it.
        ``dense``: ``8 · (d_in (d_in + 1) / 2 + d_out · d_in)``.
        """
        if self.order.encoding == "dense":
            return DOUBLE * (self.triangle + self.matrix)
        single = self.order.encoding == "factors-float32"
        size = 4 if single and self.order.dtype != "float64" else DOUBLE
        return size * self.rows * (self.shape.d_in + self.shape.d_out)

    @property
    def update(self) -> int:
        """One layer's update as it travels: ``b · d_out · d_in``.

        As factors ``4 · rank · (d_out + d_in)`` where that is less, for a merge whose
        rank is the number of all edits so far.
        """
        whole = BYTES[self.order.dtype] * self.matrix
        if self.order.encoding_down == "whole" or self.order.dtype == "float64":
            return whole
        rank = self.order.rounds * self.order.parties * self.rows
        return min(whole, 4 * rank * (self.shape.d_out + self.shape.d_in))

    @cached_property
    def largest_up(self) -> int:
        """The largest reply of a node: the statistics of an exchange, or moments."""
        statistics = self.statistics * self.layer_count // self.exchanges
        return max(statistics, self.own.moments) + REPLY_BYTES

    @cached_property
    def largest_down(self) -> int:
        """The largest message to a node: the updates that are new to it."""
        updates = self.update * self.layer_count // self.exchanges
        return max(updates, self.own.moments) + JOB_BYTES

    @property
    def messages(self) -> float:
        """Messages to a node in a round, on average: the exchanges and the evaluation.

        The last round is evaluated whatever its number. Moments are one exchange.
        """
        evaluations = -(-self.order.rounds // self.order.evaluate_every)
        return self.exchanges + self.own.pools + evaluations / self.order.rounds

    @property
    def round_up(self) -> float:
        """What a node sends in a round: ``L`` times its statistics of a layer."""
        sent = self.layer_count * self.statistics + self.own.moments
        return sent + self.messages * REPLY_BYTES

    @property
    def round_down(self) -> float:
        """What a node is sent in a round: each layer's update once.

        A node keeps what it was sent. One that has lost it, or joins late, is sent all
        layers at once, which is as much.
        """
        sent = self.layer_count * self.update + self.own.moments
        return sent + self.messages * JOB_BYTES

    @property
    def round_traffic(self) -> float:
        """What passes the server's connection in a round, both ways, all parties."""
        return self.order.parties * (self.round_up + self.round_down)

    @property
    def round_seconds(self) -> float:
        """A round without what parties and server compute.

        The server's traffic at its bandwidth, and what Flower takes for each exchange.
        """
        transfer = 8 * self.round_traffic / (self.order.bandwidth * 1e6)
        return transfer + self.messages * EXCHANGE_SECONDS

    @property
    def together(self) -> int:
        """Layers that travel together."""
        return self.layer_count // self.exchanges

    def decoded(self, parties: int) -> int:
        """Sum of some parties' statistics of one layer: rows while they are few."""
        rows = parties * self.rows
        if self._few(rows):
            return DOUBLE * rows * (self.shape.d_in + self.shape.d_out)
        return DOUBLE * (self.square + self.matrix)

    def _few(self, rows: int) -> bool:
        """Whether so many rows are kept as they are."""
        return self.order.encoding != "dense" and SHARE * rows <= self.shape.d_in

    @property
    def remembered(self) -> int:
        """Grams, ``L · d_in²`` of earlier rounds and as many of this one.

        Those of the last round are not made, so there are none of a single round, and
        never both kinds in two rounds. Moments take the place of grams.
        """
        if self.own.rule is not None:
            return self.own.moments
        kinds = min(self.order.rounds - 1, 2)
        return kinds * DOUBLE * self.layer_count * self.square

    @property
    def server_standing(self) -> int:
        """What the server's program holds all the time.

        The model; of each layer the covariance in the precision of its file, from which
        it is mapped, and the update in float64, of which there are two while a round
        after the first may have to start again; the updates as they travel; grams; what
        the editor keeps.
        """
        kept = 1 + (self.order.rounds > 1)
        covariance = BYTES[self.order.covariance] * self.square
        covariance = covariance if self.own.rule is None else 0
        of_layer = covariance + kept * (DOUBLE * self.matrix + self.update)
        of_layer += self.own.kept
        layers = self.layer_count * of_layer
        return PROGRAM_BYTES + self.weights + layers + self.remembered

    def _solving(self, rows: int) -> int:
        """What one solve takes, in float64.

        The prior, which its factor overwrites; with many rows also their gram, and the
        right side, half of its solution and all of it.
        """
        if self._few(rows):
            return DOUBLE * (self.square + 2 * self.matrix)
        return DOUBLE * (2 * self.square + 3 * self.matrix)

    @property
    def _adding(self) -> int:
        """What reading one more party's statistics of a layer takes.

        Its rows; of dense ones the sum so far, the party's part, two copies of its gram
        for the check that it has no negative eigenvalue, and three of the reply.
        """
        if self.order.encoding != "dense":
            return self.decoded(1)
        return 2 * self.decoded(1) + 2 * DOUBLE * self.square + 2 * self.statistics

    @property
    def server_memory(self) -> int:
        """Peak of the server's program, for merges that need the parties' sum.

        What stands, the sums of layers that travel together, a reply, and one solve
        with copies of its rows, or what it takes to add a party up if that is more.
        """
        parties, rows = self.order.parties, self.order.parties * self.rows
        sums = (self.together - 1) * self.decoded(parties)
        copies = 3 * self.decoded(parties) if self._few(rows) else 0
        working = max(self._solving(rows) + copies, self._adding)
        return self.server_standing + sums + working + self.largest_up

    @property
    def server_memory_each(self) -> int:
        """The same for merges that need each party: all their statistics at once.

        One party is solved after the other; `ties` holds a dozen matrices of an
        update's size meanwhile, and the factor of the prior.
        """
        voting = DOUBLE * (self.square + 12 * self.matrix)
        return self._holding_each(max(self._solving(self.rows), voting))

    def _holding_each(self, working: int) -> int:
        parts = self.order.parties * self.together * self.decoded(1)
        peak = max(working, self._adding)
        return self.server_standing + parts + peak + self.largest_up

    @property
    def server_memory_karcher(self) -> int:
        """The same for `karcher`: a solve next to all updates, and the weight twice."""
        updates = (self.order.parties + 2) * DOUBLE * self.matrix
        return self._holding_each(self._solving(self.rows) + updates)

    @property
    def server_memory_regmean(self) -> int:
        """The same for `regmean`: the prior and the pooled gram, both damped too."""
        sums = DOUBLE * (4 * self.square + 2 * self.matrix)
        return self._holding_each(self._solving(self.rows) + sums)

    @property
    def link_memory(self) -> float:
        """Flower's SuperLink: `LINK_COPIES` times the replies of an exchange."""
        return LINK_COPIES * self.order.parties * self.largest_up

    @property
    def node_memory(self) -> int:
        """Peak of a node's program, activations left out.

        The model; all layers' updates and copies of what they change; a message; and
        three copies of a reply. The search for targets takes activations on top, which
        grow with ``editing.batch-size``; the batch is halved when memory runs out.
        """
        updates = 2 * self.layer_count * self.update + self.largest_down
        return PROGRAM_BYTES + self.weights + updates + 3 * self.largest_up

    @property
    def covariance_file(self) -> int:
        """The server's covariance: ``L · d_in²`` numbers, or none."""
        if self.own.rule is not None:
            return 0
        return BYTES[self.order.covariance] * self.layer_count * self.square

    @property
    def checkpoint(self) -> int:
        """A merge's checkpoint: updates and, of several rounds, half of each gram.

        ``8 · L · (d_in (d_in + 1) / 2 + d_out · d_in)``. There are two of them while
        one takes the place of the other. Updates that travel as factors are kept in
        that form, too.
        """
        remembers = self.order.rounds > 1 and self.own.rule is None
        half = self.triangle * remembers
        sent = self.update if self.order.encoding_down == "factors" else 0
        as_factors = sent * (sent < BYTES[self.order.dtype] * self.matrix)
        of_layer = DOUBLE * (half + self.matrix) + as_factors + self.own.kept
        return self.layer_count * of_layer + self.own.moments

    @property
    def delta_file(self) -> int:
        """The result, in float32: ``4 · L · d_out · d_in``."""
        return 4 * self.layer_count * self.matrix

    @property
    def waiting(self) -> int:
        """Replies that wait on the server's disk: those of all parties but one."""
        return (self.order.parties - 1) * self.largest_up

    @property
    def server_disk(self) -> int:
        """The model, the covariance, two checkpoints, the result and what waits."""
        kept = self.covariance_file + 2 * self.checkpoint + self.delta_file
        return self.weights + kept + self.waiting

    @property
    def targets(self) -> int:
        """A party's targets of a round, and the states they start from.

        ``n · d_out`` numbers each, in single precision at least and in the model's;
        under `boundary` of each layer. Editors at the answers have none.
        """
        if self.own.rule is not None:
            return 0
        wide = max(4, BYTES[self.order.dtype])
        sets = self.exchanges if self.order.schedule == "boundary" else 1
        numbers = sets * self.order.requests * self.shape.d_out
        return numbers * (wide + BYTES[self.order.dtype])

    @property
    def states(self) -> int:
        """The hidden states that a party keeps from one exchange to the next.

        Of about `STATE_TOKENS` tokens a request, ``d_out`` numbers each.
        """
        if self.exchanges == 1:
            return 0
        numbers = self.order.requests * STATE_TOKENS * self.shape.d_out
        return numbers * BYTES[self.order.dtype]

    @property
    def node_disk(self) -> int:
        """The model, its updates, and the targets and hidden states of a round."""
        updates = self.layer_count * self.update
        return self.weights + updates + self.targets + self.states
