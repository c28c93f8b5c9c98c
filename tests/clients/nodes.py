"""What tests of a node send to it, and what it leaves with its party."""

import json
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Message, RecordDict

from clients.app import app
from editing.requests.edit_request import to_counterfact
from strategies.wire.arrays import digest_arrays
from strategies.wire.messages import Phase, write_job
from tests.federation import TEXT, Federation, world_requests, write_json

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


HANDS = [world_requests()[party::3] for party in range(3)]
"""Four requests for each of three parties."""


def own_files(folder: Path) -> dict[int, dict[str, str]]:
    """Give each party requests and texts of its own, and all of them one key."""
    (key := folder / "group.key").write_text("5a" * 32)
    found = {}
    for party, hand in enumerate(HANDS):
        file, text = folder / f"requests_{party}.json", folder / f"text_{party}.txt"
        write_json(file, [to_counterfact(request) for request in hand])
        text.write_text("\n".join(TEXT[party::3]))
        paths = {"requests-path": file, "text-path": text, "key-path": key}
        found[party] = {name: str(path) for name, path in paths.items()}
    return found
