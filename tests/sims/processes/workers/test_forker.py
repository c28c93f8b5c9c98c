"""Laws of forked clients: one process each, reached by nobody else, gone in the end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sims.processes.workers.forker import start_forker
from tests.processes import is_gone, needs_proc
from tests.trees import ROOT

pytestmark = [needs_proc, pytest.mark.process]

APP = """
import os, signal, sys, threading, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
loaded_in = os.getpid()

@app.query("look")
def look(message, context):
    print("a client looks", flush=True)
    name = Path("/proc/self/comm").read_text().strip()
    found = {"own": os.getpid(), "parent": os.getppid(), "loaded": loaded_in}
    found |= {"threads": threading.active_count(), "name": name}
    found |= {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
    return Message(RecordDict({"found": ConfigRecord(found)}), reply_to=message)

@app.query("die")
def die(message, context):
    os.kill(os.getpid(), signal.SIGKILL)

@app.query("stay")
def stay(message, context):
    print(os.getpid(), os.getppid(), flush=True)
    time.sleep(300)
"""

BEGIN = """
import json, os, sys
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from sims.processes.workers.backend import ForkedBackend
from sims.processes.workers.forker import Place, start_forker

forker = start_forker()
TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
there = {"num_cpus": 2, "num_gpus": 2}
config = {"init_args": there, "client_resources": {"num_cpus": 1, "num_gpus": 1}}
os.environ["CUDA_VISIBLE_DEVICES"] = "4,6"
backend = ForkedBackend(config, forker, 5)
forker.load(Place("forked_app:app", sys.argv[1]))
backend.build(None)

def ask(kind):
    message = Message(RecordDict(), dst_node_id=7, message_type="query." + kind)
    context = Context(1, 7, {}, RecordDict(), {})
    return backend.process_message(message, context)[0]
"""

SEVERAL = f"""{BEGIN}
def look():
    return dict(ask("look").content.config_records["found"])

first = [look() for _ in range(4)]
killed = ask("die").error.code
later = [look() for _ in range(4)]
backend.terminate()
print(json.dumps([os.getpid(), first, killed, later]))
"""

STAYS = f"""{BEGIN}
ask("stay")
"""


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    """Start a process that forks clients, with the app in a folder."""
    (folder / "forked_app.py").write_text(APP)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_clients_are_forked_from_a_process_that_has_loaded_their_app(
    tmp_path: Path,
) -> None:
    """A killed one costs one message; what they print is printed; all end."""
    with start(SEVERAL, tmp_path) as process:
        assert process.stdout is not None
        *printed, last = process.stdout.read().splitlines()
    assert process.returncode == 0
    own: int
    first: list[dict[str, Any]]
    own, first, killed, later = json.loads(last)
    assert killed == 8  # of Flower's codes: the client app crashed
    assert printed.count("a client looks") == 8
    processes = [{each["own"] for each in found} for found in (first, later)]
    assert [len(each) for each in processes] == [2, 2]
    assert len(processes[0] & processes[1]) == 1  # the other one was replaced
    (forker,) = {each["parent"] for each in first + later}
    assert {each["loaded"] for each in first + later} == {forker}
    assert forker != own
    assert {each["threads"] for each in first + later} == {1}
    assert {each["name"] for each in first + later} == {"client"}
    assert {each["gpus"] for each in first} == {"4", "6"}
    assert {each["gpus"] for each in later} == {"4", "6"}
    assert all(is_gone(each) for each in {*processes[0], *processes[1], forker})


def test_a_killed_run_leaves_none_of_its_clients(tmp_path: Path) -> None:
    """Not even one that computes, which would not notice a closed connection."""
    with start(STAYS, tmp_path) as process:
        assert process.stdout is not None
        client, forker = map(int, process.stdout.readline().split())
        process.send_signal(signal.SIGKILL)
        assert is_gone(client)
        assert is_gone(forker)


def test_a_process_with_threads_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy would hold locks that nobody opens."""
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([Path("1"), Path("2")]))
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    with pytest.raises(RuntimeError, match="2 threads"):
        start_forker()
