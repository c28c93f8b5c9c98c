"""The client answers with statistics, and with the class of what went wrong."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto
from torch import Tensor

import clients.app
from clients.app import app, identify, load_model
from clients.settings import read_client_config
from clients.target_cache import clear_cache
from editing.algebra.deltas import applied
from editing.algebra.encodings import decode
from editing.algebra.statistics import StatisticsError
from editing.memit.keys import extract_keys
from editing.memit.residuals import read_hidden
from editing.memit.targets import compute_targets
from editing.models.loading import EditableModel, load_editable_model
from editing.models.module_names import ModuleNames
from sims.runs.in_process import make_contexts
from strategies.scenario import ModelConfig
from strategies.wire.failures import Failure, read_failure
from strategies.wire.handshakes import read_handshake, validate_handshake
from strategies.wire.messages import (
    PROTOCOL_VERSION,
    ModelIdentity,
    Phase,
    read_statistics,
    write_job,
)
from strategies.wire.metrics import read_evaluation
from tests.clients.nodes import UNEDITED, ask, cases_of, job_of
from tests.federation import (
    Federation,
    settings_of,
)
from tests.laws import assert_same
from tests.tiny import LAYERS, PARAMETERS

Make = Callable[..., Federation]


def test_a_node_says_which_model_it_holds_and_where_it_stands(federate: Make) -> None:
    """And nothing else."""
    federation = federate()
    asking = job_of(federation)
    said = read_handshake(ask(federation, Phase.DESCRIBE, asking).content)
    model = federation.preparation.model
    assert said.identity == identify(model)
    assert said.identity == ModelIdentity(
        weights=model.fingerprint,
        tokenizer=model.tokenizer_fingerprint,
        configuration=model.configuration_fingerprint,
    )
    assert (said.protocol, said.party) == (PROTOCOL_VERSION, 1)


def test_nothing_is_loaded_for_a_server_of_another_protocol(
    federate: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server gets the node's protocol, and the node's log the server's."""
    federation = federate()
    newer = job_of(federation, protocol=99)
    job = federation.preparation.job(federation.config, "run", pooled=False)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(clients.app, "load_model", never)
    for content in (newer, RecordDict()):
        said = read_handshake(ask(federation, Phase.DESCRIBE, content).content)
        assert said.protocol == PROTOCOL_VERSION
        with pytest.raises(StatisticsError, match=f"protocol {PROTOCOL_VERSION}, the"):
            validate_handshake(said, job.model_copy(update={"protocol": 99}))
    assert "The server uses protocol 99" in caplog.text


@pytest.mark.parametrize(
    "phase",
    [Phase.TOKENS, Phase.TARGETS, Phase.STATISTICS, Phase.MEMORY, Phase.EVALUATE],
    ids=str,
)
def test_nothing_is_computed_for_a_server_of_another_kind(
    federate: Make, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    """Protocol, model and layers are checked before any arithmetic."""
    federation = federate()
    own = federation.preparation.model
    other = identify(own).model_copy(update={"weights": "v"})
    plan = federation.preparation.plan
    outside = plan.parameters.model_copy(update={"layers": (1, 4)})
    cases: list[tuple[RecordDict, Failure]] = [
        (RecordDict(), "another protocol version"),
        (job_of(federation, protocol=99), "another protocol version"),
        (job_of(federation, identity=other), "another model"),
        (
            job_of(federation, plan=plan.model_copy(update={"parameters": outside})),
            "requests that cannot be used",
        ),
    ]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    for name in (
        "find_targets",
        "sum_statistics",
        "evaluate_own_requests",
        "blind_requests",
    ):
        monkeypatch.setattr(clients.app, name, never)
    for content, failure in cases:
        assert read_failure(ask(federation, phase, content).content) == failure


def test_an_exception_stays_in_the_node_s_log(
    federate: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Flower alone would send its text to the server."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("/home/secret: Ada Lovelace")

    monkeypatch.setattr("clients.contribution.asked_in", fail)
    federation = federate()
    with caplog.at_level(logging.ERROR):
        reply = ask(federation, Phase.TARGETS, job_of(federation))
    assert b"secret" not in message_to_proto(reply).SerializeToString()
    assert not reply.has_error()
    assert list(reply.content) == ["failure"]
    assert "/home/secret: Ada Lovelace" in caplog.text


def test_statistics_without_targets_are_an_error_and_no_zeros(federate: Make) -> None:
    """A client that lost its folder does not make them up."""
    federation = federate()
    reply = ask(federation, Phase.STATISTICS, job_of(federation))
    assert read_failure(reply.content) == "an error of the program"


def files_of(federation: Federation) -> list[str]:
    """List what lies in the private folder of the run, without digests."""
    files = [path for path in federation.private.rglob("*") if path.is_file()]
    return sorted(f"{path.parent.name}{path.suffix}" for path in files)


def test_targets_and_cases_lie_in_the_private_folder_alone(
    federate: Make, tmp_path: Path
) -> None:
    """Flower's state of a node travels to the driver; it stays empty."""
    federation = federate(parties={"requests-per-round": 1})
    federation.run()
    results = [*["round_1.jsonl"] * 3, *["round_1.json"] * 3]
    work = ["round_1.sha256", "evaluations.jsonl"] * 3
    targets = ["targets.safetensors"] * 2  # of the first party, and of the others
    updates = ["updates.safetensors"] * len(LAYERS)
    assert files_of(federation) == sorted([*results, *work, *targets, *updates])
    assert all(not context.state for context in federation.contexts.values())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(federation.private) for path in before)
    assert ask(federation, Phase.FORGET).has_content()
    assert files_of(federation) == sorted(results)


@pytest.mark.parametrize("merge", ["collabedit", "global"])
def test_every_round_evaluates_all_rounds_so_far_and_names_each_case_s_party(
    federate: Make, merge: str
) -> None:
    """A pool's cases are of the parties that it stands for."""
    federation = federate(run={"rounds": 2})
    federation.run(merge, evaluate_unedited=True)
    files = sorted(federation.private.glob(f"*/cases/{merge}/*/*.jsonl"))
    after: dict[str, list[tuple[int, int, int]]] = {
        name: [] for name in ("round_0", "round_1", "round_2")
    }
    for file in files:
        lines = map(json.loads, file.read_text().splitlines())
        after[file.parent.name] += [
            (case["round"], case["party"], case["case_id"]) for case in lines
        ]
    asked = [
        [
            (number, party, request.case_id)
            for party, requests in enumerate(federation.requests_of_parties(number))
            for request in requests
        ]
        for number in (1, 2)
    ]
    assert sorted(after["round_0"]) == sorted(after["round_1"]) == asked[0]
    assert sorted(after["round_2"]) == sorted(asked[0] + asked[1])
    assert len(files) == (9 if merge == "collabedit" else 3)
    last = read_evaluation(federation.replies(Phase.EVALUATE)[-1].content)
    assert list(last.by_round) == [1, 2]


def test_cases_say_how_far_their_targets_lay_before_their_round_s_edit(
    federate: Make,
) -> None:
    """By the definition, on the model with the updates of the rounds before."""
    federation = federate(run={"rounds": 2}, parties={"count": 1})
    first = federate(run={"rounds": 1}, parties={"count": 1}).delta()
    federation.run(evaluate_unedited=True)
    model, plan = federation.preparation.model, federation.preparation.plan
    cases = cases_of(federation)
    assert [case["residual_norm"] for case in cases[:2]] == [None, None]
    for number, delta in ((1, {}), (2, first)):
        requests = federation.requests(number)
        with applied(delta, model.model):
            targets = compute_targets(model, requests, plan.templates, plan.parameters)
            hidden = read_hidden(model, requests, LAYERS[-1])
        for request, target, before in zip(
            requests, targets.states, hidden, strict=True
        ):
            norm = float((target - before).norm())
            mine = [case for case in cases[2:] if case["case_id"] == request.case_id]
            assert len(mine) == 3 - number
            for case in mine:
                assert case["residual_norm"] == pytest.approx(norm)
                assert case["residual_ratio"] == pytest.approx(
                    norm / float(before.norm())
                )


def test_memory_is_of_the_round_s_keys_on_the_model_as_it_stands(
    federate: Make,
) -> None:
    """Read again with the updates of the message, whatever the schedule."""
    federation = federate(editing={"schedule": "alone"})
    model, plan = federation.preparation.model, federation.preparation.plan
    delta = {model.weight_name(layer): draw_update(model, layer) for layer in LAYERS}
    arrays = ArrayRecord({name: Array(u.numpy()) for name, u in delta.items()})
    job = federation.preparation.job(federation.config, "run", pooled=False)
    changes = {"round": 1, "layers": LAYERS, "before": UNEDITED}
    job = job.model_copy(update=changes)
    ask(federation, Phase.TARGETS, write_job(job, ArrayRecord()))
    reply = ask(federation, Phase.MEMORY, write_job(job, arrays))
    with applied(delta, model.model):
        keys = extract_keys(
            model, federation.requests_of_parties(1)[1], plan.templates, LAYERS
        )
    for layer in LAYERS:
        found = decode(read_statistics(reply.content, layer, 1), 24, 16)
        assert_same(found.gram, keys[layer].mT @ keys[layer])


def test_targets_are_filed_by_what_the_model_carries_and_not_by_what_is_said(
    federate: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one wrong word would give later runs the targets of another model."""
    monkeypatch.setenv("COLLABEDIT_CACHE", str(tmp_path / "shared"))
    federation = federate()
    wrong = job_of(federation, before="other updates")
    assert read_failure(ask(federation, Phase.TARGETS, wrong).content) is None
    reply = ask(federation, Phase.STATISTICS, wrong)
    assert read_failure(reply.content) == "an error of the program"
    assert (
        read_failure(ask(federation, Phase.STATISTICS, job_of(federation)).content)
        is None
    )


@pytest.mark.parametrize("warm", [False, True])
def test_a_shared_cache_that_is_cleared_stops_no_run(
    federate: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    """Cold or warm, the run has its own copy of a round's targets until it forgets."""
    shared = tmp_path / "shared"
    monkeypatch.setenv("COLLABEDIT_CACHE", str(shared))
    federation = federate()
    job = job_of(federation)
    for _ in range(1 + warm):
        ask(federation, Phase.FORGET)
        assert read_failure(ask(federation, Phase.TARGETS, job).content) is None
    assert clear_cache(shared) == 1
    for phase in (Phase.STATISTICS, Phase.MEMORY):
        assert read_failure(ask(federation, phase, job).content) is None
    ask(federation, Phase.FORGET)
    assert not list(federation.private.rglob("*.safetensors"))
    reply = ask(federation, Phase.STATISTICS, job)
    assert read_failure(reply.content) == "an error of the program"


def draw_update(model: EditableModel, layer: int) -> Tensor:
    """Draw an update that changes later keys."""
    generator = torch.Generator().manual_seed(layer)
    shape = model.widths(layer)
    return 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_a_process_loads_its_model_once_and_no_other_in_its_place(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message of a simulation would cost a load."""
    loads: list[tuple[object, ...]] = []

    def load(path: str, dtype: str, device: str, naming: ModuleNames | None) -> object:
        loads.append((path, dtype, device, naming))
        return load_editable_model(path, dtype, device, naming)

    monkeypatch.setattr("editing.models.fingerprint_cache.load_editable_model", load)
    clients.app._load.cache_clear()
    (context,) = make_contexts(settings_of(world), 1).values()
    config = read_client_config(context)
    model = load_model(config)
    assert load_model(config) is model
    assert loads == [(str(world), "float64", "cpu", None)]
    single = ModelConfig(path=str(world), dtype="float32")
    other = load_model(config.model_copy(update={"model": single}))
    assert other.dtype == torch.float32
    assert other.fingerprint != model.fingerprint


def test_a_model_is_loaded_anew_for_other_names_of_its_modules_alone(
    world: Path,
) -> None:
    """What else the hyperparameters say has nothing to do with it."""
    (context,) = make_contexts(settings_of(world), 1).values()
    config = read_client_config(context)
    asked = PARAMETERS.model_copy(update={"ln_f_module": "transformer.ln_f"})
    first = load_model(config, asked.naming)
    again = asked.model_copy(update={"layers": (0,), "v_lr": 0.1})
    assert load_model(config, again.naming) is first
    name = "transformer.h.{}.attn.c_proj"
    other = asked.model_copy(update={"rewrite_module_tmp": name})
    assert load_model(config, other.naming).weight_name(1) == f"{name.format(1)}.weight"
    assert first.weight_name(1) == "transformer.h.1.mlp.c_proj.weight"


def test_a_client_takes_as_many_threads_as_it_is_allowed(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums depend on it, so it is no matter of the machine."""
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    flat = settings_of(world, model={"threads": 3})
    (context,) = make_contexts(flat, 1).values()
    load_model(read_client_config(context))
    assert taken == [3]


def test_an_unknown_context_is_no_reason_to_answer(federate: Make) -> None:
    """A message type that the protocol does not have is Flower's error."""
    federation = federate()
    node = federation.node(0)
    message = Message(RecordDict(), dst_node_id=node, message_type="query.everything")
    context: Context = federation.contexts[node]
    with pytest.raises(ValueError, match="everything"):
        app(message, context)
