"""What carries a simulation's messages to its clients, in the place of Flower's Ray.

Ray starts servers that listen on all interfaces of the machine, and loads the libraries
again in each process. Here a client's process is forked from one that has them, and is
reached over a pair of sockets that nobody else has.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from logging import ERROR
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any

from flwr.app import Context, Message
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.server.superlink.fleet import vce
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend import Backend, BackendConfig
from flwr.supercore import log

from sims.processes.workers.forker import VISIBLE_GPUS, Forker, Place
from sims.processes.workers.work import ask

ENDED = (
    "the client's process ended without an answer; it was killed (out of memory?) or "
    "the client app left it"
)


@dataclass(frozen=True)
class Worker:
    """A client's process.

    Attributes:
        connection: The way to it.
        gpus: The GPUs that it sees; None for all that the run sees.
    """

    connection: Connection
    gpus: str | None


class ForkedBackend(Backend):
    """Has messages answered by processes that a `Forker` forks."""

    def __init__(self, config: BackendConfig, forker: Forker, parties: int) -> None:
        """Take Flower's settings of a simulation, and the number of its parties."""
        super().__init__(config)
        self._forker = forker
        self._gpus = share_gpus(config, parties)
        self._idle: Queue[Worker] = Queue()

    def build(self, _: Callable[[], ClientApp]) -> None:
        """Fork the processes; their forker has loaded the app already."""
        for gpus in self._gpus:
            self._idle.put(Worker(self._forker.fork(gpus), gpus))

    @property
    def num_workers(self) -> int:
        """Messages that are answered at the same time."""
        return len(self._gpus)

    def is_worker_idle(self) -> bool:
        """Whether a process waits for a message."""
        return not self._idle.empty()

    def process_message(
        self, message: Message, context: Context
    ) -> tuple[Message, Context]:
        """Have a message answered.

        A process that ends instead costs this message alone, whose answer has the error
        code that Flower gives in deployment; another takes its place.
        """
        worker = self._idle.get()
        try:
            return ask(worker.connection, message, context)
        except (EOFError, OSError) as error:
            log(ERROR, "%s (%r)", ENDED, error)
            worker = self._replace(worker)
            code = ErrorCode.CLIENT_APP_CRASHED
            return Message(Error(code, ENDED), reply_to=message), context
        finally:
            self._idle.put(worker)

    def terminate(self) -> None:
        """Let all processes end."""
        while not self._idle.empty():
            self._idle.get().connection.close()
        self._forker.close()

    def _replace(self, worker: Worker) -> Worker:
        """Fork another process; the ended one stays if that cannot be done."""
        worker.connection.close()
        try:
            return Worker(self._forker.fork(worker.gpus), worker.gpus)
        except OSError as error:
            log(ERROR, "No process can be forked in its place: %r", error)
            return worker


def share_gpus(
    config: Mapping[str, Mapping[str, Any]], parties: int
) -> list[str | None]:
    """Choose as many processes as Ray would, one a party at most, and their GPUs.

    Args:
        config: Flower's settings: what there is (``init_args``) and what each client
            takes (``client_resources``).
        parties: How many clients there are.

    Returns:
        The GPUs that each process sees; None for all, where clients take none.

    Raises:
        ValueError: If there is not enough for one process.
    """
    there, taken = config.get("init_args", {}), config.get("client_resources", {})
    cpus, share = there.get("num_cpus") or os.cpu_count() or 1, taken.get("num_gpus", 0)
    devices = _list_gpus(there.get("num_gpus")) if share else []
    count = int(cpus / (taken.get("num_cpus") or 1))
    if share:
        count = min(count, int(len(devices) / share))
    if count < 1:
        raise ValueError(
            f"a client takes {dict(taken)} and there are {cpus} CPUs and "
            f"{len(devices)} GPUs: not enough for one; lower what a client takes"
        )
    numbers = range(min(count, parties))
    return [_choose(devices, number, share) if share else None for number in numbers]


def use_forked_clients(forker: Forker) -> None:
    """Have the simulation that Flower starts in this process use forked clients."""
    start, run = vce.start_vce, vce_api.run_api

    def start_vce(
        *,
        client_app_attr: str,
        app_dir: str,
        backend_config_json_stream: str,
        num_supernodes: int,
        **others: object,
    ) -> None:
        forker.load(Place(client_app_attr, app_dir))
        config = json.loads(backend_config_json_stream)
        make = partial(ForkedBackend, config, forker, num_supernodes)
        # Flower lets nobody name a backend of his own.
        vce_api.run_api = lambda app_fn, _, *rest: run(app_fn, make, *rest)
        start(
            client_app_attr=client_app_attr,
            app_dir=app_dir,
            backend_config_json_stream=backend_config_json_stream,
            num_supernodes=num_supernodes,
            **others,  # type: ignore[arg-type]
        )

    vce.start_vce = start_vce  # type: ignore[assignment]


def _list_gpus(count: int | None) -> Sequence[str]:
    """Name the GPUs that this process sees, or the first of them."""
    named = os.environ.get(VISIBLE_GPUS)
    if named is not None:
        devices = [each for each in named.split(",") if each]
    else:
        from torch.cuda import device_count

        devices = [str(number) for number in range(device_count())]
    return devices[:count]


def _choose(devices: Sequence[str], number: int, share: float) -> str:
    """Choose a process's GPUs: so many of its own, or one that others share."""
    first = int(number * share)
    return ",".join(devices[first : first + max(1, int(share))])
