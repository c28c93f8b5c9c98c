"""The server receives the class of a failure, the most specific one there is."""

import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import get_args
from unittest.mock import Mock

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from clients.covariance.own_prior import OtherCovarianceError
from clients.failures import OtherModelError, classify, keep_private
from clients.own_requests import ChangedRequestsError, MalformedRequestsError
from clients.secure.party import RefusedSumError
from clients.settings import NodeSettingsError
from clients.updates import MissingUpdatesError
from editing.algebra.solving import IllConditionedError
from editing.base.errors import EmptySourceError, InputError, MissingSourceError
from editing.covariance.texts import TextError
from editing.malmen.hypernetwork import HypernetworkError
from editing.memit.targets import DivergedTargetError
from editing.models.loading import ModelError
from editing.requests.edit_request import RequestError, to_counterfact
from strategies.secure.fixed_point import BeyondBoundError
from strategies.secure.keys import ForgedKeyError
from strategies.wire.failures import (
    BEYOND_BOUND,
    FORGED,
    MISSING_UPDATES,
    Failure,
    read_failure,
)
from strategies.wire.messages import Phase, ProtocolError
from tests.clients.nodes import HANDS, own_files
from tests.disks import fill, small_disk
from tests.federation import Federation, assert_same_delta, edit_in_rounds
from tests.laws import ALGEBRA
from tests.strategies.transport import over_the_wire

FAILURES: list[tuple[Exception, Failure]] = [
    (ProtocolError("x"), "another protocol version"),
    (OtherModelError("x"), "another model"),
    (OtherCovarianceError("x"), "another covariance"),
    (HypernetworkError("x"), "another hypernetwork"),
    (MissingUpdatesError("x"), MISSING_UPDATES),
    (ModelError("x"), "a model that cannot be loaded"),
    (ForgedKeyError("x"), FORGED),
    (RefusedSumError("x"), "a sum that it refuses"),
    (BeyondBoundError("x"), BEYOND_BOUND),
    (TextError("x"), "texts that cannot be used"),
    (NodeSettingsError("x"), "settings that cannot be used"),
    (MissingSourceError("x"), "requests that are missing"),
    (EmptySourceError("x"), "a file of requests that holds none"),
    (MalformedRequestsError("x"), "requests that are malformed"),
    (ChangedRequestsError("x"), "requests that changed during the round"),
    (RequestError("x"), "requests that cannot be used"),
    (InputError("x"), "requests that cannot be used"),
    (MemoryError("x"), "not enough memory"),
    (torch.OutOfMemoryError("x"), "not enough memory"),
    (OSError(errno.ENOMEM, "x"), "not enough memory"),
    (OSError(errno.ENOSPC, "x"), "no room on its disk"),
    (PermissionError(errno.EACCES, "x"), "files that it cannot use"),
    (ZeroDivisionError("x"), "arithmetic that failed"),
    (IllConditionedError("x"), "arithmetic that failed"),
    (DivergedTargetError("x"), "arithmetic that failed"),
    (RuntimeError("x"), "an error of the program"),
    (LookupError("x"), "an error of the program"),
]


@pytest.mark.parametrize(("error", "failure"), FAILURES)
def test_every_exception_has_its_class(error: Exception, failure: Failure) -> None:
    """Those of a kind before those of the kinds above it."""
    assert classify(error) == failure


def test_every_class_has_an_exception() -> None:
    """No word of the protocol is one that nobody says."""
    assert {failure for _, failure in FAILURES} == set(get_args(Failure))


def test_memory_that_the_cpu_lacks_has_its_class() -> None:
    """Torch raises a plain `RuntimeError` then."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert type(caught.value) is RuntimeError
    assert classify(caught.value) == "not enough memory"


def test_a_full_disk_is_recognised_under_any_other_error(tmp_path: Path) -> None:
    """Whoever explains it better does so in the node's own log."""
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        with pytest.raises(InputError) as caught:
            explain(disk / "a")
    assert classify(caught.value) == "no room on its disk"


def explain(file: Path) -> None:
    """Fail to write, and say it in other words."""
    try:
        file.write_bytes(b"x" * 9000)
    except OSError:
        raise InputError("it was not to be") from None


def test_a_full_disk_costs_a_party_rounds_until_there_is_room(
    federate: Callable[..., Federation], tmp_path: Path
) -> None:
    """The others go on, and no file is half there at any time."""
    parties = {"requests-per-round": 1}
    with small_disk(tmp_path / "disk") as disk:
        nodes = {1: {"private-folder": str(disk / "private")}}
        federation = federate(nodes, run={"rounds": 3}, parties=parties)
        seen: set[str] = set()

        def look(message: Message, reply: Message) -> Message:
            sent = (message.metadata.message_type, message.metadata.group_id)
            mine = message.metadata.dst_node_id == federation.node(1)
            if mine and sent == (Phase.EVALUATE.value, "1"):
                fill(disk)
            if sent == (Phase.EVALUATE.value, "2"):
                (disk / "filler").unlink(missing_ok=True)
            seen.update(path.name for path in disk.rglob("*"))
            return reply

        federation.tampers = {0: look, 1: look}
        strategy, _ = federation.run()
        outcomes = strategy.registry.outcomes
        assert [len(outcomes[number].refusals) for number in (1, 2, 3)] == [0, 1, 0]
        (refusal,) = outcomes[2].refusals
        assert refusal.reason == "it reported no room on its disk"
        assert [name for name in seen if name.endswith(".partial")] == []
    asked = [federation.requests_of_parties(number) for number in (1, 2, 3)]
    first, second, third = ([each[0] for each in hands] for hands in asked)
    rounds = [first, [second[0], second[2]], third]
    expected = edit_in_rounds(federation.preparation, rounds, 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)


LINE = '{"prompt": "{} works for", "subject": "Ada", "target_new": "Acme"}\n'


@pytest.mark.parametrize(
    ("content", "failure", "details"),
    [
        (None, "requests that are missing", "cannot be read (No such file"),
        ("", "a file of requests that holds none", "holds no requests"),
        (f"{LINE}{{", "requests that are malformed", "jsonl:2: not JSON"),
        (f'{LINE}{{"prompt": "x"}}', "requests that are malformed", "jsonl:2: `targ"),
    ],
    ids=["missing", "empty", "half", "malformed"],
)
def test_a_file_that_cannot_be_used_ends_the_run(
    federate: Callable[..., Federation],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: str | None,
    failure: str,
    details: str,
) -> None:
    """In one line with party and class; file and line stay in the party's own log."""
    nodes = own_files(tmp_path)
    broken = tmp_path / "mine.jsonl"
    if content is not None:
        broken.write_text(content)
    nodes[1] |= {"requests-path": str(broken), "name": "hospital-b"}
    federation = federate(node_configs=nodes, parties={"requests-per-round": 1})
    with caplog.at_level(logging.ERROR), pytest.raises(InputError) as caught:
        federation.run()
    line = str(caught.value)
    assert line.startswith(f"The input of hospital-b is wrong: it reported {failure}.")
    assert "\n" not in line
    assert str(broken) not in line
    assert f"{broken}" in caplog.text
    assert details in caplog.text
    assert federation.nodes_asked(Phase.EVALUATE) == []
    broken.write_text("\n".join(json.dumps(to_counterfact(each)) for each in HANDS[1]))
    strategy, _ = federation.run()
    expected = edit_in_rounds(federation.preparation, [[h[0] for h in HANDS]], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)


def test_a_setting_that_cannot_be_used_ends_the_run(
    federate: Callable[..., Federation],
) -> None:
    """A class of its own says that it is not the requests."""
    federation = federate(node_configs={1: {"name": "hospital\nb"}})
    with pytest.raises(InputError, match="settings that cannot be used"):
        federation.run()


@pytest.mark.parametrize("kind", [InputError, KeyError])
def test_what_a_failure_quotes_steers_no_terminal_of_its_party(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """A file of requests, or the server, may have others' words in it."""

    def fail(*_: object) -> Message:
        raise kind("\x1b[2J\u202eevil")

    content = RecordDict({"party": ConfigRecord()})  # a node of many parties
    answer = keep_private(over_the_wire(content), Mock(spec=Context), fail)
    assert read_failure(answer.content) is not None
    shown = "".join(logging.Formatter().format(each) for each in caplog.records)
    assert r"\u202eevil" in shown
    assert not set("\x1b\u202e") & set(shown)
