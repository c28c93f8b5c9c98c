"""What a client computes from its party's requests."""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from flwr.app import Message
from jaxtyping import Float
from torch import Tensor

from clients.resolutions import apply_resolutions, check_resolutions, find_key
from clients.round_requests import validate_unchanged
from clients.round_targets import (
    RoundTargets,
    batching_of_round,
    choose_edits,
    kept_targets,
)
from clients.selection import Asked, Group, asked_in, asked_until, group_by_party
from clients.settings import ClientConfig
from clients.storage import Distances, PrivateFolder
from clients.target_cache import describe_machine
from editing.algebra.encodings import EncodedStatistics, encode, encoding_for
from editing.evaluation.answers import measure_answers
from editing.evaluation.cases import CaseRecord, evaluate_requests, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.definitions import define_figures
from editing.evaluation.generated_texts import add_texts, measure_texts
from editing.evaluation.metrics import MetricSums
from editing.hyperparameters.config import Hyperparameters
from editing.memit.pipeline import LayerPairs, read_pairs, walk_layers
from editing.memit.residuals import read_states
from editing.memit.targets import Targets
from editing.models.activations import Relay
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest, to_counterfact
from editing.requests.paraphrases import unedited_paraphrases, unedited_questions
from strategies.conflicts.records import read_resolutions
from strategies.wire.messages import Job
from strategies.wire.metrics import EvaluationSums

logger = logging.getLogger(__name__)

Priors = Mapping[int, Float[Tensor, "d_in d_in"]]
"""The matrix that a party solves with, by layer."""


def contribute(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    job: Job,
    seed: str | None,
    priors: Priors | None = None,
    hidden: Float[Tensor, "n d_out"] | None = None,
    relay: Relay | None = None,
) -> dict[int, EncodedStatistics]:
    """Encode the statistics of the layers that the job asks for.

    Args:
        model: The model as edited so far in this round.
        requests: What the party edits in this round.
        targets: Theirs, in the same order.
        job: Says which layers, and how to encode.
        seed: Draws the rotation in a simulation; None takes the system's randomness.
        priors: What a party that solves alone solves against, by layer. It edits its
            own copy layer by layer and sends what it solved from.
        hidden: As in `editing.memit.pipeline.read_pairs`; not for `priors`.
        relay: Likewise.
    """
    pairs = read_edits(model, requests, targets, job, priors, hidden, relay)
    return encode_pairs(pairs, job, seed, model.dtype)


def encode_pairs(
    pairs: Mapping[int, LayerPairs], job: Job, seed: str | None, dtype: torch.dtype
) -> dict[int, EncodedStatistics]:
    """Encode keys and residuals of the layers that the job asks for.

    Args:
        pairs: By layer.
        job: As in `contribute`.
        seed: Likewise.
        dtype: The precision of the model.
    """
    encoding = encoding_for(job.encoding, dtype)
    return {
        layer: encode(
            pairs[layer].keys,
            pairs[layer].residuals,
            encoding,
            _generator(f"{seed}/{job.round}/{layer}") if seed is not None else None,
        )
        for layer in job.layers
    }


def sum_statistics(
    model: EditableModel,
    config: ClientConfig,
    job: Job,
    found: Sequence[RoundTargets],
    priors: Priors | None,
    relay: Relay,
    *,
    unedited: bool,
) -> dict[int, EncodedStatistics]:
    """Sum the statistics of the layers asked for, on the model as it is.

    If the round has not edited the model yet, its hidden states are those of the
    targets and are not read again.
    """
    requests, targets = choose_edits(found, config.parties.skip_known)
    seed, hidden = seed_of(config), targets.hidden if unedited else None
    return contribute(model, requests, targets, job, seed, priors, hidden, relay)


def read_edits(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    job: Job,
    priors: Priors | None = None,
    hidden: Float[Tensor, "n d_out"] | None = None,
    relay: Relay | None = None,
) -> Mapping[int, LayerPairs]:
    """Read keys and residuals of the layers asked for; see `contribute`."""
    if priors is None:
        return read_pairs(model, requests, targets, job.plan, job.layers, hidden, relay)
    steps = walk_layers(model, requests, targets, job.plan, priors)
    return {layer: pair for step in steps for layer, pair in step.pairs.items()}


def read_round_pairs(
    model: EditableModel,
    config: ClientConfig,
    job: Job,
    found: Sequence[RoundTargets],
    priors: Priors | None,
    relay: Relay,
    *,
    unedited: bool,
) -> Mapping[int, LayerPairs]:
    """Read what is summed under masks; empty for a party without an edit."""
    skip_known = config.parties.skip_known
    if not any(each.unknown(skip_known) for each in found):
        return {}
    requests, targets = choose_edits(found, skip_known)
    hidden = targets.hidden if unedited else None
    return read_edits(model, requests, targets, job, priors, hidden, relay)


def leave_unedited(groups: Sequence[Group]) -> list[Asked]:
    """Return the requests with only those paraphrases that are not edited with them.

    Which these are does not depend on the round or on resolutions, so that all
    likelihoods of one request are of the same prompts.
    """
    return [
        replace(
            each,
            request=each.request.model_copy(
                update={
                    "paraphrase_prompts": unedited_paraphrases(each.request, phrasings),
                    "benchmark_questions": unedited_questions(each.request, phrasings),
                }
            ),
        )
        for group in groups
        for each, phrasings in zip(group.asked, group.phrased, strict=True)
    ]


def evaluate_own_requests(
    model: EditableModel,
    asked: Sequence[Asked],
    distances: Mapping[int, Distances] | None = None,
    config: EvaluationConfig | None = None,
    *,
    seed: int = 0,
    before: Sequence[Sequence[tuple[int, ...]]] | None = None,
    answered: Sequence[Sequence[str]] | None = None,
    known: Sequence[CaseRecord] | None = None,
) -> list[CaseRecord]:
    """Evaluate requests on the edited model; one case each, in MEMIT's form and more.

    In addition to MEMIT's fields, a case names the request's party and round, the
    distance of its target from the model's hidden state before that round, and the
    definitions of the figures of texts.

    Args:
        model: The model as it is evaluated.
        asked: The requests.
        distances: By round, of the requests that targets were computed for.
        config: What is measured; texts that are written for it stay in the cases.
        seed: Draws these texts.
        before: What the unedited model predicts at questions of locality.
        answered: What it answers to QAEdit's, if answers are generated.
        known: Cases of an evaluation with the same `name_evaluation`, if there was one:
            the model does not run again.
    """
    start, requests = time.monotonic(), [each.request for each in asked]
    cases = list(known or ())
    if known is None:
        cases = evaluate_requests(model, requests, config, before=before)
        if config is not None and config.generation:
            cases = add_texts(cases, measure_texts(model, requests, config, seed))
        if config is not None and config.asks_answers:
            found = measure_answers(model, requests, config, before=answered)
            cases = add_texts(cases, found)
    seconds = time.monotonic() - start
    edits = Counter(each.round for each in asked)
    return [
        {
            **case,
            "definitions": define_figures(case, config),
            "num_edits": edits[each.round],
            "time": seconds,
            "requested_rewrite": to_counterfact(each.request)["requested_rewrite"],
            "party": each.party,
            "round": each.round,
            **_residual_of(each, distances or {}),
        }
        for case, each in zip(cases, asked, strict=True)
    ]


def name_evaluation(
    model: EditableModel,
    asked: Sequence[Asked],
    config: EvaluationConfig,
    job: Job,
    updates: str,
    seed: int,
) -> str:
    """Digest all that the cases of some requests depend on, evaluated together.

    The last bits depend on what else is evaluated, so an evaluation is known only if it
    was of the same requests: in another merge that came to the same updates, or after a
    round that changed nothing.

    Args:
        model: The model, which says what machine it is on.
        asked: The requests, in order.
        config: What is measured.
        job: Says which model it is.
        updates: Digest of the updates that the model carries.
        seed: Draws texts.
    """
    parts = {
        "requests": [each.request.model_dump(mode="json") for each in asked],
        "config": config.model_dump(mode="json"),
        "model": job.identity.model_dump(mode="json"),
        "updates": updates,
        "seed": seed,
        "machine": describe_machine(model),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sum_by_round(cases: Sequence[dict[str, object]]) -> EvaluationSums:
    """Reduce cases to sums of their metrics, by the round of their requests."""
    rounds = {int(str(case["round"])) for case in cases}
    return EvaluationSums(
        {
            number: sum_cases([case for case in cases if case["round"] == number])
            for number in sorted(rounds)
        }
    )


def diagnose_edits(
    model: EditableModel,
    found: Sequence[RoundTargets],
    skip_known: float | None,
    parameters: Hyperparameters,
) -> MetricSums:
    """Sum the diagnostics of a round's edited requests, on the edited model.

    Args:
        model: The model with the round's merged update.
        found: The round's targets, with the hidden states from before it.
        skip_known: The residual ratio up to which a request is not edited.
        parameters: Say what the targets are of.
    """
    total = MetricSums()
    for each in found:
        requests = each.group.requests
        rows = [each.group.rows[place][0] for place in each.unknown(skip_known)]
        if rows:
            edited = [requests[row] for row in rows]
            after = read_states(model, edited, parameters).cpu()
            total += sum_diagnostics(each.targets, rows, after)
    return total


def seed_of(config: ClientConfig) -> str | None:
    """Return what draws a party's rotations in a simulation, which repeats.

    Requests of its own mean that statistics leave the machine.
    """
    return f"{config.seed}/{config.party}" if config.own_requests is None else None


def sum_diagnostics(
    targets: Targets, rows: Sequence[int], after: Float[Tensor, "n d_out"]
) -> MetricSums:
    """Sum the diagnostics of some targets.

    ``residual_left`` is ``‖z − h'‖ / ‖z − h‖``, with ``h`` and ``h'`` the hidden states
    before and after the round: 0 if the edit reached its target, 1 if it moved nothing
    towards it. A target that did not move from its hidden state has none.

    Args:
        targets: With the hidden states before the round.
        rows: Those of the edited requests.
        after: The hidden states of these after the round.
    """
    chosen = list(rows)
    shift = targets.shift[chosen].double()
    wanted = shift.norm(dim=1)
    missing = (targets.hidden[chosen].double() + shift - after).norm(dim=1)
    loss = targets.loss[chosen].double().clamp(min=0)
    values = {
        "target_loss": loss,
        "target_probability": (-loss).exp(),
        "target_stopped": targets.stopped[chosen].double(),
        "target_clamped": targets.clamped[chosen].double(),
        "residual_left": (missing / wanted)[targets.moved[chosen]],
    }
    known = {name: each for name, each in values.items() if len(each) > 0}
    return MetricSums(
        {name: float(each.sum()) for name, each in known.items()},
        {name: len(each) for name, each in known.items()},
    )


def _residual_of(
    asked: Asked, distances: Mapping[int, Distances]
) -> dict[str, float | None]:
    of_round = distances.get(asked.round, {})
    norm, ratio = of_round.get((asked.party, asked.place), (None, None))
    return {"residual_norm": norm, "residual_ratio": ratio}


def _generator(text: str) -> torch.Generator:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return torch.Generator().manual_seed(number % 2**63)


def choose(
    message: Message, config: ClientConfig, job: Job, folder: PrivateFolder
) -> tuple[list[Asked], list[Asked]]:
    """Return the round's requests, and those that the resolutions keep."""
    asked = asked_in(config, job.round, pooled=job.pooled)
    validate_unchanged(folder, config, job, asked, message.metadata.message_type)
    if resolutions := read_resolutions(message.content):
        so_far = asked_until(config, job.round, pooled=job.pooled)
        check_resolutions(so_far, resolutions, find_key(config, folder))
    return asked, apply_resolutions(asked, resolutions)


def find_edited(
    message: Message,
    config: ClientConfig,
    model: EditableModel,
    job: Job,
    folder: PrivateFolder,
) -> list[RoundTargets]:
    """Return the targets of the round's edits; none before any edit, or if lost.

    Editors that read at the answers have none.
    """
    if job.round == 0 or job.answers is not None:
        return []
    _, edited = choose(message, config, job, folder)
    groups, cache = group_by_party(edited, config.requests), config.target_cache
    batching = batching_of_round(config, job.round)
    try:
        return kept_targets(model, groups, job, folder.targets(cache), batching)
    except LookupError:  # the evaluation itself does not need them
        logger.warning("the round's targets are gone, so its edits are not diagnosed")
        return []
