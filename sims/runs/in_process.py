"""Both apps in this process, without Ray or a network: for tests and debugging."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from flwr.supercore.task_identity import TaskIdentity

from clients.app import app as client_app
from editing.files.disk import has_no_room
from server.app import app as server_app
from server.app import explain
from sims.errors import RunFailedError
from strategies.scenario import FlatConfig

RUN_ID = 1
LINK_NODE = 1
FIRST_NODE = 100

ClientFunction = Callable[[Message, Context], Message]


class InProcessGrid(Grid):
    """Flower's grid over contexts in this process; messages are answered at once.

    What a client raises becomes an error reply, as Flower's own runtimes make it.
    """

    def __init__(self, contexts: Mapping[int, Context], client: ClientFunction) -> None:
        """Answer for the nodes of `contexts` with `client`."""
        # A message asks the process which run and node it belongs to.
        TaskIdentity.run_id, TaskIdentity.node_id = RUN_ID, LINK_NODE
        TaskIdentity.task_id = 1
        self._contexts, self._client = dict(contexts), client
        self._replies: dict[str, Message] = {}

    def set_run(self, run: object) -> None:
        """There is one run."""

    @property
    def run(self) -> None:  # type: ignore[override]
        """There is no record of the run."""

    def create_message(self, *_: object, **__: object) -> Message:
        """Messages are made by their class.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("make messages with flwr.app.Message")

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; none is ever lost."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the nodes answer each message, one after the other."""
        numbers = []
        for message in messages:
            number = str(uuid.uuid4())
            message.metadata.__dict__["_message_id"] = number
            self._replies[number] = self._answer(message)
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over the replies that are there."""
        wanted = [number for number in message_ids if number in self._replies]
        return [self._replies.pop(number) for number in wanted]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 - replies are there at once
    ) -> Iterable[Message]:
        """Push and pull."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        with _own_threads():
            try:
                return self._client(message, context)
            except Exception as error:
                return Message(Error(2, str(type(error))), reply_to=message)


def make_contexts(
    flat: FlatConfig, parties: int, node_configs: Sequence[FlatConfig] = ()
) -> dict[int, Context]:
    """One context a party, as Flower's simulation makes them."""
    return {
        FIRST_NODE + index: Context(
            run_id=RUN_ID,
            node_id=FIRST_NODE + index,
            node_config={
                "partition-id": index,
                "num-partitions": parties,
                **(node_configs[index] if node_configs else {}),
            },
            state=RecordDict(),
            run_config={**flat},
        )
        for index in range(parties)
    }


def run_in_process(
    flat: FlatConfig,
    parties: int,
    private_folder: Path | None = None,
    client: ClientFunction = client_app,
    node_configs: Sequence[FlatConfig] = (),
) -> None:
    """Run the server's app over the client's, in this process.

    Args:
        flat: The run's settings as Flower carries them.
        parties: Number of nodes.
        private_folder: Where parties keep targets and case files; None leaves it to
            the environment, as everywhere else.
        client: Answers for the nodes.
        node_configs: Further settings of each node.

    Raises:
        RunFailedError: If the server stopped the run, or a disk has no room left; its
            events give the reason.
    """
    private = {"private-folder": str(private_folder)} if private_folder else {}
    configs = [{**private, **each} for each in node_configs or [{}] * parties]
    contexts = make_contexts(flat, parties, configs)
    grid = InProcessGrid(contexts, client)
    context = Context(
        run_id=RUN_ID,
        node_id=LINK_NODE,
        node_config={},
        state=RecordDict(),
        run_config={**flat},
    )
    with _own_threads():
        try:
            server_app(grid, context)
        except AggregationError as error:
            raise RunFailedError("the server stopped the run") from error
        except Exception as error:
            if not has_no_room(error):
                raise
            raise RunFailedError(explain(error)[0]) from error


@contextmanager
def _own_threads() -> Iterator[None]:
    """Let an app set its number of threads, and take it back afterwards."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
