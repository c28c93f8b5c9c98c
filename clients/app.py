"""The client app next to private requests; it answers with statistics of them."""

import logging
from functools import lru_cache

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.answers.replies import AnswerReplies
from clients.contribution import (
    choose,
    diagnose_edits,
    evaluate_own_requests,
    find_edited,
    leave_unedited,
    name_evaluation,
    read_round_pairs,
    sum_by_round,
    sum_statistics,
)
from clients.covariance.moments import find_own_texts, sum_moments
from clients.covariance.own_prior import own_priors
from clients.failures import OtherModelError, keep_private
from clients.resolutions import blind_requests, find_key
from clients.round_requests import validate_unchanged
from clients.round_targets import (
    batching_of_round,
    distances_of,
    find_later,
    find_targets,
    first_of,
    kept_targets,
    summarise_targets,
)
from clients.secure.answers import Seat, refuse_plain
from clients.selection import asked_in, asked_until, group_by_party
from clients.settings import ClientConfig, read_client_config
from clients.storage import PrivateFolder
from clients.training.replies import TrainingReplies
from clients.updates import find_updates
from editing.algebra.deltas import applied
from editing.evaluation.answers import answer_locality
from editing.evaluation.cases import predict_locality
from editing.files.caches import user_cache
from editing.models.fingerprint_cache import FingerprintCache, load_known_model
from editing.models.loading import EditableModel
from editing.models.module_names import ModuleNames
from editing.sources.embedded import resolve_model
from strategies.conflicts.records import read_resolutions, write_tokens
from strategies.secure.records import (
    read_masked_request,
    read_members,
    read_session,
    read_unmask_request,
    write_keys,
    write_shares,
    write_unmask,
)
from strategies.wire.arrays import digest_all
from strategies.wire.handshakes import Handshake, write_handshake
from strategies.wire.messages import (
    PROTOCOL_VERSION,
    Job,
    ModelIdentity,
    ProtocolError,
    read_job,
    write_contribution,
    write_statistics,
    write_targets_reply,
)
from strategies.wire.metrics import EvaluationSums, write_evaluation
from strategies.wire.moments import write_moments
from strategies.wire.updates import read_carried

logger = logging.getLogger(__name__)

app = ClientApp(mods=[keep_private])


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Answer with this node's handshake.

    No model is loaded for a server of another protocol, which reports the difference.
    """
    config = speak_for(message, read_client_config(context))
    handshake = Handshake(
        protocol=PROTOCOL_VERSION,
        identity=identify_own(message, config),
        party=config.party,
        name=config.name,
    )
    return Message(write_handshake(handshake), reply_to=message)


@app.query("moments")
def send_moments(message: Message, context: Context) -> Message:
    """Send the second moment of this party's own texts, at the layers asked for."""
    config, model, job = prepare(message, context)
    moments = sum_moments(model, find_own_texts(model, config), job.layers)
    masked = read_masked_request(message.content)
    if masked is None:
        return Message(write_moments(moments), reply_to=message)
    seat = Seat.of(config, PrivateFolder.of_run(context), job.label)
    widths = {layer: model.widths(layer)[1] for layer in job.layers}
    return Message(seat.mask_moments(masked, moments, widths), reply_to=message)


@app.query("keys")
def give_keys(message: Message, context: Context) -> Message:
    """Draw fresh keys for the secure sums of a round, and give the public ones."""
    seat, session = take_seat(message, context), read_session(message.content)
    return Message(write_keys(seat.party.open(session)), reply_to=message)


@app.query("shares")
def give_shares(message: Message, context: Context) -> Message:
    """Seal shares of this party's secrets for each other party."""
    seat, request = take_seat(message, context), read_members(message.content)
    return Message(write_shares(seat.party.share(request)), reply_to=message)


@app.query("unmask")
def give_unmask(message: Message, context: Context) -> Message:
    """Give the shares that take the masks off a sum, once."""
    seat = take_seat(message, context)
    request, sealed = read_unmask_request(message.content)
    return Message(write_unmask(seat.party.unmask(request, sealed)), reply_to=message)


def take_seat(message: Message, context: Context) -> Seat:
    """Take this party's seat in the secure sums of the job; no model is loaded."""
    job = read_job(message.content)
    config = speak_for(message, read_client_config(context))
    return Seat.of(config, PrivateFolder.of_run(context), job.label)


@app.query("tokens")
def send_tokens(message: Message, context: Context) -> Message:
    """Send blind tokens of the round's requests, made with a key the server lacks."""
    config, _, job = prepare(message, context)
    folder = PrivateFolder.of_run(context)
    asked = asked_in(config, job.round, pooled=job.pooled)
    validate_unchanged(folder, config, job, asked, message.metadata.message_type)
    key = find_key(config, folder)
    return Message(write_tokens(blind_requests(asked, key)), reply_to=message)


@app.train("answers")
def send_answer_moments(message: Message, context: Context) -> Message:
    """Send moments of keys and gradients at the answers of the round's requests."""
    given = (*prepare(message, context), PrivateFolder.of_run(context))
    return AnswerReplies(message, *given).moments()


@app.train("targets")
def find_round_targets(message: Message, context: Context) -> Message:
    """Compute the targets of the round's requests and keep them here.

    The statistics of the first layers go with the answer: the model is loaded already.
    """
    config, model, job = prepare(message, context)
    folder = PrivateFolder.of_run(context)
    if job.answers is not None:
        return AnswerReplies(message, config, model, job, folder).statistics()
    updates = find_updates(message, folder.updates)
    asked, edited = choose(message, config, job, folder)
    so_far = asked_until(config, job.round, pooled=job.pooled)
    resolutions = read_resolutions(message.content)
    folder.keep_resolutions(job, config.party, so_far, resolutions)
    # Runs may share what is filed, so it goes by what the model carries in truth.
    job = job.model_copy(update={"before": digest_all(read_carried(message.content))})
    groups, cache = group_by_party(edited, config.requests), config.target_cache
    priors = own_priors(message, model, config, job)
    with applied(updates, model.model):
        batching = batching_of_round(config, job.round)
        found = find_targets(model, groups, job, folder.targets(cache), batching)
        folder.keep_distances(job, config.party, distances_of(found))
        reply = summarise_targets(
            found, len(asked) - len(edited), config.parties.skip_known
        )
        masked = read_masked_request(message.content)
        if reply.requests == 0 and masked is None:
            return Message(write_targets_reply(reply), reply_to=message)
        carried = read_carried(message.content)
        with folder.relay(job, config.party, carried, model) as relay:
            given = (model, config, job, found, priors, relay)
            if masked is not None:
                pairs = read_round_pairs(*given, unedited=True)
                seat = Seat.of(config, folder, job.label)
                content = seat.mask_edits(masked, model, pairs, reply)
            else:
                parts = sum_statistics(*given, unedited=True)
                content = write_contribution(reply, parts, job.round)
    return Message(content, reply_to=message)


@app.train("statistics")
def contribute_statistics(message: Message, context: Context) -> Message:
    """Send the statistics of the layers asked for, on the model as edited so far.

    A party that solves alone takes its own updates for those of earlier layers.
    """
    return answer_statistics(message, context)


@app.train("memory")
def contribute_memory(message: Message, context: Context) -> Message:
    """Send statistics of the round's edits, read again on the model after the round."""
    return answer_statistics(message, context, again=True)


def answer_statistics(
    message: Message, context: Context, *, again: bool = False
) -> Message:
    """Send the statistics of what is edited in the round."""
    config, model, job = prepare(message, context)
    folder = PrivateFolder.of_run(context)
    updates = find_updates(message, folder.updates)
    _, edited = choose(message, config, job, folder)
    groups, cache = group_by_party(edited, config.requests), config.target_cache
    batching = batching_of_round(config, job.round)
    found = kept_targets(model, groups, job, folder.targets(cache), batching)
    # Keys that are read again are those of the model as it is.
    priors = None if again else own_priors(message, model, config, job)
    carried = read_carried(message.content)
    unedited = digest_all(carried) == job.before
    relayed = folder.relay(job, config.party, carried, model)
    masked = read_masked_request(message.content)
    with applied(updates, model.model), relayed as relay:
        if job.plan.schedule == "boundary":
            now, unedited = job.model_copy(update={"before": digest_all(carried)}), True
            found = find_later(model, found, now, folder.targets(cache), batching)
        given = (model, config, job, found, priors, relay)
        if masked is not None:
            pairs = read_round_pairs(*given, unedited=unedited)
            seat = Seat.of(config, folder, job.label)
            content = seat.mask_edits(masked, model, pairs)
        else:
            parts = sum_statistics(*given, unedited=unedited)
            content = write_statistics(parts, job.round)
    return Message(content, reply_to=message)


@app.train("begin")
@app.train("values")
@app.train("losses")
@app.train("gradients")
def train_hypernetwork(message: Message, context: Context) -> Message:
    """Send what a step of training asks for, of the first round's requests."""
    return TrainingReplies(message, *prepare(message, context)).answer()


@app.evaluate("requests")
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the requests of all rounds so far; sums leave, cases stay.

    A request is not evaluated on paraphrases that are edited with it. In round 0 the
    first round's requests are evaluated, before any edit.
    """
    config, model, job = prepare(message, context)
    folder = PrivateFolder.of_run(context)
    updates = find_updates(message, folder.updates)
    asked = asked_until(config, job.round, pooled=job.pooled)
    new = [each for each in asked if each.round == job.round]
    validate_unchanged(folder, config, job, new, message.metadata.message_type)
    asked = leave_unedited(group_by_party(asked, config.requests))
    distances = folder.find_distances(job, config.party)
    carried = digest_all(read_carried(message.content))
    measured = config.evaluation.of_round(last=job.last)
    name = name_evaluation(model, asked, measured, job, carried, config.seed)
    known = folder.find_cases(name)
    requests = [each.request for each in asked if known is None]
    before = predict_locality(model, requests)
    generated = measured.asks_answers
    answered = answer_locality(model, requests, measured) if generated else None
    found = find_edited(message, config, model, job, folder)
    parameters = first_of(job).plan.parameters
    skip_known = config.parties.skip_known
    with applied(updates, model.model):
        cases = evaluate_own_requests(
            model,
            asked,
            distances,
            measured,
            seed=config.seed,
            before=before,
            answered=answered,
            known=known,
        )
        diagnosis = diagnose_edits(model, found, skip_known, parameters)
    folder.keep_cases(job, config.party, cases, name)
    evaluation = sum_by_round(cases) + EvaluationSums({job.round: diagnosis})
    masked = read_masked_request(message.content)
    if masked is None:
        return Message(write_evaluation(evaluation), reply_to=message)
    seat = Seat.of(config, folder, job.label)
    return Message(seat.mask_metrics(masked, evaluation), reply_to=message)


@app.query("forget")
def forget(message: Message, context: Context) -> Message:
    """Remove the run's targets and updates, as the node's settings demand."""
    kept = read_client_config(context).keep_private
    PrivateFolder.of_run(context).forget(kept)
    return Message(write_evaluation(EvaluationSums()), reply_to=message)


def prepare(
    message: Message, context: Context
) -> tuple[ClientConfig, EditableModel, Job]:
    """Read settings, model and job, and check them before any arithmetic.

    A question without masks at a node that wants them is a `RefusedSumError`.

    Raises:
        OtherModelError: If server and client hold other models.
    """
    job = read_job(message.content)
    config = speak_for(message, read_client_config(context))
    refuse_plain(message, config)
    model = load_model(config, job.plan.parameters.naming)
    different = job.identity.differences(identify(model))
    if different:
        raise OtherModelError(
            f"This node's model differs from the server's in {', '.join(different)}. "
            "Load the same files in the same precision (`model.path`, `model.dtype`)."
        )
    model.check_layers(job.plan.parameters.layers)
    return config, model, job


def speak_for(message: Message, config: ClientConfig) -> ClientConfig:
    """Return the settings of the party that a simulation's message names, if any.

    A node with requests of its own represents no other party.
    """
    place = message.content.config_records.get("party")
    if place is None or config.own_requests is not None:
        return config
    return config.model_copy(update={"party": int(str(place["place"]))})


def identify_own(message: Message, config: ClientConfig) -> ModelIdentity:
    """Return the identity of this node's model; empty for another protocol."""
    try:
        naming = read_job(message.content).plan.parameters.naming
    except ProtocolError as error:
        logger.error("%s", error)
        return ModelIdentity(weights="", tokenizer="")
    return identify(load_model(config, naming))


def load_model(
    config: ClientConfig, naming: ModuleNames | None = None
) -> EditableModel:
    """Load the model once in a process, with the number of threads that is set.

    A process that was started for one message finds the model's fingerprints among the
    user's caches, so that of mapped weights it reads only what it needs.

    Sums depend on the number of threads, so it is a setting: the same run gives the
    same bits on any machine.

    Args:
        config: The node's settings.
        naming: Names of the model's modules, see `Hyperparameters.naming`.
    """
    torch.set_num_threads(config.model.threads)
    path = resolve_model(config.model.path)
    return _load(path, config.model.dtype, config.model.device, naming)


@lru_cache(maxsize=1)
def _load(
    path: str, dtype: str, device: str, naming: ModuleNames | None
) -> EditableModel:
    known = FingerprintCache(user_cache() / "fingerprints")
    return load_known_model(path, dtype, device, naming, known)


def identify(model: EditableModel) -> ModelIdentity:
    """Return what must be equal at all nodes."""
    return ModelIdentity(
        weights=model.fingerprint,
        tokenizer=model.tokenizer_fingerprint,
        configuration=model.configuration_fingerprint,
    )
