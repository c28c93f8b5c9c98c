"""Collaborative editing as a Flower strategy: the rounds, several exchanges each."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import Result, Strategy
from torch import Tensor

from editing.deltas import add_deltas
from editing.encodings import decode
from editing.statistics import LayerStatistics, StatisticsError, pool
from strategies.exchange import Refusal, await_nodes, exchange
from strategies.merges.base import Merge
from strategies.messages import (
    Job,
    Phase,
    check_introduction,
    digest_arrays,
    read_count,
    read_introduction,
    read_metrics,
    read_statistics,
    write_job,
)
from strategies.rounds import EditedLayer, RoundOutcome

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int, int], None]
"""Told of progress: phase, round, replies that are there, replies wanted."""


class CollaborativeEditing(Strategy):
    """Edit one model with the requests of many parties, which stay with them.

    A round computes targets, then exchanges statistics for merged deltas (once for each
    edited layer under `layerwise`, once in all otherwise), remembers the round's grams
    and has each party judge its own requests.

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
    judge_unedited : bool
        Whether parties judge the first round's requests before any edit, too.
    report : Callable, optional
        Told of progress.
    """

    def __init__(  # noqa: D107 - the class says it
        self,
        job: Job,
        merge: Merge,
        layers: Mapping[int, EditedLayer],
        parties: int,
        min_parties: int = 1,
        dtype: torch.dtype = torch.float32,
        judge_unedited: bool = False,
        report: Report | None = None,
    ) -> None:
        self.job, self.merge, self.layers = job, merge, dict(layers)
        self.parties, self.min_parties, self.dtype = parties, min_parties, dtype
        self.judge_unedited, self.report = judge_unedited, report
        self.roster: list[int] = []
        self.active: list[int] = []
        self.delta: dict[str, Tensor] = {}
        self.outcomes: dict[int, RoundOutcome] = {}
        self._timeout = 0.0
        self._unwelcome: list[Refusal] = []
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
            self.min_parties,
        )

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 1,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds, several exchanges each; see the base class for arguments.

        `initial_arrays` holds the updates that the model carries from earlier runs, by
        parameter name, and the result's arrays all updates after the last round. Round
        0 of the result's metrics is the model before any edit.
        """
        self.summary()
        self._timeout = timeout
        train_config = train_config or ConfigRecord()
        evaluate_config = evaluate_config or ConfigRecord()
        self.delta = {
            name: torch.from_numpy(array.numpy()).double()
            for name, array in initial_arrays.items()
        }
        self.welcome(grid)
        result = Result(arrays=initial_arrays)
        self._judge_before(grid, result, evaluate_config, evaluate_fn)
        for number in range(1, num_rounds + 1):
            result.arrays = self.run_round(grid, number, result.arrays, train_config)
            judging = self.configure_evaluate(
                number, result.arrays, evaluate_config, grid
            )
            replies = self._exchange(grid, number, judging)
            found = self.aggregate_evaluate(number, replies)
            if found is not None:
                result.evaluate_metrics_clientapp[number] = found
            if evaluate_fn and (own := evaluate_fn(number, result.arrays)) is not None:
                result.evaluate_metrics_serverapp[number] = own
        return result

    def begin_round(self, number: int) -> None:
        """Take everybody back who was welcome; under `global` one party stands for all.

        Who was not is missing from every round.
        """
        self.outcomes[number] = RoundOutcome(refusals=list(self._unwelcome))
        self.active = self.roster[:1] if self.job.pooled else list(self.roster)

    def run_round(
        self, grid: Grid, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> ArrayRecord:
        """Compute targets, then exchange and merge; gives all updates so far."""
        self.begin_round(number)
        before = digest_arrays(arrays)
        self.job = self.job.model_copy(update={"round": number, "before": before})
        messages = self.configure_train(number, arrays, config, grid)
        self.aggregate_train(number, self._exchange(grid, number, messages))
        for layers in self.job.plan.exchanges:
            asking = self.configure_statistics(number, layers)
            replies = self._exchange(grid, number, asking)
            self.aggregate_statistics(number, layers, replies)
        for layer, gram in self._grams.items():
            edited = self.layers[layer]
            self.layers[layer] = replace(edited, memory=edited.memory.remember(gram))
        self._grams = {}
        return self.to_arrays()

    def welcome(self, grid: Grid) -> None:
        """Wait for the parties and refuse those that hold another model."""
        self.active = await_nodes(grid, self.parties, self._timeout)
        self.outcomes[0], self._unwelcome = RoundOutcome(), []
        replies = self._exchange(
            grid, 0, self._address(Phase.DESCRIBE, self.job, ArrayRecord())
        )
        places: dict[int, int] = {}
        for reply in replies:
            try:
                introduction = read_introduction(reply.content)
                check_introduction(introduction, self.job)
            except StatisticsError as error:
                self._refuse(0, reply.metadata.src_node_id, str(error))
            else:
                places[reply.metadata.src_node_id] = introduction.party
        self._require_enough(0)
        self.roster = sorted(places, key=lambda node: (places[node], node))
        self._unwelcome = list(self.outcomes[0].refusals)

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002 - nodes are chosen when the run begins
    ) -> list[Message]:
        """Ask the parties of the round for targets."""
        job = self.job.model_copy(update={"round": server_round})
        return self._address(Phase.TARGETS, job, arrays, config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Note who has requests in this round; targets stay where they are.

        A party without one takes part in nothing, which is no refusal.
        """
        outcome = self.outcomes[server_round]
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                count = read_count(reply.content)
            except StatisticsError as error:
                self._refuse(server_round, node, str(error))
                continue
            outcome.requests += count
            if count == 0:
                outcome.idle.append(node)
                self.active.remove(node)
        self._require_enough(server_round)
        return None, MetricRecord({"requests": outcome.requests})

    def configure_statistics(
        self, server_round: int, layers: Sequence[int]
    ) -> list[Message]:
        """Ask for the statistics of some layers, on the model as edited so far."""
        job = self.job.model_copy(
            update={"round": server_round, "layers": tuple(layers)}
        )
        return self._address(Phase.STATISTICS, job, self.to_arrays())

    def aggregate_statistics(
        self, server_round: int, layers: Sequence[int], replies: Iterable[Message]
    ) -> None:
        """Merge what the parties sent into the delta, in the order of the replies.

        A party whose statistics cannot be right is left out before any arithmetic, and
        the round goes on if enough remain.
        """
        accepted = [
            reply for reply in replies if self._accept(server_round, layers, reply)
        ]
        self._require_enough(server_round)
        solved: dict[str, Tensor] = {}
        for layer in layers:
            edited = self.layers[layer]
            parts = (self._decode(layer, reply) for reply in accepted)
            given = [pool(parts)] if self.merge.needs == "sum" else list(parts)
            self._grams[layer] = pool(given).gram
            solved[edited.weight] = self.merge(given, edited.memory.prior())
        self.delta = add_deltas(self.delta, solved)

    def configure_evaluate(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002 - nodes are chosen when the run begins
    ) -> list[Message]:
        """Ask the parties to judge the round's requests, in round 0 the first one's."""
        job = self.job.model_copy(update={"round": server_round})
        return self._address(Phase.EVALUATE, job, arrays, config)

    def aggregate_evaluate(
        self,
        server_round: int,
        replies: Iterable[Message],
    ) -> MetricRecord | None:
        """Add the parties' sums and counts; numbers that cannot be right are left out.

        Their party has contributed to the round by now and only its metrics are missed.
        """
        totals: dict[str, float] = {}
        for reply in replies:
            try:
                metrics = read_metrics(reply.content)
            except StatisticsError as error:
                self._refuse(server_round, reply.metadata.src_node_id, str(error))
                continue
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + value
        return MetricRecord({**totals}) if totals else None

    def to_arrays(self) -> ArrayRecord:
        """All updates so far, in the precision of the wire."""
        return ArrayRecord(
            {name: Array(u.to(self.dtype).numpy()) for name, u in self.delta.items()}
        )

    def _accept(self, number: int, layers: Sequence[int], reply: Message) -> bool:
        node = reply.metadata.src_node_id
        try:
            for layer in layers:
                self._decode(layer, reply)
        except StatisticsError as error:
            self._refuse(number, node, str(error))
            return False
        arrays = reply.content.array_records["statistics"].values()
        sent = self.outcomes[number].bytes_up
        sent[node] = sent.get(node, 0) + sum(len(array.data) for array in arrays)
        return True

    def _decode(self, layer: int, reply: Message) -> LayerStatistics:
        edited = self.layers[layer]
        sent = read_statistics(reply.content, layer)
        return decode(sent, edited.d_in, edited.d_out)

    def _judge_before(
        self,
        grid: Grid,
        result: Result,
        config: ConfigRecord,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
    ) -> None:
        if not self.judge_unedited:
            return
        self.begin_round(0)
        messages = self.configure_evaluate(0, result.arrays, config, grid)
        found = self.aggregate_evaluate(0, self._exchange(grid, 0, messages))
        if found is not None:
            result.evaluate_metrics_clientapp[0] = found
        if evaluate_fn and (own := evaluate_fn(0, result.arrays)) is not None:
            result.evaluate_metrics_serverapp[0] = own

    def _address(
        self,
        phase: Phase,
        job: Job,
        delta: ArrayRecord,
        config: ConfigRecord | None = None,
    ) -> list[Message]:
        return [
            Message(
                write_job(job, delta, config),
                dst_node_id=node,
                message_type=phase.value,
                group_id=str(job.round),
                ttl=self._timeout,
            )
            for node in self.active
        ]

    def _exchange(
        self, grid: Grid, number: int, messages: Sequence[Message]
    ) -> list[Message]:
        """Send, wait, and go on without those who failed; replies in roster order."""
        phase = messages[0].metadata.message_type if messages else ""
        report = self.report

        def tell(arrived: int) -> None:
            if report is not None:
                report(phase, number, arrived, len(messages))

        tell(0)
        found = exchange(grid, messages, self._timeout, tell)
        for refusal in found.refusals:
            self._refuse(number, refusal.node, refusal.reason)
        self._require_enough(number)
        return list(found.replies.values())

    def _refuse(self, number: int, node: int, reason: str) -> None:
        logger.warning("round %d goes on without node %d: %s", number, node, reason)
        self.outcomes[number].refusals.append(Refusal(node, reason))
        self.active = [other for other in self.active if other != node]

    def _require_enough(self, number: int) -> None:
        """Stop the run once too few parties remain.

        Raises:
            AggregationError: Naming who is missing and why.
        """
        wanted = 1 if self.job.pooled else self.min_parties
        if len(self.active) >= max(wanted, 1):
            return
        raise AggregationError(
            f"Round {number} has {len(self.active)} parties left and needs {wanted} "
            f"(`run.min-parties`). Left out: {self.outcomes[number].missing()}."
        )
