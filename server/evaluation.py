"""The parties' metrics as a report has them, and the server's own evaluation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from flwr.app import ArrayRecord
from pydantic import TypeAdapter, ValidationError

from editing.algebra.deltas import Delta, applied
from editing.base.errors import InputError, ModelFilesError
from editing.base.settings import Settings
from editing.covariance.texts import open_text
from editing.covariance.windows import cut_document
from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.evaluation.metrics import ANSWERED, DIAGNOSIS, KINDS, MetricSums
from editing.files.text import parse_json, read_text
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow, tokenize_continuation
from server.report.data import LeftOutParty, PartyWeight, RoundMetrics
from server.report.diagnosis import relative_norms
from strategies.gate.decision import GateConfig, Measures
from strategies.rounds.state import RoundOutcome
from strategies.wire.arrays import to_tensors
from strategies.wire.deltas import join_factors
from strategies.wire.metrics import EvaluationSums

MEASURED = frozenset(
    {"score"}
    | {f"{kind}_{measure}" for kind in KINDS for measure in ("success", "acc", "diff")}
    | set(DIAGNOSIS)
)
"""The metrics with a field of their own in a report; others are groups."""


MOST_NATS = 700.0
"""Mean surprise per token up to which its exponential is a number."""


class HeldOutFact(Settings):
    """A prompt, and the answer of the unedited model."""

    prompt: str
    answer: str


def read_held_out(path: Path) -> tuple[HeldOutFact, ...]:
    """Read a JSON list of facts that no request is about.

    Raises:
        InputError: If it is no list of objects with `prompt` and `answer`.
    """
    try:
        text = read_text(path)
        return tuple(TypeAdapter(list[HeldOutFact]).validate_python(parse_json(text)))
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(
            f"{path}: wanted a JSON list of objects with `prompt` and `answer` "
            f"({type(error).__name__})."
        ) from None


def evaluate_held_out(
    model: EditableModel, facts: Sequence[HeldOutFact], delta: Delta
) -> float:
    """Return the per cent of facts whose answer is predicted, token for token."""
    continuations = [
        Continuation(*tokenize_continuation(model.tokenizer, fact.prompt, fact.answer))
        for fact in facts
    ]
    with applied(delta, model.model):
        evaluated = compute_likelihoods(model, continuations)
    return 100 * sum(each.correct for each in evaluated) / len(evaluated)


@dataclass(frozen=True, slots=True)
class UpdateMeasure:
    """Measures the model with an update, for the gate.

    Attributes:
        model: The model, unedited.
        facts: What no party edits.
        texts: Text in tokens, of two or more each.
    """

    model: EditableModel
    facts: Sequence[HeldOutFact]
    texts: Sequence[TokenRow] = ()

    def __call__(self, delta: Delta) -> Measures:
        """Measure all updates so far; what a model cannot compute is as bad as can be.

        Args:
            delta: By parameter name.
        """
        weight_of = self.model.model.get_parameter
        ratio = max(relative_norms(delta, weight_of).values(), default=0.0)
        cast = {name: each.to(self.model.dtype) for name, each in delta.items()}
        try:
            known = evaluate_held_out(self.model, self.facts, cast)
            return Measures(known, self._perplexity(cast), ratio)
        except ModelFilesError:
            return Measures(0.0, math.inf if self.texts else None, ratio)

    def _perplexity(self, delta: Delta) -> float | None:
        if not self.texts:
            return None
        rows = [
            Continuation(TokenRow(row.ids[:1], 0), row.ids[1:]) for row in self.texts
        ]
        with applied(delta, self.model.model):
            found = compute_likelihoods(self.model, rows)
        total = sum(
            each.nll * len(row.answer) for each, row in zip(found, rows, strict=True)
        )
        mean = total / sum(len(row.answer) for row in rows)
        return math.exp(min(mean, MOST_NATS))


def measure_for_gate(
    model: EditableModel,
    facts: Sequence[HeldOutFact],
    config: GateConfig,
    model_path: str,
) -> UpdateMeasure:
    """Take the gate's facts and documents: the first ones, as many as it wants.

    Raises:
        InputError: If there are fewer facts, or no text.
    """
    if len(facts) < config.requests:
        raise InputError(
            f"`gate.requests` wants {config.requests} held-out facts, and "
            f"held_out.json next to the model has {len(facts)}. Put more there, a list "
            "of objects with `prompt` and `answer`, or lower `gate.requests`"
        )
    rows: list[TokenRow] = []
    if config.text is not None:
        source = open_text(config.text, model, model_path, setting="gate.text")
        for document in islice(source.stream(0), config.requests):
            rows += [row for row in cut_document(model, document) if len(row.ids) > 1]
        if not rows:
            raise InputError(f"`gate.text`: {config.text} has no text to measure")
    return UpdateMeasure(model, facts[: config.requests], tuple(rows))


def summarise(
    evaluation: EvaluationSums,
    outcome: RoundOutcome | None,
    held_out_acc: float | None,
    number: int,
) -> RoundMetrics:
    """Turn the parties' sums after a round into the metrics of a report.

    Args:
        evaluation: Sums by the round that the evaluated requests were new in.
        outcome: Who took part in the round, and with how much.
        held_out_acc: The server's own metric.
        number: The round, counted from 1; 0 is before any edit, and then
            evaluates the first round's requests.
    """
    by_round = evaluation.by_round
    earlier = [sums for asked, sums in by_round.items() if asked < number]
    asked_so_far = range(1, number + 1) if by_round else ()
    own = average(evaluation.of_round(max(number, 1)))
    return own.model_copy(
        update={
            "held_out_acc": held_out_acc,
            "retained": average(sum(earlier, MetricSums())) if earlier else None,
            "by_round": tuple(
                average(evaluation.of_round(asked)) for asked in asked_so_far
            ),
            "all_edits": average_all(evaluation),
            **(describe_outcome(outcome) if outcome else {}),
        }
    )


def average(sums: MetricSums) -> RoundMetrics:
    """Return the means over some cases; a metric without a field is a group."""
    means, evaluated = sums.means(), sums.counts.get("rewrite_acc")
    others = {
        name: count
        for name, count in sums.counts.items()
        if count != evaluated and name not in DIAGNOSIS
    }
    return RoundMetrics.model_validate(
        {name: value for name, value in means.items() if name in MEASURED}
        | {"groups": {n: value for n, value in means.items() if n not in MEASURED}}
        | {"evaluated": evaluated, "counts": others}
    )


def average_all(evaluation: EvaluationSums) -> dict[str, float]:
    """Return the means over the cases of all rounds, if answers were generated."""
    total = sum(evaluation.by_round.values(), MetricSums())
    if not any(name in total.counts for name in ANSWERED):
        return {}
    means = {n: v for n, v in total.means().items() if n not in DIAGNOSIS}
    return {**means, "evaluated": float(total.counts[ANSWERED[0]])}


def describe_outcome(outcome: RoundOutcome) -> dict[str, object]:
    """Count what was edited in a round and what was not, and average the residuals."""
    examined = outcome.examined
    return {
        "refusals": tuple(
            LeftOutParty(node=each.node, reason=each.reason, name=each.name)
            for each in outcome.refusals
        ),
        "weights": tuple(find_weights(outcome)),
        "gate": outcome.gate,
        "budget": outcome.budget,
        "requests": outcome.requests,
        "known": outcome.known,
        "left_out": outcome.left_out,
        "duplicates": outcome.duplicates,
        "conflicts": outcome.conflicts,
        "residual_norm": outcome.residual_norm / examined if examined else None,
        "residual_ratio": outcome.residual_ratio / examined if examined else None,
    }


def find_weights(outcome: RoundOutcome) -> Iterator[PartyWeight]:
    """Say what each party weighs in the layer in which it weighs most."""
    names = dict.fromkeys(n for each in outcome.influences.values() for n in each)
    for name in names:
        own = {n: each[name] for n, each in outcome.influences.items() if name in each}
        layer = max(own, key=lambda number: own[number].leverage)
        yield PartyWeight(
            name=name,
            leverage=own[layer].leverage,
            share=own[layer].share,
            layer=layer,
        )


def to_delta(arrays: ArrayRecord) -> Delta:
    """Return updates by parameter name."""
    return join_factors(to_tensors(arrays))
