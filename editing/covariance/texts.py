"""Plain text as a stream of documents: from files, from the hub, from the model."""

import glob
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from editing.base.errors import InputError
from editing.covariance.sampled_text import name_samples, sample_documents
from editing.files.text import UTF8, is_unicode, parse_json
from editing.models.loading import EditableModel
from editing.sources.embedded import HUB, SELF, resolve_source

Document: TypeAlias = str | tuple[int, ...]
"""A text, or tokens that never were text."""

LONGEST_DOCUMENT = 2**20
"""Characters after which a line of a text file is split, to bound memory."""

_HUB_NAME = re.compile(
    r"hub:(?P<name>[^:@#\s]+)(?::(?P<config>[^@#]+))?(?:@(?P<split>[^#]+))?"
    r"(?:#(?P<field>.+))?"
)


_FAILURES = (OSError, ValueError, KeyError, NotImplementedError)


class TextError(InputError):
    """A text that cannot be found or read."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """Documents that can be streamed again and again, in one order.

    Attributes:
        name: The data set's name in a covariance.
        stream: Yields the documents from this number on.
        determined_by: All that the documents depend on, if that is known without
            reading them; else empty.
    """

    name: str
    stream: Callable[[int], Iterator[Document]]
    determined_by: str = ""


def open_text(
    named: str,
    model: EditableModel,
    model_path: str,
    seed: int = 0,
    setting: str = "prior.text",
) -> TextSource:
    """Find the text that is named; nothing is read yet.

    Args:
        named: A file (``.jsonl`` and ``.parquet`` by the field ``text`` or the one
            after ``#``, any other with one document a line), a folder that `datasets`
            saved (a split after ``@``), ``hub:NAME[:CONFIG][@SPLIT][#FIELD]``,
            ``embedded``, or ``self``.
        model: Generates the text of ``self``.
        model_path: The model's folder, which holds its own text.
        seed: Draws the text of ``self``.
        setting: What an error names.
    """
    if named == SELF:
        return TextSource(
            f"self (seed {seed})",
            lambda start: sample_documents(model, seed, start),
            name_samples(model, seed),
        )
    if named.startswith(HUB):
        return hub_text(named, setting)
    return _local_text(named, model_path, setting)


def check_local_text(named: str, model_path: str, setting: str = "prior.text") -> None:
    """Read a text on this machine to its end, to find faults before it is used.

    Args:
        named: See `open_text`; not the hub's, and not the model's own writing.
        model_path: The model's folder, which holds its own text.
        setting: What an error names.

    Raises:
        TextError: If it cannot be read, or has no document that is not blank.
    """
    try:
        text = _local_text(named, model_path, setting)
        filled = sum(1 for each in text.stream(0) if str(each).strip())
    except TextError as error:
        raise TextError(f"`{setting}`: {error}") from None
    if filled == 0:
        raise TextError(
            f"`{setting}`: {named} is empty; wanted one document a line, or records."
        )


def text_of(documents: Iterable[Document], name: str) -> TextSource:
    """Stream documents in memory; an iterator yields them once."""
    return TextSource(name, lambda start: islice(iter(documents), start, None))


def hub_text(named: str, setting: str = "prior.text") -> TextSource:
    """Find a data set of the hub by its name, as `open_text` has it."""
    found = _HUB_NAME.fullmatch(named)
    if found is None:
        raise TextError(
            f"`{setting}` {named!r}: wanted `hub:NAME[:CONFIG][@SPLIT][#FIELD]`, such "
            "as `hub:wikimedia/wikipedia:20231101.en@train#text`."
        )
    name, config, split, field = found.group("name", "config", "split", "field")

    def stream(start: int) -> Iterator[Document]:
        from datasets import load_dataset  # type: ignore[import-untyped]

        with _readable(named):
            rows = load_dataset(name, config, split=split or "train", streaming=True)
            yield from islice(_field_of(rows, field, named), start, None)

    return TextSource(named, stream)


def _local_text(named: str, model_path: str, setting: str) -> TextSource:
    path, split, field = split_name(named)
    file = resolve_source(path, model_path, "text.txt", setting)

    def stream(start: int) -> Iterator[Document]:
        with _readable(str(file)):
            yield from islice(_read_file(file, split, field, named), start, None)

    return TextSource(file.name, stream)


def _read_file(
    file: Path, split: str | None, field: str | None, named: str
) -> Iterator[Document]:
    if file.is_dir():
        return _field_of(_load_saved(file, split), field, named)
    if file.suffix == ".jsonl":
        return _field_of(_read_json_lines(file), field, named)
    if file.suffix == ".parquet":
        return _field_of(_read_parquet(file), field, named)
    return _read_lines(file)


def split_name(named: str) -> tuple[str, str | None, str | None]:
    """Return path, split and field; a path that exists has neither."""
    if Path(named).exists():
        return named, None, None
    rest, _, field = named.partition("#")
    if Path(rest).exists():
        return rest, None, field or None
    path, _, split = rest.partition("@")
    return path, split or None, field or None


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what readers raise into an error that names the text.

    Raises:
        TextError: In the place of errors of files, of Arrow, of the hub and of its
            data sets.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # Data sets have errors of their own; they are not imported to read a file.
        theirs = type(error).__module__.startswith("datasets.")
        if not theirs and not isinstance(error, _FAILURES):
            raise
        reason = " ".join(str(error).split())[:200]
        raise TextError(
            f"{name}: cannot be read as text ({reason}). Wanted a text file with one "
            "document a line, .jsonl, .parquet, a folder that `datasets` saved, "
            "`hub:NAME`, or `self`."
        ) from None


def _read_lines(file: Path) -> Iterator[Document]:
    with file.open(encoding=UTF8) as lines:
        while line := lines.readline(LONGEST_DOCUMENT):
            yield line.rstrip("\n")


def _read_json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding=UTF8) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                raise ValueError(f"record {number}: {error}") from None
            if not isinstance(row, dict):
                raise TextError(f"{file}, line {number}: wanted an object with a text.")
            yield row


def _read_parquet(file: Path) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset

    # The library makes its cache folder even where it writes nothing into it.
    with TemporaryDirectory() as cache:
        yield from load_dataset(
            # Read by a pattern of names, in which brackets would have a meaning.
            "parquet",
            data_files=glob.escape(str(file.resolve())),
            split="train",
            streaming=True,
            cache_dir=cache,
        )


def _load_saved(folder: Path, split: str | None) -> Iterator[dict[str, Any]]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(folder))
    yield from (
        _choose_split(saved, split, folder) if isinstance(saved, DatasetDict) else saved
    )


def _choose_split(saved: dict[str, Any], split: str | None, folder: Path) -> Any:  # noqa: ANN401 - a data set
    """Return the split that is named, or `train`, or the only one.

    Raises:
        TextError: If that is none of them.
    """
    chosen = split or ("train" if "train" in saved or len(saved) > 1 else min(saved))
    if chosen not in saved:
        raise TextError(
            f"{folder}: wanted one of the splits {', '.join(sorted(saved))}; name it "
            f"as {folder}@SPLIT."
        )
    return saved[chosen]


def _field_of(
    rows: Iterable[dict[str, Any]], field: str | None, name: str
) -> Iterator[Document]:
    for number, row in enumerate(rows, 1):
        chosen = field or "text"
        text = row.get(chosen)
        if isinstance(text, str) and not is_unicode(text):
            raise TextError(
                f"{name}, record {number}: `{chosen}` wants a text in Unicode, got "
                "half a surrogate pair."
            )
        if not isinstance(text, str):
            raise TextError(
                f"{name}, record {number}: the field `{chosen}` holds no text. Its "
                f"fields: {', '.join(sorted(row))}; name one as FILE#FIELD."
            )
        yield text
