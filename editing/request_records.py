"""Where records of requests lie: files, saved datasets, and data sets of the hub.

Records come one by one, each with its place, and nothing behind the last one that is
asked for is read: lines of JSON Lines, elements of a JSON list, row groups of Parquet,
rows of a folder that ``datasets`` saved, and streamed rows of the hub.
"""

import glob
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import NoReturn

from editing.embedded import HUB
from editing.errors import RequestError
from editing.json_list import JsonList, decode_json, decode_utf8

Placed = tuple[str, object]

LINES = (".jsonl", ".ndjson")
COLUMNS = (".parquet", ".pq")


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
    if path.suffix.lower() in LINES:
        return _read_lines(path)
    return _read_parquet(path) if path.suffix.lower() in COLUMNS else _read_list(path)


def saved_dataset(folder: Path) -> bool:
    """Whether ``datasets.save_to_disk`` wrote this folder."""
    return any(
        (folder / name).is_file() for name in ("state.json", "dataset_dict.json")
    )


def hub_revision(source: str) -> str | None:
    """The hub's commit that a ``hub:`` source stands for; None if nobody can say.

    Of a folder that stands in for the hub, a digest of its files' state.
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
        raise RequestError(f"{path}: cannot be read ({error.strerror}).") from None


def _read_lines(path: Path) -> Iterator[Placed]:
    # Lines end at \n alone: other signs that end a line may stand inside a JSON text.
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            place = f"{path}:{number}"
            text = decode_utf8(line, place, first=number == 1)
            if text.strip():
                yield place, decode_json(text, place)


def _read_list(path: Path) -> Iterator[Placed]:
    with _opened(path) as stream:
        yield from JsonList(stream, str(path))


def _read_parquet(path: Path) -> Iterator[Placed]:
    import datasets

    if not path.is_file():
        with _opened(path):  # says why not
            return
    # Read through `datasets`, whose patterns of names give brackets a meaning.
    name = glob.escape(str(path.resolve()))
    yield from _rows(
        str(path),
        lambda: datasets.load_dataset(
            "parquet", data_files=name, split="train", streaming=True
        ),
    )


def _read_folder(path: Path) -> Iterator[Placed]:
    if not saved_dataset(path):
        raise RequestError(
            f"{path}: cannot be read: it is a folder, and `datasets.save_to_disk` did "
            "not write it. Name one of its files; for a folder laid out as on the "
            f"hub, write `{HUB}{path}`."
        )
    import datasets

    yield from _rows(str(path), lambda: _only_split(datasets.load_from_disk(str(path))))


def _read_hub(source: str) -> Iterator[Placed]:
    import datasets

    named, split = _read_name(source)
    yield from _rows(
        source,
        lambda: _only_split(
            datasets.load_dataset(**named, split=split, streaming=True)
        ),
    )


_HUB_NAME = re.compile(
    r"hub:(?P<name>[^:@\s]+)(?::(?P<part>[^@]+))?(?:@(?P<split>.+))?"
)


def _read_name(source: str) -> tuple[dict[str, str], str | None]:
    """Take ``hub:NAME[:PART][@SPLIT]`` apart.

    A part with a file's ending is one of the data set's files, any other one of its
    configurations.

    Raises:
        RequestError: If there is no name, or nothing behind a sign.
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
        is_file = part.lower().endswith((".json", *LINES, *COLUMNS))
        named["data_files" if is_file else "name"] = part
    return named, found["split"]


def _only_split(loaded: Iterable[object]) -> Iterable[object]:
    """Take a data set's one split; several are a `ValueError` that lists them."""
    if not isinstance(loaded, Mapping):
        return loaded
    if len(loaded) != 1:
        names = ", ".join(str(name) for name in loaded)
        raise ValueError(
            f"it has the splits {names}; name one, as @SPLIT behind a hub name, or as "
            "the split's own folder"
        )
    only: Iterable[object] = next(iter(loaded.values()))
    return only


def _rows(source: str, load: Callable[[], Iterable[object]]) -> Iterator[Placed]:
    """Number the rows of a data set; its failures are named after the last good row."""
    number = 0
    try:
        for number, row in enumerate(load(), start=1):
            yield f"{source}: record {number}", row
    except _failures() as error:
        _refuse(source, number, error)


def _failures() -> tuple[type[Exception], ...]:
    from datasets.exceptions import (  # type: ignore[import-untyped]
        DatasetsError,
    )

    # What Arrow and the hub raise is a kind of these.
    return (DatasetsError, OSError, ValueError, KeyError, NotImplementedError)


def _refuse(source: str, good: int, error: Exception) -> NoReturn:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    behind = f" behind record {good}" if good else ""
    raise RequestError(f"{source}: cannot be read{behind} ({reason}).") from None
