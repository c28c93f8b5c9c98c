"""Replies come back from the spool as they went in."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from sims.in_process import InProcessGrid
from strategies.messages import Phase
from strategies.spool import IN_MEMORY_BYTES, Spool


def reply_of(*arrays: Array) -> Message:
    """Write a reply with some arrays."""
    InProcessGrid({}, lambda message, _: message)  # a message needs a run to belong to
    asked = Message(RecordDict(), dst_node_id=5, message_type=Phase.TARGETS.value)
    record = ArrayRecord({str(i): each for i, each in enumerate(arrays)})
    return Message(RecordDict({"statistics": record}), reply_to=asked)


@pytest.mark.parametrize("at_once", [True, False])
def test_replies_come_back_as_they_were(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large arrays lie on disk in between, readable by their owner alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = Array(np.arange(IN_MEMORY_BYTES // 4, dtype=np.float64))
    small = Array(np.ones(3, np.float32))
    with Spool() as spool:
        spool.put(5, reply_of(large, small), at_once=at_once)
        folders = list(tmp_path.iterdir())
        assert len(folders) == (0 if at_once else 1)
        assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
        written = sum(file.stat().st_size for file in tmp_path.rglob("*/*"))
        assert written == (0 if at_once else len(large.data))
        assert 5 in spool
        record = spool.take(5).content.array_records["statistics"]
        assert [each.data for each in record.values()] == [large.data, small.data]
        assert [each.shape for each in record.values()] == [large.shape, small.shape]
        assert not list(tmp_path.rglob("*/*"))
    assert not list(tmp_path.iterdir())


def test_an_error_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no content at all, and what nobody takes is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spool() as spool:
        error = Message(Error(8, "gone"), reply_to=reply_of())
        spool.put(7, error, at_once=False)
        assert spool.take(7) is error
        spool.put(5, reply_of(Array(np.ones(IN_MEMORY_BYTES))), at_once=False)
    assert not list(tmp_path.iterdir())
