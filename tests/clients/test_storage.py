"""The private folder keeps what a party never sends, and nobody else reads it."""

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, RecordDict

import clients.contribution
from clients.contribution import contribute
from clients.selection import Asked
from clients.storage import PrivateFolder
from editing.files.atomic import write_private
from editing.hyperparameters.config import Plan
from editing.models.activations import Relay
from strategies.conflicts.records import Resolution
from strategies.wire.messages import (
    Job,
    ModelIdentity,
    Phase,
    read_statistics,
    write_job,
)
from tests.clients.nodes import UNEDITED, ask
from tests.federation import Federation, world_requests
from tests.laws import make_targets
from tests.tiny import LAYERS, PARAMETERS, TEMPLATES, tiny_model

PLAN = Plan(parameters=PARAMETERS, schedule="layerwise", templates=TEMPLATES)
JOB = Job(identity=ModelIdentity(weights="w", tokenizer="t"), plan=PLAN, round=1)
NOTHING = make_targets(torch.zeros(1, 2), torch.zeros(1, 2))


def context_of(run_id: int = 7, **node_config: str) -> Context:
    """Make the context of a node in a run."""
    return Context(
        run_id=run_id,
        node_id=2,
        node_config={**node_config},
        state=RecordDict(),
        run_config={},
    )


def test_a_run_has_a_folder_of_its_own_where_the_node_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's setting goes before the environment's."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    monkeypatch.delenv("COLLABEDIT_HOME", raising=False)
    found = [PrivateFolder.of_run(context_of()).path]
    monkeypatch.setenv("COLLABEDIT_HOME", str(tmp_path / "home"))
    found.append(PrivateFolder.of_run(context_of()).path)
    private = {"private-folder": str(tmp_path / "private")}
    found.append(PrivateFolder.of_run(context_of(8, **private)).path)
    places = ("flower/collabedit/7", "home/7", "private/8")
    assert found == [tmp_path / place for place in places]


@pytest.mark.parametrize("name", ["night-2", "../../etc", "/etc", "..", "a/b"])
def test_a_run_with_a_name_is_found_again_and_never_leads_out(
    tmp_path: Path, name: str
) -> None:
    """Whatever number Flower gives it; and the name is the server's to choose."""
    private = {"private-folder": str(tmp_path)}
    paths = set()
    for number in (7, 8):
        context = context_of(number, **private)
        context.run_config["run.name"] = name
        paths.add(PrivateFolder.of_run(context).path)
    (found,) = paths
    assert found.parent == tmp_path
    assert found.resolve().parent == tmp_path.resolve()


def test_targets_are_kept_with_the_run_until_it_is_forgotten(tmp_path: Path) -> None:
    """All else stays for its owner, and a folder that runs share stays for runs."""
    folder, shared = PrivateFolder(tmp_path / "run"), tmp_path / "shared"
    folder.targets(shared).keep("a", NOTHING)
    folder.keep_distances(JOB, 3, {(3, 0): (1.5, 0.25)})
    kept: list[dict[str, object]] = [
        {"case_id": 5, "post": {"é": 1}},
        {"case_id": 6},
    ]
    folder.keep_cases(JOB, 3, kept, "name")
    assert folder.find_cases("name") == kept
    assert folder.targets().path.parent == folder.path
    assert folder.targets().find("a") is not None
    folder.forget()
    assert folder.targets().find("a") is None
    assert folder.find_distances(JOB, 3) == {1: {(3, 0): (1.5, 0.25)}}
    assert folder.targets(shared).find("a") is not None
    (cases,) = (tmp_path / "run").rglob("*.jsonl")
    assert cases == tmp_path / "run/cases/run/round_1/party_3.jsonl"
    lines = [json.loads(line) for line in cases.read_text().splitlines()]
    assert lines == kept
    assert folder.find_cases("name") is None
    folder.forget()


def test_cases_are_found_by_name_whatever_is_filed_later(tmp_path: Path) -> None:
    """A round that starts again replaces its file, and not what other rounds find."""
    folder = PrivateFolder(tmp_path / "run")
    folder.keep_cases(JOB, 3, [{"nll": 0.1}], "first")
    folder.keep_cases(JOB, 3, [{"nll": 0.2}], "second")
    folder.keep_cases(JOB, 4, [{"nll": 0.1, "party": 4}], "first")
    assert folder.find_cases("first") == [{"nll": 0.1}]
    assert folder.find_cases("second") == [{"nll": 0.2}]
    assert folder.find_cases("third") is None
    (folder.path / "evaluations" / "second.jsonl").write_text("{")
    assert folder.find_cases("second") is None


def test_distances_are_found_by_round_label_and_party(tmp_path: Path) -> None:
    """Those of rounds to come are not looked at."""
    folder = PrivateFolder(tmp_path)
    rounds = [JOB.model_copy(update={"round": number}) for number in (0, 1, 2, 3)]
    for job in rounds[1:]:
        folder.keep_distances(job, 0, {(0, 0): (job.round, 0.1), (4, 1): (2.0, 0.2)})
    found = {
        number: {(0, 0): (float(number), 0.1), (4, 1): (2.0, 0.2)} for number in (1, 2)
    }
    assert folder.find_distances(rounds[2], 0) == found
    assert folder.find_distances(rounds[0], 0) == {}
    assert folder.find_distances(rounds[2], 1) == {}
    other = rounds[2].model_copy(update={"label": "ties"})
    assert folder.find_distances(other, 0) == {}


def test_a_party_reads_which_of_its_requests_met_another_one(tmp_path: Path) -> None:
    """Each resolution once, however often a run repeats it for another merge."""
    folder = PrivateFolder(tmp_path / "run")
    asked = [Asked(2, 1, place, world_requests()[place]) for place in (0, 1)]
    resolutions = [
        Resolution(
            round=1, party=2, place=1, fact="0" * 32, reason="conflict", kept=False
        ),
        Resolution(
            round=1, party=2, place=0, fact="1" * 32, reason="duplicate", kept=True
        ),
    ]
    folder.keep_resolutions(JOB, 2, asked, [])
    assert not folder.path.exists()
    folder.keep_resolutions(JOB, 2, asked, resolutions[:1])
    for label in ("run", "ties"):
        job = JOB.model_copy(update={"label": label})
        folder.keep_resolutions(job, 2, asked, resolutions)
    lines = (folder.path / "resolutions.jsonl").read_text().splitlines()
    first, second = (each.request.case_id for each in asked)
    assert list(map(json.loads, lines)) == [
        {
            "round": 1,
            "party": 2,
            "case_id": second,
            "reason": "conflict",
            "kept": False,
        },
        {
            "round": 1,
            "party": 2,
            "case_id": first,
            "reason": "duplicate",
            "kept": True,
        },
    ]
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def resolution_of(number: int, party: int, *, kept: bool) -> Resolution:
    """A resolution on the first request of a party's in a round."""
    return Resolution(
        round=number,
        party=party,
        place=0,
        fact="0" * 32,
        reason="conflict",
        kept=kept,
    )


def read_resolutions_of(folder: PrivateFolder) -> list[tuple[int, int, bool]]:
    """Shorten what parties read to round, party and whether it is edited."""
    text = (folder.path / "resolutions.jsonl").read_text()
    lines = map(json.loads, text.splitlines())
    return [(line["round"], line["party"], line["kept"]) for line in lines]


def test_resolutions_of_an_abandoned_attempt_are_replaced(
    tmp_path: Path,
) -> None:
    """Of a party that shares the folder it stays, and so does that of rounds before."""
    folder = PrivateFolder(tmp_path / "run")
    asked = [
        Asked(party, number, 0, world_requests()[0])
        for party in (0, 1)
        for number in (1, 2)
    ]
    first, second = (JOB.model_copy(update={"round": number}) for number in (1, 2))
    for party in (1, 0):
        kept_now = [resolution_of(1, party, kept=party == 0)]
        folder.keep_resolutions(first, party, asked, kept_now)
    assert read_resolutions_of(folder) == [(1, 0, True), (1, 1, False)]
    rival = [resolution_of(2, 1, kept=False), resolution_of(1, 1, kept=True)]
    folder.keep_resolutions(second, 1, asked, rival)
    assert len(read_resolutions_of(folder)) == 4
    folder.keep_resolutions(second, 1, asked, [resolution_of(2, 1, kept=True)])
    assert read_resolutions_of(folder) == [(1, 0, True), (1, 1, False), (2, 1, True)]
    folder.keep_resolutions(second, 1, asked, [])
    assert read_resolutions_of(folder) == [(1, 0, True), (1, 1, False)]
    folder.keep_resolutions(second, 1, asked, rival)
    folder.keep_resolutions(first, 1, asked, [])  # gone on with from the start
    assert read_resolutions_of(folder) == [(1, 0, True)]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks on files")
def test_parties_that_write_at_once_all_get_their_resolutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As processes of a simulation that share a folder: one comes amid another."""
    folder = PrivateFolder(tmp_path / "run")
    asked = [Asked(party, 1, 0, world_requests()[0]) for party in (0, 1)]
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:

        def write_slowly(file: Path, data: bytes) -> None:
            if file.name == "resolutions.jsonl":
                os.write(say, b".")
                time.sleep(0.3)
            write_private(file, data)

        monkeypatch.setattr("clients.storage.write_private", write_slowly)
        folder.keep_resolutions(JOB, 0, asked, [resolution_of(1, 0, kept=True)])
        os._exit(0)
    os.read(ready, 1)
    folder.keep_resolutions(JOB, 1, asked, [resolution_of(1, 1, kept=False)])
    assert os.waitpid(child, 0)[1] == 0
    assert read_resolutions_of(folder) == [(1, 0, True), (1, 1, False)]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    "write",
    [
        lambda folder: folder.keep_cases(JOB, 0, [], "name"),
        lambda folder: folder.targets().keep("a", NOTHING),
    ],
    ids=["cases", "targets"],
)
def test_only_the_owner_reads_the_folder(
    tmp_path: Path, exists: bool, write: Callable[[PrivateFolder], None]
) -> None:
    """Whatever the umask is, and whoever made the folder."""
    path = tmp_path / "run"
    if exists:
        path.mkdir(mode=0o755)
    write(PrivateFolder(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("label", ["../../../elsewhere", "/elsewhere", "..", "a.b:C"])
def test_a_label_from_the_server_does_not_lead_out_of_the_folder(
    tmp_path: Path, label: str
) -> None:
    """The server names parts of a run and no places on a party's disk."""
    run = tmp_path / "deep" / "er" / "run"
    job = JOB.model_copy(update={"label": label})
    PrivateFolder(run).keep_cases(job, 0, [{"case_id": 1}], "name")
    PrivateFolder(run).keep_distances(job, 0, {})
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert file.resolve().is_relative_to(run.resolve())
        parts = file.relative_to(run).parts
        assert len(parts) == (2 if parts[0] == "evaluations" else 4)


def relayed(
    folder: PrivateFolder, job: Job, carried: dict[str, str], value: float = 0.0
) -> int | None:
    """Run an exchange that keeps one state; say at which block it began."""
    model = tiny_model()
    with folder.relay(job, 0, carried, model) as relay:
        if relay.kept is not None:
            relay.kept.states["batch"] = torch.full((1, 2, 3), value)
    if relay.start is None:
        return None
    assert torch.equal(relay.start.states["batch"], torch.ones(1, 2, 3))
    return relay.start.layer


def test_hidden_states_are_used_on_the_model_that_gave_them_alone(
    tmp_path: Path,
) -> None:
    """An update of the block that they enter does not matter, one before it does."""
    folder = PrivateFolder(tmp_path / "run")
    first, second = (JOB.model_copy(update={"layers": (layer,)}) for layer in (1, 2))
    other = JOB.identity.model_copy(update={"weights": "v"})
    names = [tiny_model().weight_name(layer) for layer in range(3)]
    now, later = {names[0]: "a"}, {names[0]: "a", names[1]: "b"}
    cases = [
        (second, later, 1),
        (second, later | {names[0]: "c"}, None),
        (second.model_copy(update={"identity": other}), later, None),
        (JOB.model_copy(update={"layers": (0, 1, 2)}), later, None),
    ]
    for job, carried, begun in cases:
        relayed(folder, first, now, 1.0)
        file = folder.path / "states" / "run" / "party_0.safetensors"
        assert file.stat().st_mode & 0o777 == 0o600
        assert relayed(folder, job, carried) == begun
        assert not file.exists()  # no exchange of the round comes after
        assert relayed(folder, job, carried) is None


def test_hidden_states_that_are_damaged_are_not_used(tmp_path: Path) -> None:
    """The exchange begins at the first block, and the round continues."""
    folder = PrivateFolder(tmp_path / "run")
    first, second = (JOB.model_copy(update={"layers": (layer,)}) for layer in (1, 2))
    relayed(folder, first, {}, 1.0)
    file = folder.path / "states" / "run" / "party_0.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    assert relayed(folder, second, {}) is None
    relayed(folder, first, {}, 1.0)
    folder.forget()
    assert not file.exists()


def test_the_next_exchange_begins_where_the_last_one_stopped(
    federate: Callable[..., Federation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bits of one that begins at the first block, and nothing stays."""
    federation = federate(editing={"schedule": "layerwise"})
    model, first = federation.preparation.model, LAYERS[0]
    delta = {model.weight_name(first): 0.1 * torch.ones(model.widths(first))}
    arrays = ArrayRecord({name: Array(u.numpy()) for name, u in delta.items()})
    job = federation.preparation.job(federation.config, "run", pooled=False)
    job = job.model_copy(update={"round": 1, "layers": (first,), "before": UNEDITED})
    later = job.model_copy(update={"layers": LAYERS[1:]})
    started: list[int | None] = []

    def note(*given: object) -> object:
        relay = given[-1]
        assert isinstance(relay, Relay)
        started.append(None if relay.start is None else relay.start.layer)
        return contribute(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(clients.contribution, "contribute", note)
    found = []
    for lost in (False, True):
        ask(federation, Phase.TARGETS, write_job(job, ArrayRecord()))
        (file,) = federation.private.rglob("states/*/*.safetensors")
        if lost:
            file.unlink()
        reply = ask(federation, Phase.STATISTICS, write_job(later, arrays))
        found.append(read_statistics(reply.content, LAYERS[1], 1))
        assert not file.exists()
    assert started == [None, first, None, None]
    for name, tensor in found[0].tensors.items():
        assert torch.equal(tensor, found[1].tensors[name])
