"""A run edits against the texts of all parties as if they lay at the server."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict  # type: ignore[import-untyped]

from editing.algebra.deltas import load_delta
from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError
from editing.editors.system import System
from server.config import read_run_config
from server.federated_covariance import (
    PooledCovariance,
    TextShares,
    bound_means,
    describe_shares,
    keep,
    read_kept,
    record_of,
)
from server.preparation import Preparation, prepare
from server.tables import ConfigurationError
from sims.runs.in_process import run_in_process
from strategies.scenario import FlatValue
from strategies.wire.messages import Phase
from tests.federation import (
    AT_ONCE,
    TEXT,
    Federation,
    assert_same_bits,
    assert_same_delta,
    on_phase,
    settings_of,
)
from tests.laws import ALGEBRA, assert_same
from tests.tiny import LAYERS

Make = Callable[..., Federation]

FEDERATED: dict[str, FlatValue] = {"covariance": "federated"}
ONE_EACH: dict[str, FlatValue] = {"requests-per-round": 1}


@pytest.mark.parametrize(
    ("merge", "editing"),
    [
        ("collabedit", {"schedule": "layerwise"}),
        ("simple-average", AT_ONCE),
        ("collabedit", {"schedule": "alone"}),
    ],
    ids=["layerwise", "frozen", "alone"],
)
def test_rounds_against_all_parties_texts_are_those_against_the_whole_text(
    federate: Make, merge: str, editing: dict[str, FlatValue]
) -> None:
    """The union law carries over to the updates, the memory of rounds included."""
    rounds: dict[str, dict[str, FlatValue]] = {
        "run": {"rounds": 2},
        "editing": {**editing},
        "parties": ONE_EACH,
    }
    ours = federate(prior=FEDERATED, **rounds)
    theirs = federate(**rounds)
    assert_same_delta(ours.delta(merge), theirs.delta(merge), ALGEBRA)


def test_collabedit_is_global_is_memit_on_all_texts_and_requests(
    federate: Make,
) -> None:
    """The definition: one machine that holds the whole text."""
    tables: dict[str, dict[str, FlatValue]] = {
        "run": {"rounds": 2},
        "editing": {**AT_ONCE},
        "parties": ONE_EACH,
    }
    federation = federate(prior=FEDERATED, **tables)
    expected = federate(**tables).edit_alone()
    for merge in ("collabedit", "global"):
        assert_same_delta(federation.delta(merge), expected, ALGEBRA)


def test_alone_the_pooled_covariance_travels_and_otherwise_it_does_not(
    federate: Make,
) -> None:
    """Parties that solve need it; to the others it would tell of others' texts."""
    for editing, travels in (({"schedule": "alone"}, True), (AT_ONCE, False)):
        federation = federate(prior=FEDERATED, editing=editing)
        federation.run()
        sent = [
            set(message.content.array_records["prior"])
            for message in federation.requests_to(1, Phase.TARGETS)
            if not message.metadata.reply_to_message_id
        ]
        names = {f"covariance.{layer}" for layer in LAYERS}
        assert sent
        assert all((names <= each) == travels for each in sent)
        for phase in (Phase.DESCRIBE, Phase.MOMENTS, Phase.EVALUATE):
            for message in federation.requests_to(1, phase):
                if not message.metadata.reply_to_message_id:
                    assert not message.content.array_records.get("prior")


def test_too_few_tokens_give_the_pooled_moment_a_ridge(
    federate: Make, tmp_path: Path
) -> None:
    """After the sum: a ridge at each party would add up to another matrix."""
    short = tmp_path / "short.txt"
    short.write_text("\n".join(text[:18] for text in TEXT[:3]))
    text = {"text": str(short)}
    ours = federate(prior={**FEDERATED, **text}).preparation
    theirs = federate(prior=text).preparation
    made = ours.covariance.provenance
    assert made.tokens < 24
    assert all(ridge > 0 for ridge in made.ridges.values())
    for layer in LAYERS:
        expected = theirs.covariance.moments[layer]
        assert_same(ours.covariance.moments[layer], expected)


def test_texts_are_asked_for_where_parties_are(world: Path) -> None:
    """Who only prepares a run has none."""
    config = read_run_config(settings_of(world, prior=FEDERATED))
    with pytest.raises(InputError, match=r"there are no parties here.*`compute`"):
        prepare(config)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"text": "self"}, "texts of the parties' own"),
        ({"text": "hub:a/text"}, "texts of the parties' own"),
        ({"tokens": 100}, "leave `tokens` out"),
    ],
)
def test_a_text_that_is_nobody_s_own_or_cut_short_is_refused(
    world: Path, setting: dict[str, FlatValue], reason: str
) -> None:
    """By the setting, before anything is loaded."""
    flat = settings_of(world, prior={**FEDERATED, **setting})
    with pytest.raises(ConfigurationError, match=reason):
        read_run_config(flat)


def run_into(
    folder: Path, world: Path, **tables: dict[str, FlatValue]
) -> dict[str, object]:
    """Run both apps in this process, and read the settings that they note."""
    tables.setdefault("editing", {**AT_ONCE})
    tables.setdefault("parties", ONE_EACH)
    tables["output"] = {**tables.get("output", {}), "directory": str(folder)}
    flat = settings_of(world, prior=FEDERATED, **tables)
    run_in_process(flat, 3, folder.with_name("private"))
    settings: dict[str, object] = json.loads((folder / "params.json").read_text())
    return settings


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the seconds that plots take."""
    monkeypatch.setattr("server.report.writing.render_page", lambda _: "a page")


@pytest.mark.usefixtures("no_page")
def test_a_run_notes_how_many_tokens_came_from_whom(
    world: Path, tmp_path: Path
) -> None:
    """Counts, and nothing of the texts."""
    settings = run_into(tmp_path / "run", world)
    noted = settings["covariance"]
    assert isinstance(noted, dict)
    assert noted["dataset"] == "federated"
    assert list(noted["tokens_by_party"]) == ["0", "1", "2"]
    assert sum(noted["tokens_by_party"].values()) == noted["tokens"]
    assert noted["left_out"] == []
    assert not any(text in json.dumps(settings) for text in TEXT)


def test_without_shares_nothing_is_noted() -> None:
    """A covariance from a file or of one text has no parties."""
    assert describe_shares(None) == {}


def pooled_of(prepared: Preparation) -> PooledCovariance:
    """Give a prepared run's covariance, with what parties might have added."""
    shares = TextShares(tokens={0: 3, 2: 4}, left_out=("party 1: late",))
    return PooledCovariance(prepared.covariance, shares)


def test_what_is_kept_is_read_to_the_last_bit(federate: Make, tmp_path: Path) -> None:
    """In every field."""
    pooled = pooled_of(federate(prior=FEDERATED).preparation)
    file = tmp_path / "new" / "covariance.safetensors"
    keep(file, {"model": "m", "editing.layers": [1, 2]}, pooled)
    found = read_kept(file, {"model": "m", "editing.layers": [1, 2]}, LAYERS)
    assert found.shares == pooled.shares
    assert found.covariance.provenance == pooled.covariance.provenance
    for layer in LAYERS:
        assert torch.equal(
            found.covariance.moments[layer], pooled.covariance.moments[layer]
        )
    assert {path.name for path in file.parent.iterdir()} == {
        "covariance.safetensors",
        "covariance.json",
    }


def test_what_another_run_kept_is_refused_by_what_differs(
    federate: Make, tmp_path: Path
) -> None:
    """And a broken record by its name."""
    file = tmp_path / "covariance.safetensors"
    keep(file, {"model": "m"}, pooled_of(federate().preparation))
    with pytest.raises(InputError, match=r"another model, prior\.text;"):
        read_kept(file, {"model": "n", "prior.text": "t"}, LAYERS)
    record_of(file).write_text("{}")
    with pytest.raises(InputError, match=r"covariance\.json: is no record"):
        read_kept(file, {"model": "m"}, LAYERS)


def test_a_run_that_goes_on_asks_nobody_again(federate: Make, tmp_path: Path) -> None:
    """A party that has left, or has other texts by now, changes no bit of it."""
    output = {"checkpoint": str(tmp_path / "checkpoint")}
    begun = federate(prior=FEDERATED, output=output).preparation
    again = federate(prior=FEDERATED, output=output)
    again.tampers[1] = on_phase(Phase.MOMENTS, lambda content: content.clear())
    assert_same_bits(
        {str(k): v for k, v in again.preparation.covariance.moments.items()},
        {str(k): v for k, v in begun.covariance.moments.items()},
    )
    assert again.preparation.shares == begun.shares
    assert again.preparation.inputs == begun.inputs
    assert again.nodes_asked(Phase.MOMENTS) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"parties": {"count": 2}}, "parties.count"),
        ({"editing": {"layers": "[1]"}}, "editing.layers"),
        ({"model": {"dtype": "float32"}}, "model"),
        ({"model": {"dtype": "float64", "threads": 2}}, "model.threads"),
    ],
)
def test_a_covariance_that_was_kept_is_not_taken_for_another_run(
    federate: Make,
    tmp_path: Path,
    changed: dict[str, dict[str, FlatValue]],
    named: str,
) -> None:
    """By the setting that differs."""
    tables: dict[str, dict[str, FlatValue]] = {
        "prior": FEDERATED,
        "output": {"checkpoint": str(tmp_path / "checkpoint")},
    }
    _ = federate(**tables).preparation
    with pytest.raises(InputError, match=f"another {named};"):
        _ = federate(**tables, **changed).preparation


def write_text(folder: Path, form: str, texts: Sequence[str]) -> str:
    """Write texts in one of the forms of `prior.text`; say how they are named."""
    if form == "text.txt":
        (folder / form).write_text("\n".join(texts))
        return str(folder / form)
    if form.startswith("a.jsonl"):
        lines = [json.dumps({"text": "Oslo", "body": text}) for text in texts]
        (folder / "a.jsonl").write_text("\n".join(lines))
        return str(folder / form)
    saved, name = Dataset.from_dict({"text": list(texts)}), form.partition("@")[0]
    shutil.rmtree(folder / name, ignore_errors=True)
    whole = DatasetDict({"train": saved, "test": saved.select([0])})
    (whole if "@" in form else saved).save_to_disk(str(folder / name))
    return str(folder / form)


@pytest.mark.parametrize("form", ["text.txt", "a.jsonl#body", "one", "many@train"])
def test_a_covariance_that_was_kept_is_not_taken_for_a_text_that_was_changed(
    federate: Make, tmp_path: Path, form: str
) -> None:
    """In any of its forms; the same text is taken."""
    checkpoint: dict[str, FlatValue] = {"checkpoint": str(tmp_path / "checkpoint")}

    def prepare_on(texts: Sequence[str]) -> Preparation:
        prior = {**FEDERATED, "text": write_text(tmp_path, form, texts)}
        return federate(prior=prior, output=checkpoint).preparation

    first, again = prepare_on(TEXT), prepare_on(TEXT)
    assert again.inputs == first.inputs
    with pytest.raises(InputError, match=r"another prior\.text;"):
        prepare_on(TEXT[1:])


@pytest.mark.parametrize("other", ["a.jsonl", "b.jsonl#body"])
def test_a_covariance_that_was_kept_is_of_the_text_that_was_named(
    federate: Make, tmp_path: Path, other: str
) -> None:
    """Another field of the same file is another text."""
    named = write_text(tmp_path, "a.jsonl#body", TEXT)
    tables: dict[str, dict[str, FlatValue]] = {
        "prior": {**FEDERATED, "text": named},
        "output": {"checkpoint": str(tmp_path / "checkpoint")},
    }
    _ = federate(**tables).preparation
    tables["prior"] = {**FEDERATED, "text": str(tmp_path / other)}
    with pytest.raises(InputError, match=r"another prior\.text;"):
        _ = federate(**tables).preparation


@pytest.mark.usefixtures("no_page")
def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The covariance of its first round is that of its last."""
    rounds: dict[str, FlatValue] = {"rounds": 3}
    whole = run_into(tmp_path / "a" / "whole", world, run=rounds)
    output: dict[str, FlatValue] = {"checkpoint": str(tmp_path / "b" / "checkpoint")}
    calls = 0

    solve = System.solve

    def solve_twice(system: System, statistics: LayerStatistics) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2 * len(LAYERS) + 1:
            raise RuntimeError("killed in the third round")
        return solve(system, statistics)

    with monkeypatch.context() as patch:
        patch.setattr(System, "solve", solve_twice)
        with pytest.raises(RuntimeError, match="killed"):
            run_into(tmp_path / "b" / "cut", world, run=rounds, output=output)
    again = run_into(tmp_path / "b" / "cut", world, run=rounds, output=output)
    ours, theirs = (
        load_delta(tmp_path / place / "delta.safetensors")[0]
        for place in ("b/cut", "a/whole")
    )
    assert_same_bits(ours, theirs)
    assert again["covariance"] == whole["covariance"]
    assert again["inputs"] == whole["inputs"]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_means_may_be_off_by_the_ratio_both_ways(federate: Make, dtype: str) -> None:
    """Of the keys that the server reads itself; an honest text is well within."""
    prepared = federate(model={"dtype": dtype}, prior=FEDERATED).preparation
    found = bound_means(prepared.model, prepared.plan, 100.0)
    assert tuple(found) == LAYERS
    for layer, bounds in found.items():
        own = prepared.norms.keys[layer]
        assert bounds.least == pytest.approx(own.median / 1e4)
        assert bounds.most == pytest.approx(own.mean * 1e4)
        mean = float(prepared.covariance.moments[layer].trace())
        assert 100 * bounds.least < mean < bounds.most / 100
