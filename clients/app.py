"""The program beside private requests; it answers with statistics of them."""

import logging
from collections.abc import Callable
from functools import lru_cache

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.contribution import (
    contribute,
    find_targets,
    judge_requests,
    kept_targets,
    sum_by_round,
)
from clients.requests import ClientConfig, read_client_config
from clients.selection import asked_in, asked_until
from clients.storage import PrivateFolder
from editing.architectures import EditableModel, ModelError, load_editable_model
from editing.deltas import applied
from editing.embedded import resolve_model
from editing.errors import InputError
from strategies.messages import (
    PROTOCOL_VERSION,
    Failure,
    Introduction,
    Job,
    ModelIdentity,
    ProtocolError,
    TargetsReply,
    read_delta,
    read_job,
    write_failure,
    write_introduction,
    write_judgements,
    write_metrics,
    write_statistics,
    write_targets_reply,
)

logger = logging.getLogger(__name__)


class OtherModelError(InputError):
    """Server and client do not hold the same model."""


def keep_private(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    """Answer a failure with its class alone; what it says stays in this node's log.

    Flower would send an exception's text to the server, with paths and prompts in it.
    """
    try:
        return call_next(message, context)
    except Exception as error:
        logger.error("%s failed", message.metadata.message_type, exc_info=error)
        return Message(write_failure(classify(error)), reply_to=message)


app = ClientApp(mods=[keep_private])


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Say which model this node holds."""
    config = speak_for(message, read_client_config(context))
    introduction = Introduction(
        protocol=PROTOCOL_VERSION,
        identity=identify(load_model(config)),
        party=config.party,
    )
    return Message(write_introduction(introduction), reply_to=message)


@app.train("targets")
def find_round_targets(message: Message, context: Context) -> Message:
    """Compute the targets of the round's requests and keep them here."""
    config, model, job = prepare(message, context)
    asked = asked_in(config, job.round, pooled=job.pooled)
    requests = [each.request for each in asked]
    if requests:
        with applied(read_delta(message), model.model):
            folder = PrivateFolder.of_run(context)
            find_targets(model, requests, job, folder, config.batch_size)
    reply = TargetsReply(requests=len(requests))
    return Message(write_targets_reply(reply), reply_to=message)


@app.train("statistics")
def contribute_statistics(message: Message, context: Context) -> Message:
    """Send the statistics of the layers asked for, on the model as edited so far."""
    config, model, job = prepare(message, context)
    asked = asked_in(config, job.round, pooled=job.pooled)
    requests = [each.request for each in asked]
    targets = kept_targets(requests, job, PrivateFolder.of_run(context))
    # Requests from a common source mean a simulation: it repeats, rotations included.
    seed = f"{config.seed}/{config.party}" if config.own_requests is None else None
    with applied(read_delta(message), model.model):
        parts = contribute(model, requests, targets, job, seed)
    return Message(write_statistics(parts), reply_to=message)


@app.evaluate("requests")
def judge(message: Message, context: Context) -> Message:
    """Judge the requests of all rounds so far; sums leave, cases stay.

    In round 0 the first round's requests are judged, before any edit.
    """
    config, model, job = prepare(message, context)
    asked = asked_until(config, job.round, pooled=job.pooled)
    with applied(read_delta(message), model.model):
        cases = judge_requests(model, asked)
    PrivateFolder.of_run(context).keep_cases(job, config.party, cases)
    return Message(write_judgements(sum_by_round(cases)), reply_to=message)


@app.query("forget")
def forget(message: Message, context: Context) -> Message:
    """Remove the run's targets from this node."""
    PrivateFolder.of_run(context).forget()
    return Message(write_metrics({}), reply_to=message)


def prepare(
    message: Message, context: Context
) -> tuple[ClientConfig, EditableModel, Job]:
    """Read settings, model and job, and check them before any arithmetic.

    Raises:
        OtherModelError: If server and client hold other models.
    """
    job = read_job(message.content)
    config = speak_for(message, read_client_config(context))
    model = load_model(config)
    different = job.identity.differences(identify(model))
    if different:
        raise OtherModelError(
            f"This node's model differs from the server's in {', '.join(different)}. "
            "Load the same files in the same precision (`model.path`, `model.dtype`)."
        )
    model.check_layers(job.plan.parameters.layers)
    return config, model, job


def speak_for(message: Message, config: ClientConfig) -> ClientConfig:
    """Take the party that a simulation's message names, where nodes are shared.

    A node with requests of its own speaks for nobody else.
    """
    place = message.content.config_records.get("party")
    if place is None or config.own_requests is not None:
        return config
    return config.model_copy(update={"party": int(str(place["place"]))})


def load_model(config: ClientConfig) -> EditableModel:
    """Load the model once in a process, and take only the threads that are allowed.

    Sums depend on the number of threads, so it is a setting and no matter of the
    machine: the same run gives the same bits in any engine.
    """
    torch.set_num_threads(config.model.threads)
    path = resolve_model(config.model.path)
    return _load(path, config.model.dtype, config.model.device)


@lru_cache(maxsize=1)
def _load(path: str, dtype: str, device: str) -> EditableModel:
    return load_editable_model(path, dtype, device)


def identify(model: EditableModel) -> ModelIdentity:
    """What must be equal at all nodes."""
    return ModelIdentity(
        weights=model.fingerprint, tokenizer=model.tokenizer_fingerprint
    )


def classify(error: Exception) -> Failure:
    """Say of a failure what the server may know."""
    kinds: list[tuple[type[Exception], Failure]] = [
        (ProtocolError, "another protocol version"),
        (OtherModelError, "another model"),
        (ModelError, "a model that cannot be loaded"),
        (ArithmeticError, "arithmetic that failed"),
        (InputError, "requests that cannot be used"),
        (MemoryError, "not enough memory"),
        (torch.OutOfMemoryError, "not enough memory"),
    ]
    for kind, failure in kinds:
        if isinstance(error, kind):
            return failure
    return "an error of the program"
