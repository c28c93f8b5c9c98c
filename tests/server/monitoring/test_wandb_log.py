"""W&B has the numbers of each round, and stays offline."""

import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from editing.base.errors import InputError
from server.monitoring.events import Event, RunEnded
from server.monitoring.wandb_log import WandbLog
from tests.server.events import ended, merging

BLOCK = 1 << 15
HEAD = 7
"""Bytes of LevelDB's log format, in which W&B writes its files."""


def texts_of(data: bytes) -> Iterator[bytes]:
    """Join the pieces of each record: after a head, checksum, length, kind, text."""
    position, text = HEAD, b""
    while position + HEAD <= len(data):
        if BLOCK - position % BLOCK < HEAD:
            position += BLOCK - position % BLOCK
        _, size, kind = struct.unpack("<IHB", data[position : position + HEAD])
        if position + HEAD + size > len(data):
            return  # it is being written
        text += data[position + HEAD : position + HEAD + size]
        position += HEAD + size
        if kind in {1, 4}:  # whole, or the last piece
            yield text
            text = b""


def wait_for_records(file: Path) -> list[Any]:
    """Read a file to its last record, the exit, which W&B's process writes last."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(200):
        found = [Record.FromString(raw) for raw in texts_of(file.read_bytes())]
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError("the file has no end")


@pytest.mark.process  # W&B's own, which writes the file
def test_rounds_are_written_to_a_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back record by record; nothing tells of the machine."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log = WandbLog(tmp_path, "run_000")
    events: list[Event] = [
        merging("ties", 1),
        ended(2, (7, "late"), score=3.0),
        RunEnded(folder="/results"),
    ]
    for event in events:
        log(event)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    values = {}
    for record in wait_for_records(file):
        assert record.run.host in {"", "collabedit"}
        if record.run.run_group:
            values["group"] = record.run.run_group
            values["name"] = record.run.display_name
        for item in record.history.item:
            values[item.key or "/".join(item.nested_key)] = item.value_json
    assert values["group"] == "run_000"
    assert values["name"] == "ties"
    assert float(values["score"]) == 3
    assert float(values["refusals"]) == 1
    assert float(values["groups/rewrite_acc.known"]) == 25
    assert int(values["_step"]) == 2


def test_without_the_package_the_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done, with what to install."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="pip install wandb"):
        WandbLog(tmp_path / "wb", "run_000")
    assert list(tmp_path.iterdir()) == []
