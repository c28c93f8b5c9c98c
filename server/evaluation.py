"""What the server makes of the parties' metrics, and what it judges itself."""

from collections.abc import Sequence
from pathlib import Path

from flwr.app import ArrayRecord, MetricRecord
from pydantic import TypeAdapter, ValidationError

from editing.algebra.deltas import Delta, applied
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.evaluation.metrics import KINDS, MetricSums
from editing.files.text import parse_json, read_text
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_continuation
from server.report.data import Refusal, RoundMetrics
from strategies.rounds.state import RoundOutcome
from strategies.wire.arrays import to_tensors
from strategies.wire.messages import read_evaluation

MEASURED = frozenset(
    {"score"}
    | {f"{kind}_{measure}" for kind in KINDS for measure in ("success", "acc", "diff")}
)
"""The metrics that have a place of their own in a report."""


class HeldOutFact(Settings):
    """A prompt and the answer that the unedited model gives."""

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
    """Per cent of the facts whose answer is the most likely one, token for token."""
    continuations = [
        Continuation(*tokenize_continuation(model.tokenizer, fact.prompt, fact.answer))
        for fact in facts
    ]
    with applied(delta, model.model):
        evaluated = compute_likelihoods(model, continuations)
    return 100 * sum(each.correct for each in evaluated) / len(evaluated)


def summarise(
    record: MetricRecord | None,
    outcome: RoundOutcome | None,
    held_out_acc: float | None,
    number: int,
) -> RoundMetrics:
    """Turn what the parties say after a round into the metrics of a report.

    Args:
        record: Sums and counts by the round that the evaluated requests are of.
        outcome: What the round came to.
        held_out_acc: What the server evaluated itself.
        number: The round, counted from 1; before any edit, 0, the first round's
            requests stand for all.
    """
    evaluated = read_evaluation(record or MetricRecord())
    earlier = [sums for asked, sums in evaluated.items() if asked < number]
    asked_so_far = range(1, number + 1) if evaluated else ()
    own = average(evaluated.get(max(number, 1), MetricSums()))
    return own.model_copy(
        update={
            "held_out_acc": held_out_acc,
            "retained": average(sum(earlier, MetricSums())) if earlier else None,
            "by_round": tuple(
                average(evaluated.get(asked, MetricSums())) for asked in asked_so_far
            ),
            **(describe_outcome(outcome) if outcome else {}),
        }
    )


def average(sums: MetricSums) -> RoundMetrics:
    """Metrics of some cases; one that a report has no place for is a group."""
    means = sums.means()
    return RoundMetrics.model_validate(
        {name: value for name, value in means.items() if name in MEASURED}
        | {"groups": {n: value for n, value in means.items() if n not in MEASURED}}
        | {"evaluated": sums.counts.get("rewrite_acc")}
    )


def describe_outcome(outcome: RoundOutcome) -> dict[str, object]:
    """What was edited in a round, what was not, and how far the targets lay."""
    examined = outcome.examined
    return {
        "refusals": tuple(
            Refusal(node=r.node, reason=r.reason) for r in outcome.refusals
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
    """Updates by parameter name."""
    return to_tensors(arrays)
