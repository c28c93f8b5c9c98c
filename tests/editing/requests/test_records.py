"""Laws of containers: records are the same in all of them, and no more are read."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import datasets  # type: ignore[import-untyped]
import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import read_requests, to_counterfact
from editing.requests.records import hub_revision, read_records, saved_dataset
from tests.editing.records import FILES, find

RECORDS: list[dict[str, object]] = [
    {"prompt": "{} is", "subject": f"Ada {number}", "target_new": "a poet"}
    for number in range(6)
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` writes next to its data away from the user's."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()


@pytest.fixture(params=FILES)
def sample(request: pytest.FixtureRequest) -> Path:
    """Find a file of records in a published form."""
    return find(str(request.param))


def write_list(records: list[dict[str, object]]) -> str:
    """Put records into a JSON list."""
    Path("a.json").write_text(json.dumps(records, ensure_ascii=False), "utf-8")
    return "a.json"


def write_lines(records: list[dict[str, object]]) -> str:
    """Put records into lines, as a Windows editor ends them."""
    lines = "\r\n".join(json.dumps(each, ensure_ascii=False) for each in records)
    Path("a.jsonl").write_text(f"\ufeff{lines}\r\n\r\n", "utf-8", newline="")
    return "a.jsonl"


def write_parquet(records: list[dict[str, object]]) -> str:
    """Put records into row groups of two, in a file whose name has brackets."""
    table = datasets.Dataset.from_list(records)
    table.to_parquet("a[1]*.parquet", batch_size=2)
    return "a[1]*.parquet"


def write_folder(records: list[dict[str, object]]) -> str:
    """Save records as `datasets` does."""
    datasets.Dataset.from_list(records).save_to_disk("saved")
    return "saved"


def write_splits(records: list[dict[str, object]]) -> str:
    """Save records as the one split of a data set."""
    table = datasets.Dataset.from_list(records)
    datasets.DatasetDict({"test": table}).save_to_disk("splits")
    return "splits"


def write_hub(records: list[dict[str, object]]) -> str:
    """Lay records out as a data set of the hub has them, two splits of Parquet."""
    folder = Path("owner/name/data")
    folder.mkdir(parents=True)
    table = datasets.Dataset.from_list(records)
    table.to_parquet(str(folder / "test-00000-of-00001.parquet"))
    table.select([0]).to_parquet(str(folder / "train-00000-of-00001.parquet"))
    return "hub:owner/name@test"


def write_hub_file(records: list[dict[str, object]]) -> str:
    """One of several files that a data set of the hub has."""
    Path("owner/files/parts").mkdir(parents=True)
    text = json.dumps(records)
    Path("owner/files/parts/one.json").write_text(text, "utf-8")
    Path("owner/files/parts/two.json").write_text("[]", "utf-8")
    return "hub:owner/files:parts/one.json"


WRITERS = [
    write_list,
    write_lines,
    write_parquet,
    write_folder,
    write_splits,
    write_hub,
    write_hub_file,
]
Writer = Callable[[list[dict[str, object]]], str]


@pytest.mark.parametrize("write", WRITERS)
def test_records_are_the_same_in_every_container(sample: Path, write: Writer) -> None:
    """Every field of every request, as they are and in our own form."""
    requests = read_requests(sample)
    records = json.loads(sample.read_text("utf-8"))
    assert len(requests) == len(records)
    assert read_requests(write(records)) == requests


@pytest.mark.parametrize("write", WRITERS)
def test_our_own_form_is_the_same_in_every_container(
    sample: Path, write: Writer
) -> None:
    """Also where records differ in what they have."""
    requests = read_requests(sample)[:3]
    bare = requests[0].model_copy(
        update={
            "case_id": 99,
            "target_true": None,
            "relation_id": None,
            "paraphrase_prompts": (),
            "locality": (),
        }
    )
    records = [to_counterfact(each) for each in (*requests, bare)]
    assert read_requests(write(records)) == [*requests, bare]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("limit", [0, 1, 5, 6, 7])
def test_a_limit_takes_the_first_ones(write: Writer, limit: int) -> None:
    """And one beyond the end takes all."""
    source = write(RECORDS)
    assert read_requests(source, limit) == read_requests(source)[:limit]


@pytest.mark.parametrize("write", WRITERS)
def test_a_bad_record_is_named_by_source_and_number(write: Writer) -> None:
    """Lines are counted with blank ones, records from 1."""
    source = write([*RECORDS[:4], {**RECORDS[4], "subject": " "}])
    place = f"{source}:5" if source.endswith("l") else f"{source}: record 5"
    with pytest.raises(RequestError, match=r"`subject` is empty\.$") as caught:
        read_requests(source)
    assert str(caught.value).startswith(f"{place}: ")


def first_places(source: str, count: int) -> list[str]:
    """The places of the first records."""
    return [place for place, _ in islice(read_records(source), count)]


@pytest.mark.parametrize("name", ["huge.json", "huge.jsonl"])
def test_nothing_after_the_limit_is_read(name: str) -> None:
    """The rest of this file would fill any memory, and is no JSON."""
    record = json.dumps(RECORDS[0])
    Path(name).write_text(f"[{record}, " if name.endswith("n") else f"{record}\n")
    os.truncate(name, 1 << 40)
    assert len(read_requests(name, 1)) == 1


def test_row_groups_far_after_the_limit_are_not_read() -> None:
    """One that is broken is found by who reads that far."""
    table = datasets.Dataset.from_list(RECORDS * 500)
    table.to_parquet("a.parquet", batch_size=500)
    raw = bytearray(Path("a.parquet").read_bytes())
    end = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")  # where the footer is
    raw[end - 900 : end] = b"\xff" * 900
    Path("a.parquet").write_bytes(raw)
    assert len(first_places("a.parquet", 1000)) == 1000
    with pytest.raises(RequestError, match=r"^a\.parquet: cannot be read after rec"):
        first_places("a.parquet", 3000)


def test_records_come_one_by_one() -> None:
    """Not as a list that was made before."""
    write_lines(RECORDS)
    records = read_records("a.jsonl")
    assert isinstance(records, Iterator)
    assert next(records) == ("a.jsonl:1", RECORDS[0])


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.jsonl", b"", "holds no requests"),
        ("a.jsonl", b"\n\r\n \n", "holds no requests"),
        ("a.jsonl", b'{"a": NaN}', r"^a\.jsonl:1: not JSON .*NaN is no number"),
        ("a.jsonl", b"{}\n\xff{}", r"^a\.jsonl:1: has no known form"),
        ("a.ndjson", b"\n\n\xff{}", r"^a\.ndjson:3: not UTF-8 text"),
        ("a.jsonl", b"[" * 10**6, r"^a\.jsonl:1: not JSON .*nested too deeply"),
        ("a.jsonl", b"[]", r"^a\.jsonl:1: wanted a JSON object, got \[\]"),
        ("a.jsonl", b'"\xef\xbb\xbf"', r"^a\.jsonl:1: wanted a JSON object"),
        ("a.json", b"", r"^a\.json: is empty"),
        ("a.json", b"[]", r"^a\.json: holds no requests; wanted at least one"),
        ("a.json", b"[[[1]]]", r"^a\.json: record 1: wanted a JSON object, got \[\["),
        ("a.json", b"[{}, ", r"^a\.json: record 1: has no known form"),
        ("a.parquet", b"", r"^a\.parquet: cannot be read \("),
        ("a.parquet", b"PAR1 and no more", r"^a\.parquet: cannot be read \("),
    ],
)
def test_a_bad_file_is_named(name: str, raw: bytes, message: str) -> None:
    """With the line or record, in one line."""
    Path(name).write_bytes(raw)
    with pytest.raises(RequestError, match=message) as caught:
        read_requests(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no.json", "no.jsonl", "no.parquet", "no/such.json"])
def test_a_missing_file_is_named(name: str) -> None:
    """With what the system says."""
    with pytest.raises(RequestError, match=rf"^{name}: cannot be read \(No such file"):
        read_requests(name)


def test_a_number_that_is_given_twice_is_refused_by_both_places() -> None:
    """A number that a record's place gives makes room for one that is given."""
    write_list([{**RECORDS[0], "case_id": 1}, {**RECORDS[1], "case_id": 1}])
    message = r"^a\.json: record 2: `case_id` 1 was used before, at a\.json: record 1"
    with pytest.raises(RequestError, match=message):
        read_requests("a.json")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30, 1.0, [7], True])
def test_a_case_number_is_a_whole_number_that_a_column_holds(number: object) -> None:
    """A larger one would be lost on the way, and a list or a truth is none."""
    write_list([{**RECORDS[0], "case_id": number}])
    with pytest.raises(RequestError, match=r"^a\.json: record 1: `case_id`: wanted "):
        read_requests("a.json")


def test_a_folder_that_datasets_did_not_save_is_no_source() -> None:
    """Nor one of several splits; the words say what to name."""
    Path("some").mkdir()
    message = "^some: cannot be read: it is a folder.*hub, write `hub:some`"
    with pytest.raises(RequestError, match=message):
        read_requests("some")
    table = datasets.Dataset.from_list(RECORDS)
    datasets.DatasetDict({"test": table, "train": table}).save_to_disk("two")
    with pytest.raises(RequestError, match=r"^two: .*splits test, train; name one"):
        read_requests("two")
    assert len(read_requests("two/test")) == len(RECORDS)
    assert [saved_dataset(Path(name)) for name in ("some", "two", "two/test")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hub:", r"^hub:: wanted `hub:NAME"),
        ("hub:@test", "wanted `hub:NAME"),
        ("hub:owner/name@", "wanted `hub:NAME"),
        ("hub:owner/name:", "wanted `hub:NAME"),
        ("hub:owner/name", r"cannot be read .*splits .*; name one, as @SPLIT after"),
        ("hub:owner/name@dev", "cannot be read .*splits .*; name one"),
        ("hub:owner/name:none.json", "cannot be read"),
        ("hub:owner/name:unknown@test", "cannot be read .*'unknown' not found"),
    ],
)
def test_a_bad_name_of_the_hub_is_refused(source: str, message: str) -> None:
    """With what is wanted, or what there is."""
    write_hub(RECORDS)
    with pytest.raises(RequestError, match=message) as caught:
        read_requests(source)
    assert str(caught.value).startswith(f"{source}: ")


def test_all_json_files_of_a_split_are_read_in_their_order() -> None:
    """Lists and lines, by their first character, each with its own places."""
    folder = Path("owner/many")
    folder.mkdir(parents=True)
    (folder / "train-0.json").write_text(json.dumps(RECORDS[:2]))
    lines = "\n".join(json.dumps(each) for each in RECORDS[2:4])
    (folder / "train-1.json").write_text(f"\ufeff{lines}")
    (folder / "train-2.jsonl").write_text(json.dumps(RECORDS[4]))
    assert list(read_records("hub:owner/many")) == [
        ("hub:owner/many: train-0.json: record 1", RECORDS[0]),
        ("hub:owner/many: train-0.json: record 2", RECORDS[1]),
        ("hub:owner/many: train-1.json:1", RECORDS[2]),
        ("hub:owner/many: train-1.json:2", RECORDS[3]),
        ("hub:owner/many: train-2.jsonl:1", RECORDS[4]),
    ]
    (folder / "train-2.jsonl").write_bytes(b"\xff")
    with pytest.raises(RequestError, match=r"^hub:owner/many: train-2.jsonl:1: not U"):
        list(read_records("hub:owner/many"))


def test_what_lies_at_the_hub_has_a_revision() -> None:
    """The same until something changes; none if it cannot be found."""
    source = write_hub_file(RECORDS)
    before = hub_revision(source)
    assert before is not None
    assert hub_revision(source) == before
    Path("owner/files/parts/one.json").write_text("[{}]", "utf-8")
    assert hub_revision(source) not in {before, None}
    assert hub_revision("hub:owner/files:none.json") is None
