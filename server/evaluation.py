"""What the server makes of the parties' metrics, and what it judges itself."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from flwr.app import ArrayRecord, MetricRecord
from pydantic import TypeAdapter, ValidationError

from editing.architectures import EditableModel
from editing.deltas import Delta, applied
from editing.errors import InputError
from editing.evaluation import Continuation, MetricSums, judge
from editing.prompts import tokenize_target, tokenize_text
from editing.settings import Settings
from server.report import Refusal, RoundMetrics
from strategies.rounds import RoundOutcome


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
        text = path.read_text(encoding="utf-8")
        return tuple(TypeAdapter(list[HeldOutFact]).validate_python(json.loads(text)))
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(
            f"{path}: wanted a JSON list of objects with `prompt` and `answer` "
            f"({type(error).__name__})."
        ) from None


def judge_held_out(
    model: EditableModel, facts: Sequence[HeldOutFact], delta: Delta
) -> float:
    """Per cent of the facts whose answer is the most likely one, token for token."""
    continuations = [
        Continuation(
            tokenize_text(model.tokenizer, fact.prompt),
            tokenize_target(model.tokenizer, fact.answer),
        )
        for fact in facts
    ]
    with applied(delta, model.model):
        judged = judge(model, continuations)
    return 100 * sum(each.correct for each in judged) / len(judged)


def summarise(
    record: MetricRecord | None,
    outcome: RoundOutcome | None,
    held_out_acc: float | None,
) -> RoundMetrics:
    """Turn the parties' sums and counts of a round into the metrics of a report.

    A metric that the report has no place for stands among the groups.
    """
    means = read_sums(record or MetricRecord()).means()
    named = RoundMetrics.model_fields.keys() - {"held_out_acc", "groups", "refusals"}
    plain = {name: value for name, value in means.items() if name in named}
    groups = {name: value for name, value in means.items() if name not in named}
    refusals = outcome.refusals if outcome else []
    return RoundMetrics(
        **plain,
        held_out_acc=held_out_acc,
        groups=groups,
        refusals=tuple(Refusal(node=r.node, reason=r.reason) for r in refusals),
    )


def read_sums(record: Mapping[str, object]) -> MetricSums:
    """Rebuild sums and counts from the numbers that clients send."""
    sums = {
        name.removeprefix("sum."): float(str(value))
        for name, value in record.items()
        if name.startswith("sum.")
    }
    counts = {name: round(float(str(record[f"count.{name}"]))) for name in sums}
    return MetricSums(sums, counts)


def to_delta(arrays: ArrayRecord) -> Delta:
    """Updates by parameter name."""
    return {name: torch.from_numpy(array.numpy()) for name, array in arrays.items()}
