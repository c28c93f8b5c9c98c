"""A node keeps what it was sent, and knows when it lacks something."""

from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, Message
from torch import Tensor

from clients.updates import MissingUpdatesError, find_updates
from strategies.wire.arrays import to_array
from strategies.wire.messages import write_job
from strategies.wire.updates import read_carried, without_held
from tests.strategies.transport import JOB, over_the_wire

FIRST, SECOND = torch.arange(6.0).reshape(2, 3), torch.ones(2, 2, dtype=torch.bfloat16)


def message_of(held: tuple[str, ...] = (), **delta: Tensor) -> Message:
    """Write a job to a node that holds some of the updates."""
    arrays = ArrayRecord({name: to_array(each) for name, each in delta.items()})
    content = write_job(JOB, arrays)
    carried = read_carried(content)
    return over_the_wire(without_held(content, [carried[name] for name in held]))


def test_what_was_sent_once_is_found_again(tmp_path: Path) -> None:
    """To the bit, in the precision of the wire; the message then holds the rest."""
    find_updates(message_of(a=FIRST), tmp_path / "kept")
    message = message_of(("a",), a=FIRST, b=SECOND)
    assert list(message.content.array_records["delta"]) == ["b"]
    found = find_updates(message, tmp_path / "kept")
    assert torch.equal(found["a"], FIRST)
    assert torch.equal(found["b"], SECOND)
    assert found["b"].dtype == torch.bfloat16
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    files = list((tmp_path / "kept").iterdir())
    assert len(files) == 2
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_what_the_model_carries_no_more_is_removed(tmp_path: Path) -> None:
    """An update of the next layer may change that of an earlier round."""
    find_updates(message_of(a=FIRST), tmp_path)
    find_updates(message_of(a=2 * FIRST), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    find_updates(message_of(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["missing", "cut", "other"])
def test_a_node_that_lacks_an_update_says_so(tmp_path: Path, fault: str) -> None:
    """And never takes another one for it."""
    find_updates(message_of(a=FIRST), tmp_path)
    (file,) = tmp_path.iterdir()
    if fault == "missing":
        file.unlink()
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    with pytest.raises(MissingUpdatesError, match="send it again"):
        find_updates(message_of(("a",), a=FIRST), tmp_path)
    # Sent again, it takes the place of what was broken.
    assert torch.equal(find_updates(message_of(a=FIRST), tmp_path)["a"], FIRST)
    assert torch.equal(find_updates(message_of(("a",), a=FIRST), tmp_path)["a"], FIRST)


def test_a_message_whose_values_are_not_what_it_says_is_refused(
    tmp_path: Path,
) -> None:
    """Nothing of it is kept."""
    message = message_of(a=FIRST)
    message.content.array_records["delta"]["a"] = to_array(2 * FIRST)
    with pytest.raises(MissingUpdatesError):
        find_updates(message, tmp_path)
    assert list(tmp_path.iterdir()) == []
