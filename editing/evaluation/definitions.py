"""Definitions of metrics: an id for each, so that unlike figures are never averaged.

An id names where a metric is from, what it is of, how it is found, its version, and
each setting that changes it: ``wild.rewrite.generated-exact.v1.tokens-32``. A metric
that is found in another way takes another version. Figures in one column have one id.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping

from editing.evaluation.config import EvaluationConfig
from editing.evaluation.metrics import ANSWERED, DIAGNOSIS, GENERATED, RANGES
from editing.requests.forms.benchmarks import TEACHER_FORCED

_FOUND = {
    "success": "counterfact.{}.success",
    "diff": "counterfact.{}.difference",
    "acc": "counterfact.{}.teacher-forced",
    "token_acc": "zsre.{}.teacher-forced-token",
}
_PUBLISHED = {
    "score": "counterfact.score.harmonic-mean.v1",
    "paraphrase_success.same_direction": (
        "counterfact.paraphrase.success-same-direction.v1"
    ),
    "paraphrase_success.other_direction": (
        "counterfact.paraphrase.success-other-direction.v1"
    ),
    "locality_acc": "zsre.locality.teacher-forced-token.v1",
    "locality_unchanged": "easyedit.locality.unchanged-token.v1",
    "portability_acc": "knowedit.portability.teacher-forced-token.v1",
    "essence_score": "rome.essence-perplexity.v1",
    "held_out_acc": "held-out.teacher-forced.v1",
    **{
        f"{kind}_acc": (
            f"{kind.replace('_', '.', 1).replace('_', '-')}.teacher-forced-token.v1"
        )
        for kind in TEACHER_FORCED
    },
}
_ANSWERED = {
    "mquake_edit_acc": "mquake.edit.generated-exact.v1",
    "mquake_instance_acc": "mquake.instance.generated-all.v1",
    "mquake_multi_hop_acc": "mquake.multi-hop.generated-any.v1",
    "qaedit_locality_unchanged": "wild.locality.generated-unchanged.v1",
}
"""Metrics of generated answers to benchmarks' own questions."""

_WRITTEN = {
    "ngram_entropy": "rome.ngram-entropy.v1",
    "reference_score": "rome.reference-score.v1",
}
"""Metrics of texts that are drawn."""


def define(metric: str, config: EvaluationConfig | None = None) -> str:
    """Return the id of a metric's definition.

    Args:
        metric: Its name.
        config: The settings that it was measured with; the default ones, under which
            figures without an id were measured, if None.

    Raises:
        KeyError: If there is no such metric.
    """
    chosen = config or EvaluationConfig()
    kind, _, measure = metric.partition("_")
    if metric in DIAGNOSIS:
        return f"diagnosis.{metric.replace('_', '-')}.v1"
    if metric in _PUBLISHED:
        return _PUBLISHED[metric]
    if metric in _WRITTEN:
        return f"{_WRITTEN[metric]}.top-{chosen.top_k}.tokens-{chosen.max_tokens}"
    if metric in _ANSWERED:
        after = _name_examples(chosen) if kind == "mquake" else ""
        return f"{_ANSWERED[metric]}.tokens-{chosen.answer_tokens}{after}"
    if metric not in RANGES:
        raise KeyError(metric)
    if metric in ANSWERED:
        how = measure.replace("_", "-")
        return f"wild.{kind}.{how}.v1.tokens-{chosen.answer_tokens}"
    return f"{_FOUND[measure].format(kind)}.v1"


def _name_examples(config: EvaluationConfig) -> str:
    """Name answered examples before a question by their SHA-256; nothing for none."""
    if config.examples is None:
        return ""
    digest = hashlib.sha256(config.examples.strip().encode()).hexdigest()
    return f".examples-{digest[:8]}"


def define_all(
    metrics: Iterable[str], config: EvaluationConfig | None = None
) -> dict[str, str]:
    """Return the ids of those metrics that have one, by name."""
    found = {}
    for name in metrics:
        try:
            found[name] = define(name, config)
        except KeyError:
            continue
    return found


def define_figures(
    case: Mapping[str, object], config: EvaluationConfig | None = None
) -> dict[str, str]:
    """Return the ids of what a case holds as figures; of its likelihoods none.

    Those are the metrics of texts, which settings change.
    """
    post = case["post"]
    assert isinstance(post, Mapping)
    fields = {name: name for name in GENERATED}
    # A case has one figure for each prompt: `rewrite_prompts_generated_exact`.
    fields |= {name: name.replace("_", "_prompts_", 1) for name in ANSWERED}
    fields |= {name: "_questions_".join(name.rsplit("_", 1)) for name in _ANSWERED}
    return define_all([n for n, field in fields.items() if field in post], config)


def find_unlike(definitions: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Return the metrics that have more than one id.

    Args:
        definitions: Ids by metric, of each figure or table.
    """
    found: dict[str, str] = {}
    unlike = set()
    for each in definitions:
        for name, own in each.items():
            if found.setdefault(name, own) != own:
                unlike.add(name)
    return frozenset(unlike)


def name_apart(
    metrics: Mapping[str, float],
    definitions: Mapping[str, str],
    unlike: Collection[str],
) -> dict[str, float]:
    """Name metrics so that figures of one name have one definition.

    Of those that have several, the one that `define` gives by default keeps its name;
    others are named after their id, too: ``rewrite_acc.zsre.rewrite.token.v1``.

    Args:
        metrics: By name.
        definitions: Their ids.
        unlike: The metrics that have several.
    """
    apart = {
        name: f"{name}.{definitions[name]}"
        for name in unlike
        if name in metrics and definitions[name] != define_all([name]).get(name)
    }
    return {apart.get(name, name): value for name, value in metrics.items()}
