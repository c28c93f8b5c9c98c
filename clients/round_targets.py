"""Targets of a round's requests, and which requests the model already knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from clients.selection import Asked, Group
from clients.storage import Distances
from clients.target_cache import TargetCache, name_targets
from editing.hyperparameters.config import BATCH_SIZE
from editing.memit.targets import Targets, compute_targets, concatenate_targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from strategies.wire.messages import Job, TargetsReply


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance of a target from the hidden state before the round's edit.

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
    targets: Targets

    @property
    def distances(self) -> list[tuple[Asked, Distance]]:
        """Return the distance of each request; its further phrasings have none."""
        norms = self.targets.shift.double().norm(dim=1)
        ratios = norms / self.targets.hidden.double().norm(dim=1)
        return [
            (asked, Distance(float(norms[rows[0]]), float(ratios[rows[0]])))
            for asked, rows in zip(self.group.asked, self.group.rows, strict=True)
        ]

    def unknown(self, skip_known: float | None) -> list[int]:
        """Return the places in the group of requests that the model does not know yet.

        A request is known if its ratio is at most `skip_known`; without it, none is.
        """
        ratios = [distance.ratio for _, distance in self.distances]
        if skip_known is None:
            return list(range(len(ratios)))
        return [i for i, each in enumerate(ratios) if not each <= skip_known]


def find_targets(
    model: EditableModel,
    groups: Sequence[Group],
    job: Job,
    cache: TargetCache,
    batch_size: int = BATCH_SIZE,
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
        targets = cache.find(name)
        if targets is None:
            targets = _compute(model, group.requests, job, batch_size)
        # Also if it was found: the run's own folder may not have it yet.
        cache.keep(name, targets)
        found.append(RoundTargets(group, targets))
    return found


def kept_targets(
    model: EditableModel,
    groups: Sequence[Group],
    job: Job,
    cache: TargetCache,
    batch_size: int = BATCH_SIZE,
) -> list[RoundTargets]:
    """Take targets from the cache; see `find_targets` for arguments.

    Raises:
        LookupError: If they are not all there.
    """
    found = []
    for group in groups:
        targets = cache.find(name_targets(group.requests, job, model, batch_size))
        if targets is None:
            raise LookupError(
                f"{len(group.asked)} targets of round {job.round} are not in "
                f"{cache.path}. Was the folder emptied during the run?"
            )
        found.append(RoundTargets(group, targets))
    return found


def choose_edits(
    found: Sequence[RoundTargets], skip_known: float | None
) -> tuple[list[EditRequest], Targets]:
    """Return all phrasings that are edited in the round, and their targets.

    Which requests are left out depends on the state before the round, so that the
    statistics of all layers are of the same requests.

    Raises:
        LookupError: If there are none.
    """
    requests: list[EditRequest] = []
    targets: list[Targets] = []
    for each in found:
        all_rows, all_requests = each.group.rows, each.group.requests
        rows = [row for i in each.unknown(skip_known) for row in all_rows[i]]
        requests += [all_requests[row] for row in rows]
        targets.append(each.targets.map(itemgetter(rows)))
    if not requests:
        raise LookupError("Statistics were asked for, and no request is left to edit.")
    return requests, concatenate_targets(targets)


def summarise_targets(
    found: Sequence[RoundTargets], left_out: int, skip_known: float | None
) -> TargetsReply:
    """Count edited and left-out requests, and sum the distances of the targets."""
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
    """Return the distance of each request's target, by party and place."""
    return {
        (asked.party, asked.place): (distance.norm, distance.ratio)
        for each in found
        for asked, distance in each.distances
    }


def _compute(
    model: EditableModel, requests: Sequence[EditRequest], job: Job, batch_size: int
) -> Targets:
    targets = compute_targets(
        model, requests, job.plan.templates, job.plan.parameters, batch_size
    )
    return targets.map(lambda each: each.detach().cpu())
