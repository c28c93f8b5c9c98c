"""Laws of what a client's process answers: what Flower's simulation would."""

import json
from multiprocessing import Pipe
from threading import Thread

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import ClientAppException, LoadClientAppError
from flwr.supercore.task_identity import TaskIdentity

from sims.processes.workers.transport import pack
from sims.processes.workers.work import answer, ask, work

app = ClientApp()


@app.query()
def count(message: Message, context: Context) -> Message:
    """Count the messages of a node, in its context; some fail."""
    done = int(str(context.node_config.get("done", 0))) + 1
    context.node_config["done"] = done
    if message.content.config_records["asked"].get("fail"):
        raise ValueError("a text of a client")
    return Message(
        RecordDict({"found": ConfigRecord({"done": done})}), reply_to=message
    )


def question(*, fail: bool = False) -> Message:
    """Make a message as the simulation has it."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    content = RecordDict({"asked": ConfigRecord({"fail": fail})})
    asked = Message(content, dst_node_id=7, message_type="query")
    asked.metadata.__dict__["_message_id"] = "asked"  # as Flower gives it one
    return asked


def context() -> Context:
    """Make a node's context without anything in it."""
    return Context(1, 7, {}, RecordDict(), {})


def load() -> ClientApp:
    """Give the app."""
    return app


def fail_to_load() -> ClientApp:
    """Fail as Flower does for an app that cannot be imported."""
    raise LoadClientAppError("no module of that name")


def test_a_reply_and_the_context_after_it_come_back() -> None:
    """Message after message, until nobody asks any more."""
    ours, its = Pipe()
    thread = Thread(target=work, args=(its, load))
    thread.start()
    before = context()
    for done in (1, 2):
        asked = question()
        reply, before = ask(ours, asked, before)
        assert dict(reply.content.config_records["found"]) == {"done": done}
        assert reply.metadata.reply_to_message_id == asked.metadata.message_id
        assert before.node_config == {"done": done}
    ours.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_clients_error_is_raised_again_with_its_text_and_its_place() -> None:
    """And the next message is answered as if nothing had been."""
    ours, its = Pipe()
    Thread(target=work, args=(its, load), daemon=True).start()
    with ours:
        with pytest.raises(ClientAppException, match=r"a text of a client$") as caught:
            ask(ours, question(fail=True), context())
        assert "in count" in str(caught.value.__cause__)
        reply, _ = ask(ours, question(), context())
        assert not reply.has_error()


def test_an_app_that_cannot_be_loaded_says_so_to_each_message() -> None:
    """With Flower's error for it, which has a code of its own."""
    ours, its = Pipe()
    Thread(target=work, args=(its, fail_to_load), daemon=True).start()
    with ours:
        for _ in range(2):
            with pytest.raises(LoadClientAppError, match="no module of that name"):
                ask(ours, question(), context())


def test_what_cannot_travel_is_the_clients_error() -> None:
    """The process goes on."""

    def store(message: Message, of: Context) -> Message:
        of.node_config["odd"] = object()  # type: ignore[assignment]
        return Message(RecordDict(), reply_to=message)

    odd = ClientApp()
    odd.query()(store)
    (failed,) = answer(pack(question(), context()), lambda: odd)
    assert json.loads(failed)[0] == ClientAppException.__name__
