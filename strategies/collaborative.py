"""Collaborative editing as a Flower strategy: the rounds, several exchanges each."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import Tensor

from strategies.conflicts.arbiter import Arbiter
from strategies.conflicts.records import write_resolutions
from strategies.rounds.aggregation import Aggregation, add_metrics
from strategies.rounds.callbacks import (
    CompletedRound,
    MergedLayers,
    RoundCallbacks,
    ServerEvaluation,
    record_metrics,
)
from strategies.rounds.limits import require_finite
from strategies.rounds.registry import PartyRegistry, TooFewPartiesError
from strategies.rounds.settings import EditingSettings
from strategies.rounds.state import (
    RoundState,
    budget_in_use,
    remember_round,
    remembered,
    write_own_prior,
)
from strategies.rounds.tokens import resolve_conflicts
from strategies.summing.answers import AnswerMoments
from strategies.summing.plain import MEMORY, PlainRounds
from strategies.summing.pooled import PooledRounds, name_layers
from strategies.summing.sessions import LostPartyError, SecureSessions
from strategies.wire.arrays import digest_arrays
from strategies.wire.deltas import Updates
from strategies.wire.messages import Job, Phase
from strategies.wire.metrics import EvaluationSums, encode_metrics

logger = logging.getLogger(__name__)


class CollaborativeEditing(Strategy):
    """Edit one model with the requests of many parties, which stay with them.

    A round resolves duplicate and conflicting requests if the settings say how, then
    exchanges statistics for merged deltas (once for each edited layer under
    `layerwise`, once in all otherwise; the first time parties compute targets, too),
    adds the round's grams to the memory unless it is the last, and, where that is due,
    has each party evaluate its requests of all rounds so far. Parties may join and
    leave in between.

    Parameters
    ----------
    settings : EditingSettings
        What the edit is run with.
    callbacks : RoundCallbacks, optional
        Methods to call with progress, exchanges and completed rounds.
    """

    def __init__(  # noqa: D107 - the class documents its parameters
        self, settings: EditingSettings, callbacks: RoundCallbacks | None = None
    ) -> None:
        self.settings, self.job = settings, settings.job
        self.layers = dict(settings.layers)
        self.callbacks = callbacks or RoundCallbacks()
        self.arbiter = Arbiter(settings.conflicts) if settings.conflicts else None
        # Under `global` one party represents all.
        least = 1 if settings.job.pooled else settings.min_parties
        limits = settings.limits
        self.registry = PartyRegistry(least, self.callbacks, limits)
        self.plain = PlainRounds(self.registry, limits, self._aggregation)
        self.sums: PlainRounds | PooledRounds = self.plain
        if settings.secure:
            sessions = SecureSessions(self.registry)
            self.sums = PooledRounds(self.registry, self.layers, limits, sessions)
        self.answers = AnswerMoments(settings.job.answers, self.layers)
        self.updates = Updates({}, {}, settings.encoding_down, settings.dtype)
        self.completed, self._last = 0, 0
        self._grams: dict[int, Tensor] = {}
        self._evaluation = EvaluationSums()

    def summary(self) -> None:
        """Log the configuration of the strategy."""
        plan, merge = self.job.plan, self.settings.merge
        layers, least = list(plan.parameters.layers), self.registry.min_parties
        logger.info("merge %s (%s)", merge.name, merge.paper)
        logger.info("schedule %s, layers %s", plan.schedule, layers)
        logger.info("encoding %s, at least %d parties", self.job.encoding, least)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 1,
        timeout: float = 3600.0,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: ServerEvaluation | None = None,
    ) -> Result:
        """Run the rounds, several exchanges each; see the base class for arguments.

        `initial_arrays` holds updates from earlier runs by parameter name, the result's
        arrays all updates after the last round. Round 0 of its metrics is the model
        before any edit. After `resume`, only the missing rounds are run.
        """
        self.summary()
        config = train_config or ConfigRecord()
        evaluate_config = evaluate_config or ConfigRecord()
        if self.completed == 0:
            self.updates = self.updates.given(initial_arrays)
        self._last = num_rounds
        self.registry.welcome(
            grid, self.job, self.settings.parties, timeout, begun=self.completed > 0
        )
        result = Result(arrays=self.to_arrays())
        if self.settings.evaluate_unedited and self.completed == 0:
            self.registry.begin_round(grid, 0, self.job)
            self.sums.begin(grid, self.job)
            own = self._evaluate_round(grid, 0, result, evaluate_config, evaluate_fn)
            self._report_round(0, own)
        for number in range(self.completed + 1, num_rounds + 1):
            result.arrays, found = self.run_round(grid, number, result.arrays, config)
            result.train_metrics_clientapp[number] = found
            own, self._evaluation = None, EvaluationSums()
            if number % self.settings.evaluate_every == 0 or number == num_rounds:
                own = self._evaluate_round(
                    grid, number, result, evaluate_config, evaluate_fn
                )
            self._report_round(number, own)
        return result

    def resume(self, state: RoundState) -> None:
        """Continue after a completed round, as if it had just ended."""
        self.completed = state.number
        self.updates = replace(self.updates, delta=state.delta, factors=state.factors)
        for layer, edited in self.layers.items():
            gram, kept = state.grams.get(layer), state.kept.get(layer)
            self.layers[layer] = edited.resumed(gram, kept)
        if self.arbiter is not None:
            self.arbiter.history = list(state.history)

    def run_round(
        self, grid: Grid, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Exchange statistics of the requests' targets and merge them.

        If a party is lost before the last layer, its statistics of the others are
        worthless: the round starts again without it, so that all layers are sums over
        the same requests. Targets that were computed are not computed again. What is
        returned are all updates so far, and the number of requests of the round.
        """
        self.registry.begin_round(grid, number, self.job)
        changed = {"round": number, "before": digest_arrays(arrays)}
        self.job = self.job.model_copy(update=changed)
        start = self.updates
        while not self._try_to_edit(grid, number, arrays, config):
            logger.warning("round %d starts again", number)
            self.updates, self._grams = start, {}
        outcome = self.registry.outcomes[number]
        outcome.merged = True
        if self.arbiter is not None:
            self.arbiter.settle(self.registry.present)
        edits, before = sum(outcome.edits.values()), start.delta
        grams, self._grams = self._grams, {}
        self.layers |= remember_round(self.layers, grams, edits, before, self.delta)
        outcome.budget = budget_in_use(self.layers)
        self.answers.keep()
        self.completed = number
        return self.to_arrays(), MetricRecord({"requests": outcome.requests})

    def _try_to_edit(
        self, grid: Grid, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> bool:
        """Run the round's exchanges; return False if parties were lost meanwhile."""
        try:
            return self._edit(grid, number, arrays, config)
        except LostPartyError:
            return False
        except TooFewPartiesError:
            if not self.registry.wait_for_return(grid, number):
                raise
            return False

    def _edit(
        self, grid: Grid, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> bool:
        """Run the exchanges; return whether all layers are sums over the same requests.

        The requests of a lost party may have ruled those of others out, so conflicts
        are then resolved again, too. A secure sum that is known cannot be asked for
        again, of fewer: then the later layers are sums over those that are left.
        """
        registry = self.registry
        registry.restart_round(number)
        self.callbacks.on_attempt(number)
        if self.arbiter is not None:
            resolve_conflicts(
                self.arbiter, registry, grid, number, self.job, self.settings.limits
            )
        asked = list(registry.present)
        self.sums.begin(grid, self.job, memory=self._reads_memory_keys)
        whole: Sequence[int] | None = None if self.arbiter is None else asked
        job = self.job.asking(number, self.job.plan.exchanges[0])
        asking = partial(self._address, Phase.ANSWERS, job, arrays)
        whole = self.answers.pool(self.sums.sum_answers, grid, job, asking, whole)
        messages = self.configure_train(number, arrays, config, grid)
        aggregation = self.sums.sum_targets(grid, job, messages, whole)
        if aggregation is not None:
            self._merge(job.layers, aggregation)
        merged, again = list(registry.active), self.sums.starts_again
        if again and whole not in (None, registry.present):
            return False
        for layers in self.job.plan.exchanges[1:] if aggregation else ():
            job = self.job.asking(number, layers)
            messages = self.configure_statistics(number, layers)
            name = name_layers(layers)
            aggregation = self.sums.sum_statistics(grid, job, messages, name)
            if again and registry.active != merged:
                return False
            self._merge(layers, aggregation)
        self._read_memory_keys(grid, number)
        return not again or registry.active == merged

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002 - the registry knows the nodes
    ) -> list[Message]:
        """Write messages that ask for targets and for the first layers' statistics."""
        job = self.job.asking(server_round, self.job.plan.exchanges[0])
        return self.answers.attach(self._address(Phase.TARGETS, job, arrays, config))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Validate the replies of the first exchange, and merge their statistics.

        A party without requests in this round takes no part in it, which is not a
        refusal. The arrays are all updates so far; None if nothing was merged.
        """
        layers = self.job.plan.exchanges[0]
        aggregation = self.plain.add_targets(server_round, layers, replies)
        outcome = self.registry.outcomes[server_round]
        requests = MetricRecord({"requests": outcome.requests})
        if aggregation is None:
            return None, requests
        self._merge(layers, aggregation)
        return self.to_arrays(), requests

    def configure_statistics(
        self, server_round: int, layers: Sequence[int]
    ) -> list[Message]:
        """Write messages that ask for later layers' statistics, on the edited model."""
        job = self.job.asking(server_round, layers)
        return self._address(Phase.STATISTICS, job, self.to_arrays())

    def configure_evaluate(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002 - the registry knows the nodes
    ) -> list[Message]:
        """Write messages that ask present parties to evaluate their requests so far.

        In round 0 these are the first round's.
        """
        last = server_round == self._last > 0
        job = self.job.model_copy(update={"round": server_round, "last": last})
        return self._address(Phase.EVALUATE, job, arrays, config, self.registry.present)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Validate the parties' metrics, and add them up.

        Invalid metrics are left out; their party's edits are in the round by then.
        """
        total = add_metrics(server_round, replies, self.registry, self.settings.limits)
        return encode_metrics(total) if total.by_round else None

    @property
    def delta(self) -> dict[str, Tensor]:
        """All updates so far by parameter name, in float64."""
        return dict(self.updates.delta)

    def to_arrays(self) -> ArrayRecord:
        """Return all updates so far, as they travel."""
        return self.updates.to_arrays()

    def state(self) -> RoundState:
        """Return all that the next round depends on."""
        history = self.arbiter.history if self.arbiter else ()
        grams, updates = remembered(self.layers), self.updates
        return RoundState(
            self.completed,
            updates.delta,
            grams,
            tuple(history),
            updates.factors,
            {layer: edited.kept for layer, edited in self.layers.items()},
        )

    def _aggregation(
        self, number: int, layers: Sequence[int], phase: Phase = Phase.STATISTICS
    ) -> Aggregation:
        needs = "sum" if phase is Phase.MEMORY else self.settings.merge.needs
        observe, asked = partial(self.callbacks.on_statistics, phase), self.job.encoding
        return Aggregation(number, layers, self.layers, needs, observe, asked)

    def _merge(self, layers: Sequence[int], aggregation: Aggregation) -> None:
        """Solve the layers of an exchange, and keep their grams for the memory."""
        solved, before = dict[str, Tensor](), self.updates.delta
        for layer in layers:
            edited = self.layers[layer]
            parts, total = aggregation.statistics(layer), before.get(edited.weight)
            if edited.remembers(last=self.job.round == self._last):
                self._grams[layer] = aggregation.pooled(layer).gram
            solved[edited.weight] = edited.merge(
                self.settings.merge, parts, total, self.job.round, aggregation.parties
            )
        outcome = self.registry.outcomes[self.job.round]
        self.updates = self.updates.add(solved, sum(outcome.edits.values()))
        require_finite(self.delta, self.settings.dtype, self.registry.contributors)
        merged = {layer: self.layers[layer] for layer in layers}
        label, number = self.registry.parties.label_of, self.job.round
        self.callbacks.on_merge(
            MergedLayers(number, merged, before, self.delta, outcome, label)
        )

    def _read_memory_keys(self, grid: Grid, number: int) -> None:
        """Read keys on the edited model, if the memory holds those.

        Layer by layer they were read on a model whose earlier layers are edited, and a
        key does not depend on later ones: reading again gives the same.
        """
        if not (self._reads_memory_keys and self._grams):
            return
        layers = tuple(self.layers)
        job = self.job.asking(number, layers)
        messages = self._address(Phase.MEMORY, job, self.to_arrays())
        aggregation = self.sums.sum_statistics(grid, job, messages, MEMORY)
        for layer in layers:
            self._grams[layer] = aggregation.pooled(layer).gram

    @property
    def _reads_memory_keys(self) -> bool:
        frozen = self.job.plan.schedule not in {"layerwise", "boundary"}
        return self.settings.memory_keys == "edited" and frozen

    def _evaluate_round(
        self,
        grid: Grid,
        number: int,
        result: Result,
        config: ConfigRecord,
        evaluate_fn: ServerEvaluation | None,
    ) -> MetricRecord | None:
        """Evaluate at the parties, then at the server; return the server's metrics."""
        messages = self.configure_evaluate(number, result.arrays, config, grid)
        self._evaluation = self.sums.sum_metrics(grid, number, messages)
        own = evaluate_fn(number, result.arrays) if evaluate_fn else None
        return record_metrics(result, number, self._evaluation, own)

    def _report_round(self, number: int, own: MetricRecord | None) -> None:
        state, outcome = self.state(), self.registry.outcomes[number]
        sent = self.registry.bytes_sent(number)
        over = CompletedRound(state, outcome, self._evaluation, own, sent)
        self.callbacks.on_round_end(over)

    def _address(
        self,
        phase: Phase,
        job: Job,
        arrays: ArrayRecord,
        config: ConfigRecord | None = None,
        to: Sequence[int] | None = None,
    ) -> list[Message]:
        """Write a message to each node, with the resolutions of its requests."""
        solving = phase in {Phase.TARGETS, Phase.STATISTICS}
        prior = write_own_prior(job.prior, self.layers) if solving else None
        messages = self.registry.address(phase, job, arrays, config, prior, to)
        if self.arbiter is not None:
            for message in messages:
                own = self.arbiter.resolutions.get(message.metadata.dst_node_id, ())
                message.content["resolutions"] = write_resolutions(own)
        return messages
