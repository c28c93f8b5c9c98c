"""Validation that the requests of a round do not change between its exchanges.

A party's own file may be written during a round. Its targets would then be of other
requests than its statistics or its cases, so a digest of them is kept from the round's
first exchange on, next to the targets. It never leaves the node.
"""

import hashlib
import json
from collections.abc import Sequence

from clients.own_requests import ChangedRequestsError
from clients.selection import Asked
from clients.settings import ClientConfig
from clients.storage import PrivateFolder
from strategies.wire.messages import Job, Phase


def validate_unchanged(
    folder: PrivateFolder,
    config: ClientConfig,
    job: Job,
    asked: Sequence[Asked],
    phase: str,
) -> None:
    """Keep a digest of a round's requests, or validate them against the kept one.

    A round may be run again with a corrected file, so its first exchange keeps a new
    digest: that of tokens if they are compared, otherwise that of moments if the editor
    has such an exchange, and of targets if not.

    Args:
        folder: The run's private folder.
        config: Names the file.
        job: Says which round.
        asked: All requests of the round.
        phase: What the message asks for.

    Raises:
        ChangedRequestsError: If they are not those that the round began with.
    """
    found = digest_requests(asked)
    begun = Phase.ANSWERS if job.pools_moments else Phase.TARGETS
    first = Phase.TOKENS if config.parties.compares_tokens else begun
    kept = folder.find_digest(job, config.party)
    if phase == first.value or (kept is None and phase == begun.value):
        folder.keep_digest(job, config.party, found)
    elif kept not in {None, found}:
        source = config.own_requests or config.requests.source
        raise ChangedRequestsError(
            f"{source}: was changed while round {job.round} was running, so its "
            f"{len(asked)} request(s) of the round are not those that the round began "
            "with. This round continues without them. Do not change the file during a "
            "round; the next round reads it again."
        )


def digest_requests(asked: Sequence[Asked]) -> str:
    """Return the SHA-256 of all fields of requests, in their order."""
    fields = [
        [each.party, each.place, each.request.model_dump(mode="json")] for each in asked
    ]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()
