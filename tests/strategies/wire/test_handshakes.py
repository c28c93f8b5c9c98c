"""Who a party says it is survives the wire, and what differs is named."""

import json

import pytest
from flwr.app import ConfigRecord, RecordDict
from pydantic import ValidationError

from editing.algebra.statistics import StatisticsError
from strategies.wire.failures import write_failure
from strategies.wire.handshakes import (
    Handshake,
    read_handshake,
    validate_handshake,
    write_handshake,
)
from strategies.wire.messages import PROTOCOL_VERSION, ModelIdentity
from tests.strategies.transport import JOB, OURS, over_the_wire


def test_a_handshake_survives_the_wire_and_anything_else_is_refused() -> None:
    """It is the first thing that a stranger says."""
    said = Handshake(protocol=1, identity=OURS, party=3, name="Klinik Süd")
    assert read_handshake(over_the_wire(write_handshake(said)).content) == said
    wrong = RecordDict({"handshake": ConfigRecord({"handshake": "{}"})})
    for content in (RecordDict(), wrong, write_failure("another model")):
        with pytest.raises(StatisticsError, match="handshake"):
            read_handshake(content)


def test_another_protocol_is_recognised_by_its_number() -> None:
    """The next version may say more of itself than this one knows."""
    text = json.dumps({"protocol": PROTOCOL_VERSION + 1, "anthem": "la"})
    said = RecordDict({"handshake": ConfigRecord({"handshake": text})})
    with pytest.raises(StatisticsError, match=f"protocol {PROTOCOL_VERSION + 1}$"):
        read_handshake(over_the_wire(said).content)


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ({"protocol": PROTOCOL_VERSION + 1}, f"protocol {PROTOCOL_VERSION + 1}"),
        ({"identity": OURS.model_copy(update={"weights": "v"})}, "in: weights"),
        ({"identity": OURS.model_copy(update={"tokenizer": "v"})}, "in: tokenizer"),
        ({"identity": OURS.model_copy(update={"configuration": "v"})}, "configuration"),
        (
            {"identity": ModelIdentity(weights="v", tokenizer="v", configuration="")},
            "in: weights, tokenizer",
        ),
    ],
)
def test_what_differs_from_the_server_is_named(
    update: dict[str, object], named: str
) -> None:
    """A party can tell what to change."""
    same = Handshake(protocol=PROTOCOL_VERSION, identity=OURS, party=0)
    validate_handshake(same, JOB)
    with pytest.raises(StatisticsError, match=named):
        validate_handshake(same.model_copy(update=update), JOB)


@pytest.mark.parametrize(
    "changes",
    [{"protocol": -1}, {"protocol": 10**400}, {"party": -2}, {"party": 10**400}],
)
def test_numbers_that_only_fill_logs_are_refused(changes: dict[str, int]) -> None:
    """Of a party nobody's place, and of a protocol nobody's version."""
    same = Handshake(protocol=PROTOCOL_VERSION, identity=OURS, party=-1)
    text = json.dumps({**same.model_dump(), **changes})
    said = RecordDict({"handshake": ConfigRecord({"handshake": text})})
    with pytest.raises(StatisticsError, match="handshake") as caught:
        read_handshake(said)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "name",
    [
        "a" * 65,
        "a\nround 1 is over",
        "a\x1b[2J",
        "a\u202eb",
        "a\u2028b",
        "\x00",
        " a",
        "a ",
        "\ud800",
    ],
)
def test_a_name_that_could_forge_a_log_line_is_refused(name: str) -> None:
    """At the party and at the server, whatever the client says."""
    with pytest.raises(ValidationError):
        Handshake(protocol=1, identity=OURS, party=3, name=name)
    same = Handshake(protocol=PROTOCOL_VERSION, identity=OURS, party=-1)
    text = json.dumps({**same.model_dump(), "name": name})
    said = RecordDict({"handshake": ConfigRecord({"handshake": text})})
    with pytest.raises(StatisticsError, match="handshake"):
        read_handshake(said)


@pytest.mark.parametrize("name", ["", "hospital-a", "Клиника 5", "a" * 64])
def test_any_printable_name_is_accepted(name: str) -> None:
    """In any script."""
    assert Handshake(protocol=1, identity=OURS, party=3, name=name).name == name
