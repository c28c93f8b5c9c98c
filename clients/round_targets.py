"""Targets of a round's requests, and which requests the model already holds."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clients.selection import Asked, Group
from clients.storage import Distances
from clients.target_cache import KeptTargets, TargetCache, name_targets
from editing.memit.residuals import read_hidden
from editing.memit.targets import compute_targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from strategies.wire.messages import Job, TargetsReply

SUMMED = 16 * torch.finfo(torch.float32).eps
"""A residual ratio below this is none at all, in any model.

A target that asks for nothing is the hidden state itself, but read in another batch.
Attention may run in float32 whatever the model's precision, and five units in its last
place were seen of it.
"""

ROUNDED = 2
"""Nor is one below so many units in the last place of a coarser model.

Such a model sums finer than it stores, and less than one unit was seen of it. Each unit
more would be a real request that is left out: in bfloat16 these are a ratio of 0.016.
"""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a target lies from what the model has before the round's edit.

    Attributes:
        norm: ``‖z − h‖``.
        ratio: ``‖z − h‖ / ‖h‖``.
    """

    norm: float
    ratio: float


@dataclass(frozen=True, slots=True)
class RoundTargets:
    """A party's requests of a round with their targets."""

    group: Group
    kept: KeptTargets

    @property
    def distances(self) -> list[tuple[Asked, Distance]]:
        """Of the requests themselves, whatever further phrasings they have."""
        hidden = self.kept.hidden.double()
        norms = (self.kept.targets.double() - hidden).norm(dim=1)
        ratios = norms / hidden.norm(dim=1)
        return [
            (asked, Distance(float(norms[rows[0]]), float(ratios[rows[0]])))
            for asked, rows in zip(self.group.asked, self.group.rows, strict=True)
        ]

    def unknown(self, skip_known: float | None) -> list[int]:
        """Places in the group of the requests that the model does not hold yet."""
        ratios = [distance.ratio for _, distance in self.distances]
        if skip_known is None:
            return list(range(len(ratios)))
        rounded = ROUNDED * torch.finfo(self.kept.hidden.dtype).eps
        known = max(skip_known, SUMMED, rounded)
        return [i for i, each in enumerate(ratios) if not each <= known]


def find_targets(
    model: EditableModel,
    groups: Sequence[Group],
    job: Job,
    cache: TargetCache,
    batch_size: int = 128,
) -> list[RoundTargets]:
    """Take targets from the cache and compute the others, each party's together.

    Args:
        model: The model with the updates of earlier rounds.
        groups: The round's new requests.
        job: The run's plan.
        cache: Where targets are kept.
        batch_size: Requests computed together.
    """
    found = []
    for group in groups:
        name = name_targets(group.requests, job, model, batch_size)
        kept = cache.find(name)
        if kept is None:
            kept = _compute(model, group.requests, job, batch_size)
        # Also if it was found: the run's own folder may not have it yet.
        cache.keep(name, kept)
        found.append(RoundTargets(group, kept))
    return found


def kept_targets(
    model: EditableModel,
    groups: Sequence[Group],
    job: Job,
    cache: TargetCache,
    batch_size: int = 128,
) -> list[RoundTargets]:
    """Take targets from the cache; see `find_targets` for arguments.

    Raises:
        LookupError: If they are not all there.
    """
    found = []
    for group in groups:
        kept = cache.find(name_targets(group.requests, job, model, batch_size))
        if kept is None:
            raise LookupError(
                f"{len(group.asked)} targets of round {job.round} are not in "
                f"{cache.path}. Was the folder emptied while the run went on?"
            )
        found.append(RoundTargets(group, kept))
    return found


def choose_edits(
    found: Sequence[RoundTargets], skip_known: float | None
) -> tuple[list[EditRequest], Float[Tensor, "n d_out"]]:
    """All phrasings that are edited in the round, and their targets.

    What is left out is decided by the state before the round, so that all its layers
    speak of the same requests.

    Raises:
        LookupError: If there are none.
    """
    requests, targets = [], []
    for each in found:
        all_rows, all_requests = each.group.rows, each.group.requests
        rows = [row for i in each.unknown(skip_known) for row in all_rows[i]]
        requests += [all_requests[row] for row in rows]
        targets.append(each.kept.targets[rows])
    if not requests:
        raise LookupError("Statistics were asked for, and no request is left to edit.")
    return requests, torch.cat(targets)


def summarise_targets(
    found: Sequence[RoundTargets], left_out: int, skip_known: float | None
) -> TargetsReply:
    """Count what is edited and what is left out, and sum how far the targets lie."""
    distances = [distance for each in found for _, distance in each.distances]
    edited = sum(len(each.unknown(skip_known)) for each in found)
    return TargetsReply(
        requests=edited,
        known=len(distances) - edited,
        left_out=left_out,
        residual_norm=sum(each.norm for each in distances),
        residual_ratio=sum(each.ratio for each in distances),
    )


def distances_of(found: Sequence[RoundTargets]) -> Distances:
    """How far the targets of the requests lie, by party and place."""
    return {
        (asked.party, asked.place): (distance.norm, distance.ratio)
        for each in found
        for asked, distance in each.distances
    }


def _compute(
    model: EditableModel, requests: Sequence[EditRequest], job: Job, batch_size: int
) -> KeptTargets:
    parameters = job.plan.parameters
    targets = compute_targets(
        model, requests, job.plan.templates, parameters, batch_size
    )
    hidden = read_hidden(model, requests, parameters.layers[-1])
    # They were read in the model's precision, so that nothing is lost in it.
    return KeptTargets(targets.detach().cpu(), hidden.detach().cpu().to(model.dtype))
