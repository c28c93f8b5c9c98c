"""Replies in memory and on disk: memory shall not grow with the number of parties."""

import os
import tempfile
from collections import Counter
from types import TracebackType
from typing import IO

from flwr.app import Array, ArrayRecord, Message

IN_MEMORY_BYTES = 16_000
"""Arrays that are not larger stay in memory: a thousand parties have many of them."""

GROUP_BYTES = 32_000_000
"""Bytes of replies that one call may bring into memory, as far as can be known."""

GROWTH = 4
"""A group is at most so many times as many as the replies seen before it."""


class GroupSize:
    """The number of replies to ask for at once, from the sizes of those that came.

    Flower says nothing of a reply before it is pulled, and hands over all that are
    there. So the first reply is pulled alone, a group has room for the largest reply so
    far in each place, and it grows no faster than what is known: parties without a
    request come with small replies, and those after them need not be as small.
    """

    def __init__(self) -> None:
        """Begin without any reply."""
        self._largest, self._seen = 1, 0

    @property
    def most(self) -> int:
        """How many to ask for."""
        known = max(1, GROWTH * self._seen)
        return max(1, min(GROUP_BYTES // self._largest, known))

    def note(self, size: int) -> None:
        """Take note of a reply of that many bytes."""
        self._largest, self._seen = max(self._largest, size), self._seen + 1


class Spool:
    """Holds replies by node; their large arrays are in a temporary file.

    The file has no name: no other process can open it, and the system frees it when
    this process ends, however it ends. Its space is reused once it holds no array.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._replies: dict[int, Message] = {}
        self._file: IO[bytes] | None = None
        self._waiting: Counter[int] = Counter()

    def __enter__(self) -> "Spool":
        """Return the spool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what is still there."""
        if self._file is not None:
            self._file.close()

    def put(self, node: int, reply: Message, *, at_once: bool) -> None:
        """Keep a reply, in memory if it is taken out at once."""
        if not at_once and not reply.has_error():
            for record in reply.content.array_records.values():
                for name, array in record.items():
                    if len(array.data) > IN_MEMORY_BYTES:
                        record[name] = self._write(array)
                        self._waiting[node] += 1
        self._replies[node] = reply

    def take(self, node: int) -> Message:
        """Return a reply as it was received."""
        reply = self._replies.pop(node)
        if self._file is None or not self._waiting.pop(node, 0):
            return reply
        for record in reply.content.array_records.values():
            read_back(record, self._file)
        if not self._waiting:
            self._file.truncate(0)
        return reply

    def __contains__(self, node: int) -> bool:
        """Whether a node's reply is here."""
        return node in self._replies

    def _write(self, array: Array) -> Array:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - goes with the block
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(array.data)
        return _Elsewhere(array, place)


class _Elsewhere(Array):
    """An array whose bytes are in a file, from an offset on."""

    def __init__(self, array: Array, place: int) -> None:
        super().__init__(
            dtype=array.dtype, shape=array.shape, stype=array.stype, data=b""
        )
        self.place, self.size = place, len(array.data)


def read_back(record: ArrayRecord, file: IO[bytes]) -> None:
    """Put the bytes of a record's arrays back from the disk."""
    for name, array in record.items():
        if isinstance(array, _Elsewhere):
            file.seek(array.place)
            record[name] = Array(
                dtype=array.dtype,
                shape=array.shape,
                stype=array.stype,
                data=file.read(array.size),
            )
