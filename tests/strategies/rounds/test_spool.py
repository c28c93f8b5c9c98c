"""Replies come back from the spool as they went in."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from sims.runs.in_process import InProcessGrid
from strategies.rounds.spool import IN_MEMORY_BYTES, Spool
from strategies.wire.messages import Phase
from tests.trees import ROOT


def reply_of(*arrays: Array) -> Message:
    """Write a reply with some arrays."""
    InProcessGrid({}, lambda message, _: message)  # a message needs a run to belong to
    asked = Message(RecordDict(), dst_node_id=5, message_type=Phase.TARGETS.value)
    record = ArrayRecord({str(i): each for i, each in enumerate(arrays)})
    return Message(RecordDict({"statistics": record}), reply_to=asked)


LARGE = Array(np.arange(IN_MEMORY_BYTES // 4, dtype=np.float64))
SMALL = Array(np.ones(3, np.float32))


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[IO[bytes]]:
    """Note which files without a name are opened."""
    opened: list[IO[bytes]] = []
    honest = tempfile.TemporaryFile

    def note() -> IO[bytes]:
        opened.append(honest())
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", note)
    return opened


@pytest.mark.parametrize("at_once", [True, False])
def test_replies_come_back_as_they_were(
    at_once: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: list[IO[bytes]],
) -> None:
    """Large arrays lie on disk in between, under no name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spool() as spool:
        reply = reply_of(LARGE, SMALL)
        spool.put(5, reply, at_once=at_once)
        assert [os.fstat(file.fileno()).st_nlink for file in files] == [0] * len(files)
        sizes = [file.seek(0, os.SEEK_END) for file in files]
        assert sizes == ([] if at_once else [len(LARGE.data)])
        held = reply.content.array_records["statistics"]["0"].data
        assert len(held) == (len(LARGE.data) if at_once else 0)
        assert list(tmp_path.iterdir()) == []
        assert 5 in spool
        record = spool.take(5).content.array_records["statistics"]
        assert [each.data for each in record.values()] == [LARGE.data, SMALL.data]
        assert [each.shape for each in record.values()] == [LARGE.shape, SMALL.shape]
        assert type(record["0"]) is Array
    assert all(file.closed for file in files)


def test_many_replies_share_one_file_whose_room_is_used_again(
    files: list[IO[bytes]],
) -> None:
    """A process may open about a thousand files, and have as many parties."""
    drawn = np.random.default_rng(0)
    with Spool() as spool:
        for _ in range(2):
            sent = {
                node: [Array(drawn.normal(size=IN_MEMORY_BYTES // 8 + 1 + node)), SMALL]
                for node in range(4)
            }
            for node, arrays in sent.items():
                spool.put(node, reply_of(*arrays), at_once=False)
            spool.put(9, reply_of(SMALL), at_once=False)
            for node in (2, 0, 3, 1):
                assert files[0].seek(0, os.SEEK_END) > 0
                record = spool.take(node).content.array_records["statistics"]
                expected = [each.data for each in sent[node]]
                assert [each.data for each in record.values()] == expected
            assert files[0].seek(0, os.SEEK_END) == 0
    assert len(files) == 1


KILLED = """
import os, signal
from strategies.rounds.spool import Spool
from tests.strategies.rounds.test_spool import LARGE, reply_of

with Spool() as spool:
    spool.put(5, reply_of(LARGE), at_once=False)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_nothing_of_what_waited(tmp_path: Path) -> None:
    """Statistics of parties least of all."""
    died = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_error_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no content at all, and what nobody takes is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spool() as spool:
        error = Message(Error(8, "gone"), reply_to=reply_of())
        spool.put(7, error, at_once=False)
        assert spool.take(7) is error
        spool.put(5, reply_of(Array(np.ones(IN_MEMORY_BYTES))), at_once=False)
    assert not list(tmp_path.iterdir())
