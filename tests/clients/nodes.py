"""What tests of a node send to it, and what it leaves with its party."""

import json
from typing import Any

from flwr.app import ArrayRecord, Message, RecordDict

from clients.app import app
from strategies.arrays import digest_arrays
from strategies.messages import Phase, write_job
from tests.federation import Federation

UNEDITED = digest_arrays(ArrayRecord())
"""What a job says of a model without updates."""


def ask(
    federation: Federation, phase: Phase, content: RecordDict | None = None
) -> Message:
    """Send the second party a message."""
    node = federation.node(1)
    message = Message(
        content or RecordDict(), dst_node_id=node, message_type=phase.value
    )
    return app(message, federation.contexts[node])


def job_of(federation: Federation, **changes: object) -> RecordDict:
    """Write the job of the first round."""
    job = federation.preparation.job(federation.config, "run", pooled=False)
    first = {"round": 1, "layers": (1,), "before": UNEDITED}
    return write_job(job.model_copy(update={**first, **changes}), ArrayRecord())


def cases_of(federation: Federation, label: str = "collabedit") -> list[dict[str, Any]]:
    """Read all cases of a part of the run, in the order of their files."""
    files = sorted(federation.private.glob(f"*/cases/{label}/*/*.jsonl"))
    return [
        json.loads(line) for file in files for line in file.read_text().splitlines()
    ]
