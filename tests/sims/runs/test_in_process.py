"""The grid in one process answers as Flower's grids do."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid

import sims.runs.in_process
from sims.console import Follower
from sims.errors import RunFailedError
from sims.runs.in_process import (
    FIRST_NODE,
    LINK_NODE,
    RUN_ID,
    InProcessGrid,
    make_contexts,
    run_in_process,
)
from sims.runs.jobs import carry_out
from strategies.scenario import FlatValue
from strategies.wire.messages import Phase
from tests.strategies.transport import write_numbers
from tests.trees import ROOT

FLAT: dict[str, FlatValue] = {"parties.count": 2}


def count_nodes(message: Message, context: Context) -> Message:
    """Answer with the node's number, and remember having been asked."""
    if context.node_config["partition-id"] == 1:
        raise ValueError("a secret")
    context.state["asked"] = write_numbers({"x": 1.0})["metrics"]
    return Message(write_numbers({"node": float(context.node_id)}), reply_to=message)


def ask(node: int) -> Message:
    """Make a message to a node."""
    return Message(
        RecordDict(), dst_node_id=node, message_type=Phase.TARGETS.value, group_id="3"
    )


def test_nodes_receive_their_place_and_their_own_settings() -> None:
    """As Flower's simulation tells them."""
    contexts = make_contexts(FLAT, 2, [{"mine": "a"}, {"mine": "b"}])
    assert list(contexts) == [FIRST_NODE, FIRST_NODE + 1]
    for index, (node, context) in enumerate(contexts.items()):
        assert (context.node_id, context.run_id) == (node, RUN_ID)
        mine = "ab"[index]
        assert context.node_config == {
            "partition-id": index,
            "num-partitions": 2,
            "mine": mine,
        }
        assert context.run_config == FLAT
    assert make_contexts(FLAT, 1)[FIRST_NODE].node_config["partition-id"] == 0


def test_replies_are_pulled_once_and_by_the_number_that_pushing_gave() -> None:
    """A message knows its number after it was pushed, as with Flower's grids."""
    grid: Grid = InProcessGrid(make_contexts(FLAT, 2), count_nodes)
    assert list(grid.get_node_ids()) == [FIRST_NODE, FIRST_NODE + 1]
    messages = [ask(FIRST_NODE), ask(FIRST_NODE)]
    numbers = list(grid.push_messages(messages))
    assert [message.metadata.message_id for message in messages] == numbers
    assert len(set(numbers)) == 2
    assert list(grid.pull_messages(["unknown"])) == []
    (reply,) = grid.pull_messages(numbers[1:])
    assert reply.metadata.reply_to_message_id == numbers[1]
    assert reply.metadata.src_node_id == FIRST_NODE
    assert reply.metadata.group_id == "3"
    assert reply.content.metric_records["metrics"]["node"] == FIRST_NODE
    assert list(grid.pull_messages(numbers[1:])) == []
    assert len(list(grid.pull_messages(numbers))) == 1


def test_what_a_client_raises_becomes_an_error_reply_without_its_text() -> None:
    """And its neighbour is answered for."""
    contexts = make_contexts(FLAT, 2)
    grid = InProcessGrid(contexts, count_nodes)
    asked = [ask(FIRST_NODE), ask(FIRST_NODE + 1)]
    fine, failed = grid.send_and_receive(asked)
    assert fine.has_content()
    assert failed.has_error()
    assert failed.error.code == 2
    assert "secret" not in str(failed.error.reason)
    assert failed.metadata.src_node_id == FIRST_NODE + 1
    assert "asked" in contexts[FIRST_NODE].state
    assert not contexts[FIRST_NODE + 1].state


def test_a_client_s_threads_are_not_the_server_s() -> None:
    """Each app sets its own number, in one process as in many."""
    before = torch.get_num_threads()
    seen: list[int] = []

    def client(message: Message, _: Context) -> Message:
        torch.set_num_threads(before + 1)
        seen.append(torch.get_num_threads())
        return Message(RecordDict(), reply_to=message)

    grid = InProcessGrid(make_contexts(FLAT, 1), client)
    list(grid.send_and_receive([ask(FIRST_NODE)]))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("private", ["private", None])
def test_the_server_s_app_is_run_over_as_many_nodes_as_there_are_parties(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, private: str | None
) -> None:
    """Without a folder for what is private, the environment says where it lies."""
    seen: list[Mapping[str, object]] = []

    def server(grid: InProcessGrid, context: Context) -> None:
        assert context.node_id == LINK_NODE
        assert context.run_config == FLAT
        torch.set_num_threads(5)
        seen.extend(each.node_config for each in grid._contexts.values())

    before = torch.get_num_threads()
    monkeypatch.setattr(sims.runs.in_process, "server_app", server)
    folder = tmp_path / private if private else None
    run_in_process(FLAT, 2, folder)
    assert [config["partition-id"] for config in seen] == [0, 1]
    wanted = [str(folder)] * 2 if folder else [None] * 2
    assert [config.get("private-folder") for config in seen] == wanted
    assert torch.get_num_threads() == before
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing is made before its time


def test_a_full_disk_ends_a_run_with_the_line_that_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/faults.md has it, and no trace of the program."""

    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("server.app.run", fill_up)
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    promised = "there is no room left on a disk of the server"
    assert promised in page
    with pytest.raises(RunFailedError, match=promised):
        run_in_process({"output.watch": str(tmp_path)}, 2)
    follower = Follower(tmp_path / "events.jsonl", lambda _: None)
    with pytest.raises(RunFailedError) as ended:
        carry_out(
            run_in_process,
            {"output.watch": str(tmp_path)},
            2,
            follower,
        )
    assert str(ended.value).count(promised) == 1
