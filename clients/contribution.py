"""What a client computes beside its party's requests."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clients.selection import Asked
from clients.storage import PrivateFolder, name_target
from editing.architectures import EditableModel
from editing.encodings import EncodedStatistics, encode
from editing.evaluation import evaluate_requests, sum_cases
from editing.metrics import MetricSums
from editing.pipeline import read_pairs
from editing.requests import EditRequest, to_counterfact
from editing.targets import compute_targets
from strategies.messages import Job


def find_targets(
    model: EditableModel,
    requests: Sequence[EditRequest],
    job: Job,
    folder: PrivateFolder,
    batch_size: int = 128,
) -> Float[Tensor, "n d_out"]:
    """Take targets from the private folder and compute the others, together.

    Args:
        model: The model with the updates of earlier rounds.
        requests: The party's new requests.
        job: The run's plan.
        folder: Where targets are kept.
        batch_size: Requests computed together.
    """
    names = [name_target(request, job) for request in requests]
    kept = [folder.find_target(name) for name in names]
    missing = [index for index, target in enumerate(kept) if target is None]
    if missing:
        wanted = [requests[index] for index in missing]
        computed = compute_targets(
            model, wanted, job.plan.templates, job.plan.parameters, batch_size
        )
        for index, target in zip(missing, computed, strict=True):
            folder.keep_target(names[index], target)
            kept[index] = target
    return torch.stack([target for target in kept if target is not None])


def kept_targets(
    requests: Sequence[EditRequest], job: Job, folder: PrivateFolder
) -> Float[Tensor, "n d_out"]:
    """Take targets from the private folder.

    Raises:
        LookupError: If one is not there.
    """
    kept = [folder.find_target(name_target(request, job)) for request in requests]
    found = [target for target in kept if target is not None]
    if len(found) < len(requests):
        raise LookupError(
            f"{len(requests) - len(found)} targets of round {job.round} are not in "
            f"{folder.path}. Was the folder emptied while the run went on?"
        )
    return torch.stack(found)


def contribute(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Float[Tensor, "n d_out"],
    job: Job,
    seed: str | None,
) -> dict[int, EncodedStatistics]:
    """Encode the statistics of the layers that the job asks for.

    Args:
        model: The model as edited so far in this round.
        requests: The party's new requests.
        targets: Theirs, in the same order.
        job: Says which layers, and how to encode.
        seed: Draws the rotation in a simulation; None takes the system's randomness.
    """
    pairs = read_pairs(model, requests, targets, job.plan, job.layers)
    return {
        layer: encode(
            pair.keys,
            pair.residuals,
            job.encoding,
            _generator(f"{seed}/{job.round}/{layer}") if seed is not None else None,
        )
        for layer, pair in pairs.items()
    }


def judge_requests(
    model: EditableModel, asked: Sequence[Asked]
) -> list[dict[str, object]]:
    """Evaluate requests on the edited model; one case each, in MEMIT's form and more.

    Beside MEMIT's fields a case says whose request it is and of which round.
    """
    start = time.monotonic()
    cases = evaluate_requests(model, [each.request for each in asked])
    seconds = time.monotonic() - start
    edits = Counter(each.round for each in asked)
    return [
        {
            **case,
            "num_edits": edits[each.round],
            "time": seconds,
            "requested_rewrite": to_counterfact(each.request)["requested_rewrite"],
            "party": each.party,
            "round": each.round,
            "residual_norm": None,
            "residual_ratio": None,
        }
        for case, each in zip(cases, asked, strict=True)
    ]


def sum_by_round(cases: Sequence[dict[str, object]]) -> dict[int, MetricSums]:
    """Reduce cases to sums of their metrics, those of each round's requests apart."""
    rounds = {int(str(case["round"])) for case in cases}
    return {
        number: sum_cases([case for case in cases if case["round"] == number])
        for number in sorted(rounds)
    }


def _generator(text: str) -> torch.Generator:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return torch.Generator().manual_seed(number % 2**63)
