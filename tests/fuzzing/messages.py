"""The kinds of messages, and damage to them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto

from clients.updates import find_updates
from editing.algebra.encodings import Encoding, decode, encode
from editing.algebra.second_moments import TextMoment
from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from editing.answers.vectors import check_moments
from editing.evaluation.metrics import MetricSums
from strategies.conflicts.records import (
    Resolution,
    TokenEntry,
    read_resolutions,
    read_tokens,
    write_resolutions,
    write_tokens,
)
from strategies.wire import answers
from strategies.wire.arrays import digests_of, write_delta
from strategies.wire.failures import read_failed_name, read_failure, write_failure
from strategies.wire.handshakes import (
    Handshake,
    read_handshake,
    validate_handshake,
    write_handshake,
)
from strategies.wire.messages import (
    PROTOCOL_VERSION,
    TargetsReply,
    read_job,
    read_statistics,
    read_targets_reply,
    write_contribution,
    write_job,
    write_targets_reply,
)
from strategies.wire.metrics import EvaluationSums, read_evaluation, write_evaluation
from strategies.wire.moments import read_moments, write_moments
from strategies.wire.priors import read_grams, read_pooled_covariance, write_prior
from strategies.wire.updates import CARRIED, DELTA
from tests.fuzzing.mutations import SHAPES, damage_bytes, damage_tree, write_tree
from tests.laws import draw_pairs
from tests.strategies.transport import JOB, OURS, over_the_wire

D_IN, D_OUT, EDITS = 4, 3, 2
LAYER = 1


@dataclass(frozen=True)
class Kind:
    """A kind of message.

    Attributes:
        make: Packs a sound one.
        read: Reads it, as whoever receives it does; the folder is the receiver's.
    """

    make: Callable[[], RecordDict]
    read: Callable[[Message, Path], object]


def statistics(encoding: Encoding) -> RecordDict:
    """Pack a party's statistics."""
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(EDITS, D_IN, generator=draw, dtype=torch.float64)
    residuals = torch.randn(EDITS, D_OUT, generator=draw, dtype=torch.float64)
    part = encode(keys, residuals, encoding, draw)
    return write_contribution(TargetsReply(requests=EDITS), {LAYER: part}, 2)


def read_contribution(message: Message, _: Path) -> object:
    """Read a summary and statistics, and decode them as the server does."""
    read_targets_reply(message.content)
    found = decode(read_statistics(message.content, LAYER, 2), D_IN, D_OUT)
    return found.gram.sum() + found.cross.sum()


def moments() -> RecordDict:
    """Pack second moments of a text."""
    total = torch.eye(D_IN, dtype=torch.float64)
    return write_moments({LAYER: TextMoment(total, 7)})


def answer_moments() -> RecordDict:
    """Pack moments of keys and gradients."""
    pairs = AnswerPairs(*draw_pairs(4, d_in=D_IN, d_out=D_OUT))
    own = Moments.of_pairs(pairs, products=True)
    return answers.write_moments({(D_OUT, D_IN): own})


def read_answer_moments(message: Message, _: Path) -> object:
    """Read them, and check them as the server does."""
    shape = (D_OUT, D_IN)
    found = answers.read_moments(message.content, [shape], products=True)[shape]
    check_moments(found, shape, 100.0, 100.0)
    return found.std.sum() + found.scatter.sum()


def updates() -> RecordDict:
    """Pack a job with updates that the model carries."""
    delta = {"h.weight": torch.ones(D_OUT, D_IN, dtype=torch.float64)}
    return write_job(JOB, write_delta(delta, torch.float32))


def find_as_they_are(message: Message, folder: Path) -> object:
    """Find updates of which the server says the digests that they have."""
    if DELTA in message.content.array_records:
        digests = digests_of(message.content.array_records[DELTA])
        message.content.pop(CARRIED, None)
        message.content[CARRIED] = ConfigRecord({**digests})
    return find_updates(message, folder)


def prior() -> RecordDict:
    """Pack a job with what a party that solves alone cannot know."""
    gram = torch.eye(D_IN, dtype=torch.float64)
    sent = write_prior({LAYER: gram}, {LAYER: gram})
    return write_job(JOB, ArrayRecord(), prior=sent)


def metrics() -> RecordDict:
    """Pack sums of metrics."""
    sums = MetricSums({"rewrite_acc": 1.0}, {"rewrite_acc": 2})
    return write_evaluation(EvaluationSums({1: sums}))


DIGEST = "ab" * 16
ENTRY = TokenEntry(party=0, place=0, fact=DIGEST, target=DIGEST)
RESOLVED = Resolution(
    round=1, party=0, place=0, fact=DIGEST, reason="conflict", kept=True
)
HELLO = Handshake(protocol=PROTOCOL_VERSION, identity=OURS, party=0, name="a")

PLAIN_KINDS: Mapping[str, Kind] = {
    "handshake": Kind(
        lambda: write_handshake(HELLO),
        lambda message, _: validate_handshake(read_handshake(message.content), JOB),
    ),
    "failure": Kind(
        lambda: write_failure("not enough memory", "a"),
        lambda m, _: (read_failure(m.content), read_failed_name(m.content)),
    ),
    "targets": Kind(
        lambda: write_targets_reply(TargetsReply(requests=3)),
        lambda message, _: read_targets_reply(message.content),
    ),
    "factors": Kind(lambda: statistics("factors"), read_contribution),
    "single factors": Kind(lambda: statistics("factors-float32"), read_contribution),
    "dense": Kind(lambda: statistics("dense"), read_contribution),
    "tokens": Kind(
        lambda: write_tokens([ENTRY]), lambda message, _: read_tokens(message.content)
    ),
    "moments": Kind(
        moments, lambda message, _: read_moments(message.content, {LAYER: D_IN})
    ),
    "answer moments": Kind(answer_moments, read_answer_moments),
    "metrics": Kind(
        metrics, lambda message, _: read_evaluation(message.content, {1: 3.0})
    ),
    "job": Kind(
        lambda: write_job(JOB, ArrayRecord()),
        lambda message, _: read_job(message.content),
    ),
    "updates": Kind(updates, find_updates),
    "updates as they are": Kind(updates, find_as_they_are),
    "resolutions": Kind(
        lambda: RecordDict({"resolutions": write_resolutions([RESOLVED])}),
        lambda message, _: read_resolutions(message.content),
    ),
    "prior": Kind(
        prior,
        lambda m, _: (read_grams(m), read_pooled_covariance(m, {LAYER: D_IN})),
    ),
}
"""Replies, then what the server sends."""

VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2**62, True, 0.5, float("nan"), float("inf"), "", "x", b"", b"\xff"),
    *([1, 2], [0.5], ["a"], [True], "null", "[]", "{}", '"\x1b[2J"', "3"),
    *("\0", "../../x", "x" * 5000, 2**63 - 1, -(2**63), 1e308),
)
"""What a record of settings may hold."""

TYPES = (
    "float64",
    "float32",
    "float16",
    "int8",
    "complex64",
    "bool",
    "object",
    "bogus",
)


def damage_content(content: RecordDict, random: Random) -> None:
    """Change something in a message: a record, a name, a value or an array."""
    if not content or random.random() < 0.1:
        content["strange"] = ConfigRecord({"x": random.choice(VALUES)})
        return
    name = random.choice(list(content))
    record = content[name]
    chosen = random.random()
    if chosen < 0.08:
        del content[name]
    elif chosen < 0.16:
        del content[name]  # replaced by one of another kind, Flower would warn
        content[name] = random.choice((ConfigRecord(), MetricRecord(), ArrayRecord()))
    elif isinstance(record, ArrayRecord):
        _damage_arrays(record, random)
    elif isinstance(record, ConfigRecord):
        _damage_config(record, random)
    else:
        _damage_metrics(record, random)


def _damage_config(record: ConfigRecord, random: Random) -> None:
    if not record:
        record["x"] = random.choice(VALUES)
        return
    key = random.choice(list(record))
    value = record[key]
    if isinstance(value, str) and value[:1] in "[{" and random.random() < 0.7:
        text = write_tree(damage_tree(json.loads(value), random), random)
        record[key] = text.encode(errors="replace").decode()
    elif isinstance(value, bytes) and random.random() < 0.7:
        record[key] = damage_bytes(value, random)
    elif isinstance(value, list) and value and random.random() < 0.7:
        record[key] = random.choice((value[1:], value * 2, value[::-1]))
    elif random.random() < 0.2:
        record[f"{key}{random.choice(('.', '0', '²'))}"] = record.pop(key)
    else:
        record[key] = random.choice(VALUES)


def _damage_metrics(record: MetricRecord, random: Random) -> None:
    numbers: tuple[Any, ...] = (
        0,
        -1,
        2**62,
        0.5,
        float("nan"),
        float("inf"),
        [1],
        [0.5],
    )
    if record and random.random() < 0.7:
        record[random.choice(list(record))] = random.choice(numbers)
        return
    name = random.choice(("round.1.sum.x", "round.²", "round.1.count.", "\x1b", ""))
    record[name] = random.choice(numbers)


def _damage_arrays(record: ArrayRecord, random: Random) -> None:
    if not record:
        record["x"] = Array(np.ones(2))
        return
    name = random.choice(list(record))
    array = record[name]
    chosen = random.random()
    if chosen < 0.1:
        del record[name]
    elif chosen < 0.2:
        record[random.choice((f"{name}/left", f"²{name}", "1.", "x.y", ""))] = array
        del record[name]
    elif chosen < 0.4:
        record[name] = Array(random_array(array, random))
    else:
        shape = random.choice((tuple(array.shape), *map(tuple, SHAPES)))
        record[name] = Array(
            dtype=random.choice((array.dtype, *TYPES)),
            shape=shape,
            stype=random.choice((array.stype, array.stype, "collabedit.raw", "bogus")),
            data=random.choice((array.data, damage_bytes(array.data, random), b"")),
        )


def random_array(array: Array, random: Random) -> np.ndarray:
    """Draw an array of another kind, shape or size of numbers."""
    shapes = [
        tuple(array.shape),
        *(tuple(each) for each in SHAPES if max([0, *each]) < 9),
    ]
    shape = random.choice([each for each in shapes if min([0, *each]) >= 0])
    numbers = np.random.default_rng(random.getrandbits(32)).normal(size=shape)
    scale = random.choice((1.0, 0.0, 1e200, 1e-320, float("nan"), float("inf")))
    kind = random.choice(("f8", "f4", "f2", "i1", "c8", "?"))
    with np.errstate(all="ignore"):
        return np.asarray(numbers * scale).astype(kind)


def damaged(content: RecordDict, random: Random) -> Message | None:
    """Damage a message and send it as bytes; None if Flower itself refuses it."""
    try:
        for _ in range(random.choice((1, 1, 2))):
            damage_content(content, random)
        message = over_the_wire(content)
        if random.random() < 0.2:
            sent = message_to_proto(message)
            changed = damage_bytes(sent.SerializeToString(), random)
            message = message_from_proto(type(sent).FromString(changed))
            len(message.content)
    except Exception:
        return None
    return message
