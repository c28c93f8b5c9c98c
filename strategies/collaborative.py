"""Collaborative editing as a Flower strategy: the rounds, several exchanges each."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import Tensor

from editing.algebra.deltas import add_deltas
from editing.algebra.statistics import StatisticsError
from strategies.conflicts.arbiter import Arbiter, collect_tokens, resolve_round
from strategies.conflicts.records import write_resolutions
from strategies.merges.base import Merge
from strategies.rounds.aggregation import Aggregation
from strategies.rounds.exchange import OnExchange
from strategies.rounds.limits import Limits, require_finite
from strategies.rounds.registry import PartyRegistry, Report, TooFewPartiesError
from strategies.rounds.state import EditedLayer, RoundState
from strategies.wire.arrays import digest_arrays, to_tensors, write_delta
from strategies.wire.messages import Job, Phase, read_targets_reply
from strategies.wire.priors import write_prior

logger = logging.getLogger(__name__)

Judge = Callable[[int, ArrayRecord], MetricRecord | None]
"""Judges the model after a round at the server: round and updates in, metrics out."""

OnRound = Callable[[RoundState, MetricRecord | None, MetricRecord | None], None]
"""Told of a whole round: its state, the parties' metrics and the server's own."""


class CollaborativeEditing(Strategy):
    """Edit one model with the requests of many parties, which stay with them.

    A round compares the requests' blind tokens if an arbiter is given, then exchanges
    statistics for merged deltas (once for each edited layer under `layerwise`, once in
    all otherwise; the first time parties compute targets, too), remembers the round's
    grams and has each party judge its requests of this round and of all earlier ones.
    Parties may join and leave between rounds.

    Parameters
    ----------
    job : Job
        What every client is told; round and layers are filled in.
    merge : Merge
        How the parties' statistics become one delta.
    layers : Mapping[int, EditedLayer]
        The edited layers by number, with their priors.
    parties : int
        Nodes to wait for before the first round.
    min_parties : int
        The run stops if fewer parties than this remain.
    dtype : torch.dtype
        Precision of deltas on the wire; sums are kept in float64.
    evaluate_unedited : bool
        Whether parties judge the first round's requests before any edit, too.
    memory_keys : str
        Which keys are remembered: those the round was ``solved`` with, or those of the
        ``edited`` model. Under `layerwise` they are the same; otherwise the latter cost
        one more exchange.
    arbiter : Arbiter, optional
        Compares tokens and rules on requests that meet.
    report : Callable, optional
        Told of progress.
    on_round : Callable, optional
        Told of every whole round, and of round 0 if it is evaluated.
    on_exchange : Callable, optional
        Told what each exchange with each node took.
    limits : Limits, optional
        The most that an honest party can say of itself.
    """

    def __init__(  # noqa: D107 - the class says it
        self,
        job: Job,
        merge: Merge,
        layers: Mapping[int, EditedLayer],
        parties: int,
        min_parties: int = 1,
        dtype: torch.dtype = torch.float32,
        evaluate_unedited: bool = False,
        memory_keys: Literal["solved", "edited"] = "solved",
        arbiter: Arbiter | None = None,
        report: Report | None = None,
        on_round: OnRound | None = None,
        on_exchange: OnExchange | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.job, self.merge, self.layers = job, merge, dict(layers)
        self.parties, self.dtype = parties, dtype
        self.evaluate_unedited, self.memory_keys = evaluate_unedited, memory_keys
        self.arbiter, self.on_round = arbiter, on_round
        self.limits = limits or Limits()
        # Under `global` one party stands for all.
        self.registry = PartyRegistry(
            1 if job.pooled else min_parties, report, on_exchange
        )
        self.delta: dict[str, Tensor] = {}
        self.done = 0
        self._grams: dict[int, Tensor] = {}

    def summary(self) -> None:
        """Log what the strategy will do."""
        plan = self.job.plan
        logger.info(
            "merge %s (%s), schedule %s, layers %s, encoding %s, at least %d parties",
            self.merge.name,
            self.merge.paper,
            plan.schedule,
            list(plan.parameters.layers),
            self.job.encoding,
            self.registry.min_parties,
        )

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 1,
        timeout: float = 3600.0,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Judge | None = None,
    ) -> Result:
        """Run the rounds, several exchanges each; see the base class for arguments.

        `initial_arrays` holds the updates that the model carries from earlier runs, by
        parameter name, and the result's arrays all updates after the last round. Round
        0 of the result's metrics is the model before any edit. After `resume`, only the
        rounds that are missing are run.
        """
        self.summary()
        train_config = train_config or ConfigRecord()
        evaluate_config = evaluate_config or ConfigRecord()
        if self.done == 0:
            given = to_tensors(initial_arrays)
            self.delta = {name: update.double() for name, update in given.items()}
        self.registry.welcome(
            grid, self.job, self.parties, timeout, begun=self.done > 0
        )
        result = Result(arrays=self.to_arrays())
        if self.evaluate_unedited and self.done == 0:
            self.registry.begin_round(grid, 0, self.job)
            self._judge_round(grid, 0, result, evaluate_config, evaluate_fn)
        for number in range(self.done + 1, num_rounds + 1):
            result.arrays = self.run_round(grid, number, result.arrays, train_config)
            self._judge_round(grid, number, result, evaluate_config, evaluate_fn)
        return result

    def resume(self, state: RoundState) -> None:
        """Go on from a whole round, as if it had just ended."""
        self.done, self.delta = state.number, dict(state.delta)
        self._grams = dict(state.grams)
        self._remember()
        if self.arbiter is not None:
            self.arbiter.history = list(state.history)

    def run_round(
        self, grid: Grid, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> ArrayRecord:
        """Exchange statistics of the requests' targets and merge; gives all updates.

        What a party sent for one layer is worth nothing if it is lost before the last:
        the round then begins again without it, so that all layers speak of the same
        requests. Targets that are there are not computed twice.
        """
        self.registry.begin_round(grid, number, self.job)
        before = digest_arrays(arrays)
        self.job = self.job.model_copy(update={"round": number, "before": before})
        start = self.delta
        while not self._try_to_edit(grid, number, arrays, config):
            logger.warning("round %d begins again", number)
            self.delta, self._grams = start, {}
        self.registry.outcomes[number].merged = True
        if self.arbiter is not None:
            self.arbiter.settle(self.registry.present)
        self._remember()
        self.done = number
        return self.to_arrays()

    def _try_to_edit(
        self, grid: Grid, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> bool:
        """Edit, unless parties are lost; tells whether the round is whole."""
        try:
            return self._edit(grid, number, arrays, config)
        except TooFewPartiesError:
            if not self.registry.wait_for_return(grid, number):
                raise
            return False

    def _edit(
        self, grid: Grid, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> bool:
        """Go through a round's exchanges; tells if all speak of the same requests.

        What a party that is lost had asked for may be what others were ruled out for,
        so then requests are ruled on again, too.
        """
        self.registry.begin_again(number)
        if self.arbiter is not None:
            entries = collect_tokens(self.registry, grid, number, self.job, self.limits)
            pooled = self.job.pooled
            resolve_round(self.arbiter, self.registry, number, entries, pooled=pooled)
        asked = list(self.registry.present)
        messages = self.configure_train(number, arrays, config, grid)
        self.aggregate_train(number, self.registry.exchange(grid, number, messages))
        if self.arbiter is not None and self.registry.present != asked:
            return False
        merged = list(self.registry.active)
        for layers in self.job.plan.exchanges[1:] if merged else ():
            asking = self.configure_statistics(number, layers)
            replies = self.registry.exchange(grid, number, asking)
            self.aggregate_statistics(number, layers, replies)
            if self.registry.active != merged:
                return False
        self._read_again(grid, number)
        return self.registry.active == merged

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002 - nodes are chosen when the run begins
    ) -> list[Message]:
        """Ask for targets, and for the first statistics made of them."""
        first = tuple(self.job.plan.exchanges[0])
        job = self.job.model_copy(update={"round": server_round, "layers": first})
        prior = write_prior(job.prior, self.layers)
        return self._address(Phase.TARGETS, job, arrays, config, prior)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Note who has requests in this round, and merge the first exchange.

        A party without one takes part in nothing, which is no refusal.
        """
        outcome, layers = (
            self.registry.outcomes[server_round],
            self.job.plan.exchanges[0],
        )
        aggregation = Aggregation(server_round, layers, self.layers, self.merge.needs)
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                told = read_targets_reply(reply.content)
                self.limits.check_targets(
                    told, server_round, self.registry.places[node]
                )
                if told.requests > 0:
                    outcome.edits[node] = self.limits.count_edits(reply, told, layers)
                    aggregation.add(reply)
                    self.registry.count_statistics(server_round, reply)
            except StatisticsError as error:
                self.registry.refuse(server_round, node, str(error))
                continue
            outcome.told[node] = told
            if told.requests == 0:
                self.registry.active.remove(node)
        self.registry.require_enough(server_round)
        if self.registry.active:
            self._merge(layers, aggregation)
        return None, MetricRecord({"requests": outcome.requests})

    def configure_statistics(
        self, server_round: int, layers: Sequence[int]
    ) -> list[Message]:
        """Ask for the statistics of some layers, on the model as edited so far."""
        changes = {"round": server_round, "layers": tuple(layers)}
        job = self.job.model_copy(update=changes)
        prior = write_prior(job.prior, self.layers)
        return self._address(Phase.STATISTICS, job, self.to_arrays(), prior=prior)

    def aggregate_statistics(
        self, server_round: int, layers: Sequence[int], replies: Iterable[Message]
    ) -> None:
        """Merge what the parties sent into the delta, in the order of the replies.

        A party whose statistics cannot be right is left out before any arithmetic, and
        the round goes on if enough remain.
        """
        aggregation = Aggregation(server_round, layers, self.layers, self.merge.needs)
        aggregation.add_all(replies, self.registry)
        self.registry.require_contributors(server_round)
        self._merge(layers, aggregation)

    def configure_evaluate(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002 - nodes are chosen when the run begins
    ) -> list[Message]:
        """Ask the parties to judge their requests so far, in round 0 the first ones.

        Those without a request in this round judge the ones they made earlier.
        """
        job = self.job.model_copy(update={"round": server_round})
        return self.registry.address(
            Phase.EVALUATE, job, arrays, config, to=self.registry.present
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Add the parties' sums and counts; numbers that cannot be right are left out.

        Their party has contributed to the round by now and only its metrics are missed.
        """
        totals: dict[str, float] = {}
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                metrics = self.limits.read_metrics(reply, server_round, self.registry)
            except StatisticsError as error:
                self.registry.refuse(server_round, node, str(error))
                continue
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + value
        return MetricRecord({**totals}) if totals else None

    def to_arrays(self) -> ArrayRecord:
        """All updates so far, in the precision of the wire."""
        return write_delta(self.delta, self.dtype)

    def _merge(self, layers: Sequence[int], aggregation: Aggregation) -> None:
        """Solve the layers of an exchange, and remember their grams for the round."""
        solved: dict[str, Tensor] = {}
        for layer in layers:
            edited = self.layers[layer]
            given = aggregation.statistics(layer)
            self._grams[layer] = aggregation.pooled(layer).gram
            solved[edited.weight] = self.merge(given, edited.memory.prior())
        self.delta = add_deltas(self.delta, solved)
        require_finite(self.delta, self.dtype, self.registry)

    def state(self) -> RoundState:
        """All that the next round depends on."""
        grams = {layer: each.memory.grams for layer, each in self.layers.items()}
        history = tuple(self.arbiter.history) if self.arbiter else ()
        return RoundState(self.done, dict(self.delta), grams, history)

    def _read_again(self, grid: Grid, number: int) -> None:
        """Have keys read on the edited model, if those are what shall be remembered.

        Under `layerwise` they are read on a model whose earlier layers are edited
        already, and a key does not depend on others: to read again gives the same.
        """
        frozen = self.job.plan.schedule != "layerwise"
        if not (self.memory_keys == "edited" and frozen and self._grams):
            return
        layers = tuple(self.layers)
        job = self.job.model_copy(update={"round": number, "layers": layers})
        asking = self._address(Phase.MEMORY, job, self.to_arrays())
        aggregation = Aggregation(number, layers, self.layers)
        aggregation.add_all(self.registry.exchange(grid, number, asking), self.registry)
        self.registry.require_contributors(number)
        for layer in layers:
            self._grams[layer] = aggregation.pooled(layer).gram

    def _remember(self) -> None:
        """Add the round's grams to the memory of each layer."""
        for layer, gram in self._grams.items():
            edited = self.layers[layer]
            self.layers[layer] = replace(edited, memory=edited.memory.remember(gram))
        self._grams = {}

    def _judge_round(
        self,
        grid: Grid,
        number: int,
        result: Result,
        config: ConfigRecord,
        evaluate_fn: Judge | None,
    ) -> None:
        """Have the parties judge, then the server, and tell of the round."""
        messages = self.configure_evaluate(number, result.arrays, config, grid)
        replies = self.registry.exchange(grid, number, messages)
        found = self.aggregate_evaluate(number, replies)
        own = evaluate_fn(number, result.arrays) if evaluate_fn else None
        if found is not None:
            result.evaluate_metrics_clientapp[number] = found
        if own is not None:
            result.evaluate_metrics_serverapp[number] = own
        if self.on_round is not None:
            self.on_round(self.state(), found, own)

    def _address(
        self,
        phase: Phase,
        job: Job,
        arrays: ArrayRecord,
        config: ConfigRecord | None = None,
        prior: ArrayRecord | None = None,
    ) -> list[Message]:
        """Speak to the parties of their requests, with what was ruled on them."""
        messages = self.registry.address(phase, job, arrays, config, prior)
        if self.arbiter is not None:
            for message in messages:
                resolutions = self.arbiter.resolutions.get(
                    message.metadata.dst_node_id, ()
                )
                message.content["resolutions"] = write_resolutions(resolutions)
        return messages
