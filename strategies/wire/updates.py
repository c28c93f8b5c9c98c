"""Which updates a message carries, and which its node holds already.

The model of a job has updates, each identified by the digest of its values. A node
keeps the updates it has received until the run ends, so a message carries only those
that are new to the node. A node that has lost them reports it and receives all; the
digests show whether node and server have the same updates.
"""

from collections.abc import Collection

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from strategies.wire.arrays import digests_of

CARRIED, DELTA = "carried", "delta"


def write_updates(delta: ArrayRecord) -> RecordDict:
    """Pack all updates that the model shall carry, by parameter name."""
    return RecordDict(
        {CARRIED: ConfigRecord({**digests_of(delta)}), DELTA: delta},
    )


def read_carried(content: RecordDict) -> dict[str, str]:
    """The digest of each update that the model shall carry, by parameter name."""
    return {name: str(each) for name, each in content.config_records[CARRIED].items()}


def without_held(content: RecordDict, held: Collection[str]) -> RecordDict:
    """Leave out the updates whose digests a node holds."""
    carried = read_carried(content)
    delta = {
        name: array
        for name, array in content.array_records[DELTA].items()
        if carried[name] not in held
    }
    return RecordDict({**content, DELTA: ArrayRecord(delta)})
