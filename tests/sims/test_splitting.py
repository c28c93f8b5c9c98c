"""The files that a split writes are what a run would give each party."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from clients.own_requests import requests_of_round
from clients.settings import ClientConfig, read_client_config
from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest, read_requests, to_counterfact
from sims.cli.main import main
from sims.splitting import (
    SplitOrder,
    SplitSummary,
    read_amount,
    read_sizes,
    split_source,
)
from strategies.scenario import FlatValue
from tests.editing.records import both, find
from tests.federation import Federation, settings_of, write_json
from tests.tiny import LAYERS


def pool_of(count: int) -> list[EditRequest]:
    """Make requests of four relations, one of them without an id."""
    return [
        EditRequest(
            case_id=number,
            prompt=f"{{}} is of kind {number * number % 4}",
            subject=f"Subject {number}",
            target_new=f"Target {number % 11}",
            target_true="Truth\u2028after a line separator",
            relation_id=f"R{number * number % 5}" if number % 3 else None,
        )
        for number in range(count)
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a source of requests."""
    values = [to_counterfact(request) for request in pool_of(50)]
    return write_json(tmp_path / "source.json", values)


def order_of(source: Path | str, **values: object) -> SplitOrder:
    """Order a split into three files."""
    plain: dict[str, object] = {"source": str(source), "parties": 3, "sizes": None}
    return SplitOrder.model_validate(plain | values)


def written(folder: Path) -> list[list[EditRequest]]:
    """Read the parties' files."""
    names = sorted(folder.glob("party_*.jsonl"))
    assert [each.name for each in names] == [f"party_{n}.jsonl" for n in range(3)]
    return [read_requests(each) for each in names]


def node(
    world: Path, party: int, own: Path | None = None, **tables: dict[str, FlatValue]
) -> ClientConfig:
    """Read the settings of one party's node, with a file of its own or without."""
    place: dict[str, FlatValue] = {"partition-id": party}
    config = place | ({"requests-path": str(own)} if own else {})
    flat = settings_of(world, **tables)
    return read_client_config(Context(1, 2, config, RecordDict(), flat))


SPLITS = ("contiguous", "shuffled", "relation", "dirichlet")
SIZES = ("4", "[5, 3, 4]", "[[4, 0, 5], [4, 6, 5]]")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("planted", [(0, 0), (2, 0.25)])
def test_files_hold_what_a_simulated_run_gives_each_party(
    world: Path,
    source: Path,
    tmp_path: Path,
    split: str,
    sizes: str,
    planted: tuple[float, float],
) -> None:
    """And a node that is given its file takes the same in every round."""
    parties: dict[str, FlatValue] = {
        "requests-per-round": json.loads(sizes) if sizes == "4" else sizes,
        "split": split,
        "alpha": 0.2,
        "overlap": planted[0],
        "planted-conflicts": planted[1],
        "allow-empty": True,
    }
    requests: dict[str, FlatValue] = {"source": str(source), "seed": 7, "limit": 40}
    order = order_of(
        source,
        split=split,
        alpha=0.2,
        sizes=json.loads(sizes),
        rounds=2,
        overlap=planted[0],
        conflicts=planted[1],
        seed=7,
        limit=40,
    )
    split_source(order, tmp_path / "out")
    for party, found in enumerate(written(tmp_path / "out")):
        simulated = node(world, party, parties=parties, requests=requests)
        own = tmp_path / "out" / f"party_{party}.jsonl"
        real = node(world, party, own, parties=parties, requests=requests)
        rounds = [requests_of_round(simulated, n, pooled=False)[party] for n in (1, 2)]
        assert found == [request for each in rounds for request in each]
        assert rounds == [
            requests_of_round(real, n, pooled=False)[party] for n in (1, 2)
        ]


@pytest.mark.parametrize("sizes", [None, [[4, 0, 5], [4, 6, 5]]])
def test_the_summary_says_how_a_run_takes_the_files(
    world: Path, source: Path, tmp_path: Path, sizes: object
) -> None:
    """What is planted is part of a party's file like all else in it."""
    rounds = 1 if sizes is None else 2
    order = order_of(
        source, split="relation", sizes=sizes, rounds=rounds, overlap=1, conflicts=1
    )
    split_source(order, tmp_path / "out")
    summary = read_summary(tmp_path / "out")
    parties: dict[str, FlatValue] = {
        key.removeprefix("parties."): json.dumps(value)
        if isinstance(value, tuple)
        else value
        for key, value in summary.run.items()
        if key.startswith("parties.")
    }
    assert summary.run["run.rounds"] == rounds
    for party, found in enumerate(written(tmp_path / "out")):
        own = tmp_path / "out" / f"party_{party}.jsonl"
        config = node(world, party, own, parties=parties)
        by_round = [
            requests_of_round(config, n, pooled=False)[party]
            for n in range(1, rounds + 1)
        ]
        assert found == [request for each in by_round for request in each]
        counted = summary.parties[party]
        assert counted.requests == tuple(map(len, by_round))
        assert sum(counted.relations.values()) == counted.own
        assert counted.own + counted.copies + counted.conflicts == len(found)


def read_summary(folder: Path) -> SplitSummary:
    """Read what a split says of itself."""
    return SplitSummary.model_validate_json((folder / "summary.json").read_text())


@pytest.mark.parametrize("split", SPLITS)
def test_without_sizes_the_whole_source_is_split(
    source: Path, tmp_path: Path, split: str
) -> None:
    """Each request is in one file, and `relation` breaks no relation."""
    split_source(order_of(source, split=split), tmp_path / "out")
    files = written(tmp_path / "out")
    numbers = [request.case_id for own in files for request in own]
    assert sorted(numbers) == list(range(50))
    summary = read_summary(tmp_path / "out")
    owners = [{*each.relations} for each in summary.parties]
    broken = sum(map(len, owners)) - len(set().union(*owners))
    assert (broken == 0) == (split == "relation") == (summary.broken == 0)


def test_files_are_their_owner_s_alone(source: Path, tmp_path: Path) -> None:
    """From their first byte on, whatever the process allows others."""
    split_source(order_of(source), tmp_path / "made" / "out")
    folder = tmp_path / "made" / "out"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert [each.name for each in folder.parent.iterdir()] == ["out"]


def test_what_is_there_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    """Not even by the same split."""
    split_source(order_of(source), tmp_path / "out")
    before = {each: each.read_bytes() for each in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match="never overwritten"):
        split_source(order_of(source, seed=1), tmp_path / "out")
    assert {each: each.read_bytes() for each in (tmp_path / "out").iterdir()} == before


def test_nothing_is_left_of_a_split_that_fails(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its files."""
    asked: list[str] = []

    def write_one(file: Path, text: str) -> None:
        asked.append(text)
        file.touch()
        if len(asked) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("sims.splitting.write_private", write_one)
    with pytest.raises(KeyboardInterrupt):
        split_source(order_of(source), tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["source.json"]


def test_a_summary_holds_no_word_of_a_request(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relation without an id goes by a number; nothing of it is shown either."""
    split_source(order_of(source, overlap=1, conflicts=1), tmp_path / "out")
    said = (tmp_path / "out" / "summary.json").read_text() + capsys.readouterr().out
    for request in pool_of(50):
        for text in (request.prompt[3:], request.subject + '"', request.target_new):
            assert text not in said
    assert '"prompt 1"' in said
    assert '"R4"' in said


def test_the_digest_is_the_source_s(source: Path, tmp_path: Path) -> None:
    """However it is split; another source has another."""
    other = [each.model_copy(update={"subject": "X"}) for each in pool_of(50)]
    file = write_json(tmp_path / "o.json", [to_counterfact(each) for each in other])
    orders = [order_of(source, split=split, seed=n) for n, split in enumerate(SPLITS)]
    digests = []
    for number, order in enumerate([*orders, order_of(file)]):
        split_source(order, tmp_path / str(number))
        digests.append(read_summary(tmp_path / str(number)).digest)
    assert len(set(digests[:4])) == 1
    assert digests[4] != digests[0]


def test_the_embedded_source_can_be_split(tmp_path: Path) -> None:
    """Each subject once, as a run draws them."""
    split_source(order_of("embedded", sizes=6, split="relation"), tmp_path / "out")
    found = [request for own in written(tmp_path / "out") for request in own]
    assert len({request.subject for request in found}) == len(found) == 18


@pytest.mark.parametrize("name", both("multi_counterfact"))
def test_requests_in_counterfact_form_can_be_split(tmp_path: Path, name: str) -> None:
    """CounterFact's relations stay whole; what is planted speaks of the same facts."""
    source = find(name)
    order = order_of(source, split="relation", overlap=1, conflicts=1)
    split_source(order, tmp_path / "out")
    assert read_summary(tmp_path / "out").broken == 0
    files = written(tmp_path / "out")
    numbers = {request.case_id for request in read_requests(source)}
    for party, own in enumerate(files):
        facts = {(request.subject, request.prompt) for request in files[party - 1]}
        planted = [request for request in own if request.case_id not in numbers]
        assert len(planted) == 2
        assert all((each.subject, each.prompt) in facts for each in planted)


def test_a_run_finds_what_was_planted(
    federate: Callable[..., Federation], tmp_path: Path
) -> None:
    """Of each party's three requests, one is copied and one contradicted."""
    pool = [
        request.model_copy(
            update={"prompt": "{} works for", "target_new": name, "relation_id": "P1"}
        )
        for request, name in zip(
            pool_of(9), ("Acme Inc", "Lima Works", "Acme Group") * 3, strict=True
        )
    ]
    file = write_json(tmp_path / "p.json", [to_counterfact(each) for each in pool])
    federation = federate(
        editing={"schedule": "frozen-uniform"},
        requests={"source": str(file)},
        parties={
            "requests-per-round": 3,
            "overlap": 1,
            "planted-conflicts": 1,
            "conflicts": "drop",
            "deduplicate": True,
        },
    )
    delta = federation.delta()
    outcome = federation.strategy.registry.outcomes[1]
    assert (outcome.duplicates, outcome.conflicts) == (3, 3)
    assert len(delta) == len(LAYERS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sizes", "30"], "3 parties take 90 requests in 1 round(s)"),
        (["--sizes", "1,2"], "2 sizes for 3 parties"),
        (["--sizes", "1,0,2"], "Party 1 would have no request"),
        (["--sizes", "few"], "one for each as in 10,20,30"),
        (["--sizes", "0"], "--sizes: "),
        (["--rounds", "2"], "--rounds wants --sizes"),
        (["--alpha", "0"], "--alpha: "),
        (["--overlap", "half"], "--overlap: wanted a whole number"),
        (["--overlap", "1.5"], "point from 0.0 to 1.0 such as 0.5; got '1.5'"),
        (["--conflicts=-1"], "such as 0.5; got '-1'"),
        (["--overlap", "40"], "ask for 40 of a party's 16"),
        (["--conflicts", "-1"], "--conflicts: "),
        (["--skip", "0"], "--skip: wanted numbers from 1, as in 4,17; got '0'"),
        (["--skip", "a"], "--skip: wanted numbers from 1"),
        (["--skip", "999"], "has no record 999"),
        (["--requests", "none.json"], "none.json"),
        (["--output", "."], "never overwritten"),
    ],
)
def test_bad_input_is_one_line_that_names_the_option(
    source: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And nothing is written."""
    plain = ["--requests", str(source), "--parties", "3", "--output"]
    with pytest.raises(SystemExit) as caught:
        main(["split", *plain, str(tmp_path / "out"), *arguments])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["source.json"]


def test_the_command_writes_what_it_says(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a table of what each file holds."""
    arguments = ["--parties", "3", "--split", "relation", "--sizes", "10,5,8"]
    plain = ["--requests", str(source), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as caught:
        main(["split", *plain, *arguments, "--overlap", "0.5"])
    assert caught.value.code == 0
    assert [len(own) for own in written(tmp_path / "out")] == [14, 10, 10]
    shown = capsys.readouterr().out
    for words in ("party_2.jsonl", "Copies", "relations are at several parties"):
        assert words in shown


def test_sizes_and_amounts_are_read_as_they_are_typed() -> None:
    """One number for all, one each, or one list a round; counts and shares."""
    assert read_sizes(None) is None
    assert read_sizes("10") == 10
    assert read_sizes("10, 20") == [10, 20]
    assert read_sizes("[[1, 2], [3, 4]]") == [[1, 2], [3, 4]]
    found = [read_amount(text, "--overlap") for text in ("1", "1.0", "0.5")]
    assert [(type(each), each) for each in found] == [
        (int, 1),
        (float, 1),
        (float, 0.5),
    ]
