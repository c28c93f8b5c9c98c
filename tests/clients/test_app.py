"""The client answers with statistics, and with the class of what went wrong."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto

import clients.app
from clients.app import (
    OtherModelError,
    app,
    classify,
    identify,
    load_model,
)
from clients.requests import read_client_config
from editing.architectures import ModelError, load_editable_model
from editing.errors import InputError
from editing.requests import RequestError
from editing.solving import IllConditionedError
from sims.in_process import make_contexts
from strategies.messages import (
    PROTOCOL_VERSION,
    Failure,
    ModelIdentity,
    Phase,
    ProtocolError,
    read_failure,
    read_introduction,
    write_job,
)
from strategies.scenario import ModelConfig
from tests.federation import Federation, settings_of

Make = Callable[..., Federation]


def ask(
    federation: Federation, phase: Phase, content: RecordDict | None = None
) -> Message:
    """Send the second party a message."""
    node = federation.node(1)
    message = Message(
        content or RecordDict(), dst_node_id=node, message_type=phase.value
    )
    return app(message, federation.contexts[node])


def job_of(federation: Federation, **changes: object) -> RecordDict:
    """Write the job of the first round."""
    job = federation.preparation.job(federation.config, "run", pooled=False)
    changed = job.model_copy(update={"round": 1, "layers": (1,), **changes})
    return write_job(changed, ArrayRecord())


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ProtocolError("x"), "another protocol version"),
        (OtherModelError("x"), "another model"),
        (ModelError("x"), "a model that cannot be loaded"),
        (RequestError("x"), "requests that cannot be used"),
        (InputError("x"), "requests that cannot be used"),
        (MemoryError("x"), "not enough memory"),
        (torch.OutOfMemoryError("x"), "not enough memory"),
        (ZeroDivisionError("x"), "arithmetic that failed"),
        (IllConditionedError("x"), "arithmetic that failed"),
        (RuntimeError("x"), "an error of the program"),
        (LookupError("x"), "an error of the program"),
    ],
)
def test_every_exception_has_its_class(error: Exception, failure: Failure) -> None:
    """The most telling one there is."""
    assert classify(error) == failure
    assert failure in get_args(Failure)


def test_a_node_says_which_model_it_holds_and_where_it_stands(federate: Make) -> None:
    """And nothing else."""
    federation = federate()
    said = read_introduction(ask(federation, Phase.DESCRIBE).content)
    model = federation.preparation.model
    assert said.identity == identify(model)
    assert said.identity == ModelIdentity(
        weights=model.fingerprint, tokenizer=model.tokenizer_fingerprint
    )
    assert (said.protocol, said.party) == (PROTOCOL_VERSION, 1)


@pytest.mark.parametrize(
    "phase", [Phase.TARGETS, Phase.STATISTICS, Phase.EVALUATE], ids=str
)
def test_nothing_is_computed_for_a_server_of_another_kind(
    federate: Make, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    """Protocol, model and layers are checked before any arithmetic."""
    federation = federate()
    own = federation.preparation.model
    other = ModelIdentity(weights="v", tokenizer=own.tokenizer_fingerprint)
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

    for name in ("find_targets", "contribute", "judge_requests"):
        monkeypatch.setattr(clients.app, name, never)
    for content, failure in cases:
        assert read_failure(ask(federation, phase, content).content) == failure


def test_an_exception_stays_in_the_node_s_log(
    federate: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Flower alone would send its text to the server."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("/home/secret: Ada Lovelace")

    monkeypatch.setattr(clients.app, "requests_of_round", fail)
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
    cases = [f"party_{party}.json" for party in range(3)]
    assert files_of(federation) == sorted([*cases, *["targets.safetensors"] * 3])
    assert all(not context.state for context in federation.contexts.values())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(federation.private) for path in before)
    assert ask(federation, Phase.FORGET).has_content()
    assert files_of(federation) == sorted(cases)


def test_a_process_loads_its_model_once_and_no_other_in_its_place(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message of a simulation would cost a load."""
    loads: list[tuple[str, ...]] = []

    def load(*arguments: str) -> object:
        loads.append(arguments)
        return load_editable_model(*arguments)

    monkeypatch.setattr(clients.app, "load_editable_model", load)
    clients.app._load.cache_clear()
    (context,) = make_contexts(settings_of(world), 1).values()
    config = read_client_config(context)
    model = load_model(config)
    assert load_model(config) is model
    assert loads == [(str(world), "float64", "cpu")]
    single = ModelConfig(path=str(world), dtype="float32")
    other = load_model(config.model_copy(update={"model": single}))
    assert other.dtype == torch.float32
    assert other.fingerprint != model.fingerprint


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
