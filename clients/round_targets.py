"""Targets of a round's requests, and which requests the model already knows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, groupby
from operator import itemgetter

from clients.selection import Asked, Group, asked_in, group_by_party
from clients.settings import ClientConfig
from clients.storage import Distances
from clients.target_cache import NO_TARGETS, TargetCache, name_targets
from editing.base.errors import InputError
from editing.hyperparameters.config import BATCH_SIZE
from editing.memit.targets import Targets, compute_targets, concatenate_targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from strategies.wire.messages import Job, TargetsReply

MOST_TOGETHER = 64
"""About so many requests of several parties are computed together, at most.

More are hardly faster, and fewer batches would leave a simulation's workers idle.
"""


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
    """A party's requests of a round with their targets.

    Attributes:
        group: The requests.
        targets: Those of the round's first exchange, which say what the model knows.
        later: Those of a later exchange that has targets of its own.
    """

    group: Group
    targets: Targets
    later: Targets | None = None

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


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups whose targets are computed together, in the order of their parties."""

    groups: tuple[Group, ...]

    @property
    def requests(self) -> list[EditRequest]:
        """All phrasings of all requests, party after party."""
        return [request for each in self.groups for request in each.requests]

    @property
    def parties(self) -> range:
        """From the first party to the last; those between may have no request."""
        return range(self.groups[0].party, self.groups[-1].party + 1)

    @property
    def is_shared(self) -> bool:
        """Whether it is of several parties."""
        return len(self.groups) > 1

    def rows_of(self, group: Group) -> slice:
        """Return where a group's requests are."""
        sizes = [len(each.requests) for each in self.groups]
        start = sum(sizes[: self.groups.index(group)])
        return slice(start, start + len(group.requests))


@dataclass(frozen=True, slots=True)
class Batching:
    """Which requests of a round are computed together.

    Attributes:
        size: So many requests of one party at most.
        batches: Those of several parties.
    """

    size: int = BATCH_SIZE
    batches: tuple[Batch, ...] = ()

    def batch_of(self, group: Group) -> Batch:
        """Return the batch of a group; one that is in none of them is by itself."""
        near = (each for each in self.batches if group.party in each.parties)
        found = next(near, None)
        return found if found and group in found.groups else Batch((group,))


def batching_of_round(config: ClientConfig, number: int) -> Batching:
    """Put simulated parties together, which share one source of requests.

    A party with requests of its own computes alone, and so does each party if requests
    are compared: what another one then edits is not known to it.

    Args:
        config: A party's settings; the batches are the same for all parties.
        number: The round.
    """
    if config.own_requests is not None or config.parties.compares_tokens:
        return Batching(config.batch_size)
    anyone = config.model_copy(update={"party": 0, "name": ""})
    return _batching_of_round(anyone, number, anyone.parties.model_dump_json())


@lru_cache(maxsize=2)
def _batching_of_round(
    config: ClientConfig,
    number: int,
    _: str,  # tells an overlap of one request, 1, from one of all, 1.0, which are equal
) -> Batching:
    asked = asked_in(config, number, pooled=True)
    groups = group_by_party(asked, config.requests)
    size = min(config.batch_size, MOST_TOGETHER)
    return Batching(config.batch_size, cut_batches(groups, size))


def cut_batches(groups: Sequence[Group], size: int) -> tuple[Batch, ...]:
    """Cut groups into equal batches of about `size` requests; no group is cut.

    ``n`` requests are cut into ``max(⌈n / size⌉, 2)`` parts of equal length, and a
    group is in the part that its middle is in. Two, because Flower simulates two nodes
    at a time by default.
    """
    sizes = [len(each.requests) for each in groups]
    total, ends = sum(sizes), accumulate(sizes)
    parts = max(-(-total // size), 2)
    places = [
        (2 * end - own) * parts // (2 * total)
        for end, own in zip(ends, sizes, strict=True)
    ]
    pairs = groupby(zip(places, groups, strict=True), key=itemgetter(0))
    return tuple(Batch(tuple(group for _, group in part)) for _, part in pairs)


def find_targets(
    model: EditableModel,
    groups: Sequence[Group],
    job: Job,
    cache: TargetCache,
    batching: Batching | None = None,
) -> list[RoundTargets]:
    """Take targets from the cache and compute the others.

    Args:
        model: The model with the updates of earlier rounds.
        groups: The round's new requests.
        job: The run's plan.
        cache: Where targets are kept.
        batching: Which of them are computed together.
    """
    search = _Search(model, first_of(job), cache, batching or Batching())
    return [RoundTargets(each, search.find(each)) for each in groups]


def kept_targets(
    model: EditableModel,
    groups: Sequence[Group],
    job: Job,
    cache: TargetCache,
    batching: Batching | None = None,
) -> list[RoundTargets]:
    """Take targets from the cache; see `find_targets` for arguments.

    Raises:
        LookupError: If they are not all there.
    """
    search = _Search(model, first_of(job), cache, batching or Batching())
    found = []
    for group in groups:
        targets = search.look_up(group)
        if targets is None:
            raise LookupError(
                f"{len(group.asked)} targets of round {job.round} are not in "
                f"{cache.path}. Was the folder emptied during the run?"
            )
        found.append(RoundTargets(group, targets))
    return found


def find_later(
    model: EditableModel,
    found: Sequence[RoundTargets],
    job: Job,
    cache: TargetCache,
    batching: Batching,
) -> list[RoundTargets]:
    """Add the targets that an exchange has of its own, on the model as it is.

    Args:
        model: The model with the updates of the round so far.
        found: The targets of the round's first exchange.
        job: Says which layers; `before` names the updates that the model carries.
        cache: Where targets are kept.
        batching: Which of them are computed together.
    """
    own = job.model_copy(update={"plan": job.plan.at(job.layers)})
    search = _Search(model, own, cache, batching)
    return [replace(each, later=search.find(each.group)) for each in found]


def first_of(job: Job) -> Job:
    """Return the job with the plan of its round's first exchange."""
    return job.model_copy(update={"plan": job.plan.at(job.plan.exchanges[0])})


@dataclass(frozen=True, slots=True)
class _Search:
    """What targets of a round depend on, and where they are kept."""

    model: EditableModel
    job: Job
    cache: TargetCache
    batching: Batching

    def find(self, group: Group) -> Targets:
        """Take a group's targets from the cache, or compute and keep them."""
        batch = self.batching.batch_of(group)
        if batch.is_shared:
            self._complete(batch)
        found = self.look_up(group)
        targets = self._compute(group.requests) if found is None else found
        if found is None or not batch.is_shared:
            # Also if it was found: the run's own folder may not have it yet.
            self.cache.keep(self._name(group.requests), targets)
        return targets

    def look_up(self, group: Group) -> Targets | None:
        """Take a group's targets from the cache; None if they are not there."""
        batch = self.batching.batch_of(group)
        found = self.cache.find(self._name(batch.requests))
        if found is not None and len(found) == 0:
            return self.cache.find(self._name(group.requests))
        return None if found is None else found.map(itemgetter(batch.rows_of(group)))

    def _complete(self, batch: Batch) -> None:
        """See that a batch is computed and kept.

        While another process is at it, another batch is computed, if one is left.
        """
        name, order = self._name(batch.requests), (batch, *self.batching.batches)
        shared = [each for each in order if each.is_shared]
        while (found := self.cache.find(name)) is None:
            done = next((each for each in shared if self._claim(each)), None)
            if done is batch:
                return
            if done is None:
                self.cache.wait_for(name)
        if len(found):
            self.cache.keep(name, found)  # the run's own folder may not have it yet

    def _claim(self, batch: Batch) -> bool:
        """Compute and keep a batch, unless that is done or another process is at it."""
        name = self._name(batch.requests)
        with self.cache.claimed(name) as free:
            if not free or self.cache.find(name) is not None:
                return False
            try:
                self.cache.keep(name, self._compute(batch.requests))
            except (InputError, MemoryError):
                # The fault is one party's: each computes its own, and that one reports.
                self.cache.unshared.keep(name, NO_TARGETS)
        return True

    def _name(self, requests: Sequence[EditRequest]) -> str:
        return name_targets(requests, self.job, self.model, self.batching.size)

    def _compute(self, requests: Sequence[EditRequest]) -> Targets:
        plan = self.job.plan
        targets = compute_targets(
            self.model, requests, plan.templates, plan.parameters, self.batching.size
        )
        return targets.map(lambda each: each.detach().cpu())


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
        own = each.targets if each.later is None else each.later
        targets.append(own.map(itemgetter(rows)))
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
