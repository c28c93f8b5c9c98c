"""Sources of request records: files, saved datasets, and data sets of the hub.

Records come one by one, each with its place, and nothing after the last one that is
asked for is read: lines of JSON Lines, elements of a JSON list, row groups of Parquet,
rows of a folder that ``datasets`` saved, and streamed rows of the hub.
"""

import glob
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from editing.base.errors import MissingSourceError, RequestError
from editing.requests.json_stream import JsonList, decode_json, decode_utf8
from editing.sources.embedded import HUB

Placed = tuple[str, object]

LINE_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")


def read_records(source: Path | str) -> Iterator[Placed]:
    """Read the records of a source, each after its place, as messages name it.

    The source is ``hub:NAME[:PART][@SPLIT]``, a folder of ``datasets.save_to_disk``,
    or a file: JSON Lines by the ending ``.jsonl`` or ``.ndjson``, Parquet by
    ``.parquet`` or ``.pq``, and otherwise a JSON list. What cannot be read is a
    `RequestError` that names the source, and the line or record.
    """
    if str(source).startswith(HUB):
        return _read_hub(str(source))
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    columns = path.suffix.lower() in PARQUET_SUFFIXES
    return _read_parquet(path) if columns else _read_json(path)


def saved_dataset(folder: Path) -> bool:
    """Whether ``datasets.save_to_disk`` wrote this folder."""
    return any(
        (folder / name).is_file() for name in ("state.json", "dataset_dict.json")
    )


def hub_revision(source: str) -> str | None:
    """Return the hub's commit of a ``hub:`` source; None if it is unknown.

    For a folder that replaces the hub, return a digest of its files' state.
    """
    import datasets  # type: ignore[import-untyped]

    named, _ = _read_name(source)
    try:
        builder = datasets.load_dataset_builder(**named)
    except _failures():
        return None
    return None if builder.hash is None else str(builder.hash)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise MissingSourceError(
            f"{path}: cannot be read ({error.strerror}). Name a file of requests that "
            "is there and may be read."
        ) from None


def _read_lines(stream: BufferedIOBase, name: str) -> Iterator[Placed]:
    # Lines end at \n alone: other line separators may occur inside a JSON text.
    for number, line in enumerate(stream, start=1):
        place = f"{name}:{number}"
        text = decode_utf8(line, place, first=number == 1)
        if text.strip():
            yield place, decode_json(text, place)


def _read_json(path: Path) -> Iterator[Placed]:
    with _opened(path) as stream:
        lines = path.suffix.lower() in LINE_SUFFIXES
        yield from (_read_lines if lines else JsonList)(stream, str(path))


def _read_parquet(path: Path) -> Iterator[Placed]:
    if not path.is_file():
        with _opened(path):  # says why not
            return
    import datasets

    # Read through `datasets`, whose patterns of names give brackets a meaning.
    name = glob.escape(str(path.resolve()))
    with _named_after(str(path)):
        rows = datasets.load_dataset(
            "parquet", data_files=name, split="train", streaming=True
        )
    yield from _number(rows, str(path))


def _read_folder(path: Path) -> Iterator[Placed]:
    if not saved_dataset(path):
        raise RequestError(
            f"{path}: cannot be read: it is a folder, and `datasets.save_to_disk` did "
            "not write it. Name one of its files; for a folder laid out as on the "
            f"hub, write `{HUB}{path}`."
        )
    import datasets

    with _named_after(str(path)):
        loaded = datasets.load_from_disk(str(path))
        split = isinstance(loaded, Mapping)
        rows = _choose(loaded, None) if split else loaded
    yield from _number(rows, str(path))


def _read_hub(source: str) -> Iterator[Placed]:
    import datasets

    named, split = _read_name(source)
    with _named_after(source):
        builder = datasets.load_dataset_builder(**named)
        # `datasets` would guess columns for JSON, and write what differs as text.
        json_files = builder.name == "json"
        splits = builder.config.data_files if json_files else None
        chosen = _choose(splits or builder.as_streaming_dataset(), split)
    if not json_files:
        yield from _number(chosen, source)
        return
    for file in chosen:
        yield from _read_remote(str(file), source, named="data_files" in named)


def _read_remote(file: str, source: str, *, named: bool) -> Iterator[Placed]:
    from datasets.utils.file_utils import (  # type: ignore[import-untyped]
        xopen,
    )

    name = source if named else f"{source}: {file.rpartition('/')[2]}"
    with _named_after(source), xopen(file, "rb") as stream:
        start = stream.read(16).removeprefix(b"\xef\xbb\xbf").lstrip()
        stream.seek(0)
        yield from (JsonList if start[:1] in b"[" else _read_lines)(stream, name)


_HUB_NAME = re.compile(
    r"hub:(?P<name>[^:@\s]+)(?::(?P<part>[^@]+))?(?:@(?P<split>.+))?"
)


def _read_name(source: str) -> tuple[dict[str, str], str | None]:
    """Take ``hub:NAME[:PART][@SPLIT]`` apart.

    A part with a file's ending is one of the data set's files, any other one of its
    configurations.

    Raises:
        RequestError: If there is no name, or nothing after a separator.
    """
    found = _HUB_NAME.fullmatch(source)
    if found is None:
        raise RequestError(
            f"{source}: wanted `{HUB}NAME[:PART][@SPLIT]`, such as "
            f"`{HUB}azhx/counterfact@test`; a part is a configuration or a file."
        )
    part = found["part"]
    named = {"path": found["name"]}
    if part:
        is_file = part.lower().endswith((".json", *LINE_SUFFIXES, *PARQUET_SUFFIXES))
        named["data_files" if is_file else "name"] = part
    return named, found["split"]


def _choose(
    splits: Mapping[object, Iterable[object]], wanted: str | None
) -> Iterable[object]:
    """Take the split that is wanted, or the only one.

    Raises:
        ValueError: If there is no such split, or there are several.
    """
    named = {str(name): rows for name, rows in splits.items()}
    if wanted is None and len(named) == 1:
        return next(iter(named.values()))
    if wanted not in named:
        raise ValueError(
            f"it has the splits {', '.join(named)}; name one, as @SPLIT after a hub "
            "name, or as the split's own folder"
        )
    return named[wanted]


def _number(rows: Iterable[object], source: str) -> Iterator[Placed]:
    """Number the rows of a data set; a failure is named after the last good row."""
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            yield f"{source}: record {number}", row
    except _failures() as error:
        raise _refusal(
            f"{source}: cannot be read after record {number}", error
        ) from None


@contextmanager
def _named_after(source: str) -> Iterator[None]:
    try:
        yield
    except RequestError:
        raise
    except _failures() as error:
        raise _refusal(f"{source}: cannot be read", error) from None


def _failures() -> tuple[type[Exception], ...]:
    from datasets.exceptions import (  # type: ignore[import-untyped]
        DatasetsError,
    )

    # What Arrow and the hub raise is a kind of these.
    return (DatasetsError, OSError, ValueError, KeyError, NotImplementedError)


def _refusal(what: str, error: Exception) -> RequestError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return RequestError(f"{what} ({reason}).")
