"""Laws of the backend: Flower's answers, from processes that may end."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.compat.client.run_info_store import DeprecatedRunInfoStore
from flwr.server.superlink.fleet import vce
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.metrics import VceMetrics

from sims.processes.workers.backend import ForkedBackend, share_gpus, use_forked_clients
from sims.processes.workers.forker import Forker, Place
from sims.processes.workers.work import work
from tests.sims.processes.workers.test_work import (
    app,
    context,
    fail_to_load,
    load,
    question,
)

TWO: Mapping[str, Mapping[str, Any]] = {
    "init_args": {"num_cpus": 2},
    "client_resources": {"num_cpus": 1},
}
Load = Callable[[], ClientApp]
Make = Callable[[Forker], ForkedBackend]
leaving = ClientApp()


@leaving.query()
def leave(_: Message, __: Context) -> Message:
    """End the process that was asked."""
    raise SystemExit(3)


def live(its: Connection, load: Callable[[], ClientApp]) -> None:
    """Do a process's work in a thread, which may be left as a process may."""
    with suppress(SystemExit):
        work(its, load)


class Threads(Forker):
    """Has threads for processes; what ends a process ends one of them."""

    def __init__(self, *apps: Load) -> None:
        """Take what loads the app of each in turn, and of all after the last."""
        self.apps, self.given, self.place, self.closed = (
            [*apps],
            0,
            Place("", ""),
            False,
        )

    def load(self, place: Place) -> None:
        """Keep what was named."""
        self.place = place

    def fork(self, _: str | None = None) -> Connection:
        """Start a thread at the other end."""
        if not self.apps:
            raise BrokenPipeError("nobody forks")
        ours, its = (Connection(each.detach()) for each in socket.socketpair())
        next_app = self.apps.pop(0) if len(self.apps) > 1 else self.apps[0]
        Thread(target=live, args=(its, next_app), daemon=True).start()
        self.given += 1
        return ours

    def close(self) -> None:
        """Keep that it was asked for."""
        self.closed = True


@pytest.fixture
def backends() -> Iterator[Make]:
    """Give what makes a backend of two processes, which end with the test."""
    made: list[ForkedBackend] = []

    def make(forker: Forker) -> ForkedBackend:
        made.append(ForkedBackend(dict(TWO), forker, 10))  # type: ignore[arg-type]
        made[-1].build(load)
        return made[-1]

    yield make
    for each in made:
        each.terminate()


def answer_in_flower(backend: ForkedBackend, message: Message) -> Message:
    """Have a message answered by what Flower's simulation calls a backend with."""
    store, stop = DeprecatedRunInfoStore(7, {}), Event()
    store.register_context(message.metadata.run_id)

    class Replies(Queue[Message]):
        def put(self, item: Message, *_: object) -> None:
            super().put(item)
            stop.set()

    asked: Queue[Message] = Queue()
    replies = Replies()
    asked.put(message)
    vce_api.worker(asked, replies, {7: store}, backend, stop, VceMetrics())
    return replies.get()


@pytest.mark.parametrize(
    ("loaded", "code"),
    [
        (load, ErrorCode.CLIENT_APP_RAISED_EXCEPTION),
        (fail_to_load, ErrorCode.LOAD_CLIENT_APP_EXCEPTION),
        (lambda: leaving, ErrorCode.CLIENT_APP_CRASHED),
    ],
    ids=["raises", "cannot be loaded", "ends"],
)
def test_a_failed_message_has_the_error_code_that_flower_gives_it(
    backends: Make, loaded: Load, code: int
) -> None:
    """That of deployment for a process that ended; Ray's actor leaves it unknown."""
    message = question(fail=True)
    reply = answer_in_flower(backends(Threads(loaded)), message)
    assert reply.has_error()
    assert reply.error.code == code
    assert reply.metadata.reply_to_message_id == message.metadata.message_id


def test_an_ended_process_costs_one_message_and_is_replaced(backends: Make) -> None:
    """All later messages are answered, by as many processes as before."""
    forker = Threads(lambda: leaving, load)
    backend = backends(forker)
    assert (backend.num_workers, forker.given) == (2, 2)
    replies = [backend.process_message(question(), context()) for _ in range(6)]
    failed = [reply for reply, _ in replies if reply.has_error()]
    assert [each.error.code for each in failed] == [ErrorCode.CLIENT_APP_CRASHED]
    assert "out of memory?" in str(failed[0].error.reason)
    assert forker.given == 3
    assert backend.is_worker_idle()


def test_without_a_forker_messages_fail_and_nobody_waits_for_ever(
    backends: Make,
) -> None:
    """Each says that its process ended."""
    forker = Threads(lambda: leaving)
    backend = backends(forker)
    forker.apps = []
    for _ in range(4):
        reply, _ = backend.process_message(question(), context())
        assert reply.error.code == ErrorCode.CLIENT_APP_CRASHED


@pytest.mark.parametrize(
    ("there", "taken", "parties", "expected"),
    [
        ({"num_cpus": 8}, {"num_cpus": 1}, 3, [None] * 3),
        ({"num_cpus": 8}, {"num_cpus": 3}, 9, [None] * 2),
        ({"num_cpus": 8, "num_gpus": 2}, {"num_cpus": 1, "num_gpus": 1}, 9, ["3", "5"]),
        (
            {"num_cpus": 8, "num_gpus": 2},
            {"num_cpus": 1, "num_gpus": 0.5},
            9,
            ["3", "3", "5", "5"],
        ),
        ({"num_cpus": 8}, {"num_cpus": 1, "num_gpus": 2}, 9, ["3,5"]),
    ],
    ids=["parties", "CPUs", "one GPU each", "half a GPU each", "two GPUs each"],
)
def test_there_are_as_many_processes_as_fit(
    there: dict[str, Any],
    taken: dict[str, Any],
    parties: int,
    expected: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each sees its own of the GPUs that the run may see."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    config = {"init_args": there, "client_resources": taken}
    assert share_gpus(config, parties) == expected


@pytest.mark.parametrize("taken", [{"num_cpus": 4}, {"num_cpus": 1, "num_gpus": 1}])
def test_a_client_that_does_not_fit_is_refused(
    taken: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would ever answer."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="not enough for one"):
        share_gpus({"init_args": {"num_cpus": 2}, "client_resources": taken}, 9)


def test_flowers_simulation_makes_this_backend_in_the_place_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the app, the settings and the parties that it names."""
    made: list[ForkedBackend] = []

    def run_api(
        app_fn: Load, backend_fn: Callable[[], ForkedBackend], *_: object
    ) -> None:
        made.append(backend_fn())
        assert app_fn() is app

    def start_vce(**given: object) -> None:
        assert given == asked
        vce_api.run_api(load, lambda: pytest.fail("Ray"), {}, None, {}, None, None)  # type: ignore[arg-type]

    asked = {
        "client_app_attr": "clients.app:app",
        "app_dir": "/apps/one",
        "backend_config_json_stream": '{"init_args": {"num_cpus": 4}}',
        "num_supernodes": 3,
        "is_app": True,
    }
    monkeypatch.setattr(vce_api, "run_api", run_api)
    monkeypatch.setattr(vce, "start_vce", start_vce)
    forker = Threads(load)
    use_forked_clients(forker)
    vce.start_vce(**asked)  # type: ignore[arg-type]
    (backend,) = made
    assert isinstance(backend, ForkedBackend)
    assert backend.num_workers == 3
    assert forker.place == Place("clients.app:app", "/apps/one")
    backend.terminate()
    assert forker.closed
