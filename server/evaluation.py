"""The parties' metrics as a report has them, and the server's own evaluation."""

from collections.abc import Sequence
from pathlib import Path

from flwr.app import ArrayRecord
from pydantic import TypeAdapter, ValidationError

from editing.algebra.deltas import Delta, applied
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.evaluation.metrics import DIAGNOSIS, KINDS, MetricSums
from editing.files.text import parse_json, read_text
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_continuation
from server.report.data import LeftOutParty, RoundMetrics
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
            **(describe_outcome(outcome) if outcome else {}),
        }
    )


def average(sums: MetricSums) -> RoundMetrics:
    """Return the means over some cases; a metric without a field is a group."""
    means = sums.means()
    return RoundMetrics.model_validate(
        {name: value for name, value in means.items() if name in MEASURED}
        | {"groups": {n: value for n, value in means.items() if n not in MEASURED}}
        | {"evaluated": sums.counts.get("rewrite_acc")}
    )


def describe_outcome(outcome: RoundOutcome) -> dict[str, object]:
    """Count what was edited in a round and what was not, and average the residuals."""
    examined = outcome.examined
    return {
        "refusals": tuple(
            LeftOutParty(node=each.node, reason=each.reason, name=each.name)
            for each in outcome.refusals
        ),
        "requests": outcome.requests,
        "known": outcome.known,
        "left_out": outcome.left_out,
        "duplicates": outcome.duplicates,
        "conflicts": outcome.conflicts,
        "residual_norm": outcome.residual_norm / examined if examined else None,
        "residual_ratio": outcome.residual_ratio / examined if examined else None,
    }


def to_delta(arrays: ArrayRecord) -> Delta:
    """Return updates by parameter name."""
    return join_factors(to_tensors(arrays))
