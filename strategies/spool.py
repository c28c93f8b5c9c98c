"""Replies that wait for their turn, on disk: memory shall not grow with parties."""

import tempfile
from pathlib import Path
from types import TracebackType

from flwr.app import Array, ArrayRecord, Message

IN_MEMORY_BYTES = 1_000_000
"""Arrays that are not larger stay in memory."""


class Spool:
    """Holds replies by node; their large arrays lie in a folder of the system's own.

    The folder is readable by its owner alone, and goes with the block.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._replies: dict[int, Message] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._written = 0

    def __enter__(self) -> "Spool":
        """Lend the spool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what is still there."""
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, node: int, reply: Message, *, at_once: bool) -> None:
        """Keep a reply, in memory if it is taken out at once."""
        if not at_once and not reply.has_error():
            for record in reply.content.array_records.values():
                for name, array in record.items():
                    if len(array.data) > IN_MEMORY_BYTES:
                        record[name] = self._write(array)
        self._replies[node] = reply

    def take(self, node: int) -> Message:
        """Give a reply back as it came."""
        reply = self._replies.pop(node)
        if not reply.has_error():
            for record in reply.content.array_records.values():
                read_back(record)
        return reply

    def __contains__(self, node: int) -> bool:
        """Whether a node's reply is here."""
        return node in self._replies

    def _write(self, array: Array) -> Array:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="collabedit-replies-")
        self._written += 1
        file = Path(self._folder.name) / str(self._written)
        file.write_bytes(array.data)
        return _Elsewhere(array, file)


class _Elsewhere(Array):
    """An array whose bytes lie in a file."""

    def __init__(self, array: Array, file: Path) -> None:
        super().__init__(
            dtype=array.dtype, shape=array.shape, stype=array.stype, data=b""
        )
        self.file = file


def read_back(record: ArrayRecord) -> None:
    """Put the bytes of a record's arrays back from the disk."""
    for name, array in record.items():
        if isinstance(array, _Elsewhere):
            record[name] = Array(
                dtype=array.dtype,
                shape=array.shape,
                stype=array.stype,
                data=array.file.read_bytes(),
            )
            Path(array.file).unlink()
