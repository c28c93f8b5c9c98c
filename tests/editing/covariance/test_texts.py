"""Texts are streamed from wherever they lie, in one order."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pytest

import editing.covariance.texts
from editing.covariance.sampled_text import sample_documents
from editing.covariance.texts import TextError, open_text, text_of
from tests.tiny import tiny_model

MODEL = tiny_model()
DOCUMENTS = ["Ada works for Acme", "", "one day the harp – “found” in Oslo"]


def read(named: str, start: int = 0) -> list[Any]:
    """Stream a text that is named."""
    return list(open_text(named, MODEL, "").stream(start))


def saved(folder: Path, kind: str, field: str = "text") -> str:
    """Write the documents in one of the forms; say how they are named."""
    rows = datasets.Dataset.from_dict({"id": [1, 2, 3], field: DOCUMENTS})
    if kind == "jsonl":
        lines = [json.dumps({"id": 1, field: each}) for each in DOCUMENTS]
        (folder / "a.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
        return str(folder / "a.jsonl")
    if kind == "parquet":
        rows.to_parquet(str(folder / "a[1].parquet"))
        return str(folder / "a[1].parquet")
    if kind == "one":
        rows.save_to_disk(str(folder / "one"))
        return str(folder / "one")
    many = {"train": rows, "test": rows.select([0])} if kind == "many" else {"x": rows}
    datasets.DatasetDict(many).save_to_disk(str(folder / kind))
    return str(folder / kind)


def test_a_text_file_has_one_document_a_line(tmp_path: Path) -> None:
    """Empty ones too; a line's end belongs to none."""
    file = tmp_path / "a.txt"
    file.write_text("\n".join(DOCUMENTS) + "\n", encoding="utf-8")
    assert read(str(file)) == DOCUMENTS
    assert read(str(file), 2) == DOCUMENTS[2:]
    assert open_text(str(file), MODEL, "").name == "a.txt"


def test_a_line_without_end_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no more of it is held."""
    monkeypatch.setattr(editing.covariance.texts, "LONGEST_DOCUMENT", 5)
    (tmp_path / "a.txt").write_text("abcdefghijkl\nmn")
    assert read(str(tmp_path / "a.txt")) == ["abcde", "fghij", "kl", "mn"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "one", "many", "single"])
def test_records_are_read_by_the_field_of_their_text(tmp_path: Path, kind: str) -> None:
    """`text`, unless another one is named."""
    assert read(saved(tmp_path, kind)) == DOCUMENTS
    assert read(saved(tmp_path, kind), 1) == DOCUMENTS[1:]
    (tmp_path / "b").mkdir()
    named = saved(tmp_path / "b", kind, "body")
    assert read(f"{named}#body") == DOCUMENTS
    with pytest.raises(TextError, match=r"record 1: the field `text`.*body, id"):
        read(named)


def test_a_split_is_named(tmp_path: Path) -> None:
    """Else it is `train`, or the only one."""
    named = saved(tmp_path, "many")
    assert read(f"{named}@test") == DOCUMENTS[:1]
    assert read(f"{named}@test#text") == DOCUMENTS[:1]
    with pytest.raises(TextError, match=r"one of the splits test, train"):
        read(f"{named}@dev")


def test_a_hub_s_data_set_is_streamed_by_name_configuration_split_and_field(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hub itself is not reached: what is asked of `datasets` is looked at."""
    asked: list[Any] = []

    def load(*names: object, **options: object) -> list[dict[str, str]]:
        asked.append((names, options))
        return [{"text": "a", "body": "b"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read("hub:wikimedia/wikipedia:20231101.en@test#body") == ["b"]
    assert read("hub:wikitext") == ["a"]
    assert asked == [
        (
            ("wikimedia/wikipedia", "20231101.en"),
            {"split": "test", "streaming": True},
        ),
        (("wikitext", None), {"split": "train", "streaming": True}),
    ]
    with pytest.raises(TextError, match=r"wanted `hub:NAME\[:CONFIG"):
        read("hub:")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach it"),
        datasets.exceptions.DatasetGenerationError("Couldn't reach it"),
    ],
)
def test_a_hub_that_is_not_there_is_said(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the data set; a fault of the program keeps its own type."""

    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(TextError, match=r"hub:a/b: cannot be read .*Couldn't reach"):
        read("hub:a/b")
    error = TypeError("a fault")
    with pytest.raises(TypeError, match="a fault"):
        read("hub:a/b")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", None, "cannot be read"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read as text"),
        ("a.jsonl", b'{"text": ', "cannot be read as text"),
        ("a.jsonl", b'["text"]', "line 1: wanted an object"),
        ("a.jsonl", b'{"text": 3}', "record 1: the field `text`"),
        ("a.parquet", b"no table", "cannot be read as text"),
    ],
)
def test_what_is_no_text_is_refused_by_its_name(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    """And by line or record."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=f"{name}.*{reason}"):
        read(str(tmp_path / name))


def test_a_folder_that_datasets_did_not_save_is_refused(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(TextError, match="neither a `Dataset` directory"):
        read(str(tmp_path))


def test_self_is_the_model_s_own_text_and_known_without_being_read() -> None:
    """By weights, tokenizer and seed."""
    text = open_text("self", MODEL, "", seed=3)
    assert list(islice(text.stream(0), 4)) == list(
        islice(sample_documents(MODEL, 3), 4)
    )
    assert text.determined_by != open_text("self", MODEL, "", seed=4).determined_by
    assert MODEL.fingerprint in text.determined_by


def test_documents_that_the_caller_holds_can_be_streamed_again() -> None:
    """From any of them on."""
    text = text_of(DOCUMENTS, "held")
    assert list(text.stream(0)) == list(text.stream(0)) == DOCUMENTS
    assert list(text.stream(2)) == DOCUMENTS[2:]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, name: str) -> None:
    """The first document would begin with it."""
    lines = ["one", "two"]
    if name.endswith("jsonl"):
        lines = [json.dumps({"text": line}) for line in lines]
    (tmp_path / name).write_text("\n".join(lines), encoding="utf-8-sig")
    assert read(str(tmp_path / name)) == ["one", "two"]


def test_a_table_is_read_where_the_library_can_cache_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes its cache folder for a file on this machine as well."""
    (tmp_path / "file").write_text("no folder")
    place = str(tmp_path / "file" / "cache")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", place)
    datasets.Dataset.from_dict({"text": ["one"]}).to_parquet(
        str(tmp_path / "a.parquet")
    )
    assert read(str(tmp_path / "a.parquet")) == ["one"]
