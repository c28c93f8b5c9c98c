"""A real node's messages are answered by processes that start warm."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sims.processes.credentials import make_credentials
from sims.processes.federation import Federation, clean_environment, describe
from sims.processes.programs import Program
from sims.processes.superlink import follow_to_end
from tests.trees import ROOT

PROJECT = """
[project]
name = "probe"
version = "1.0.0"
description = "Asks clients what they find when they start"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "clients.app:app"

[tool.flwr.app.config]
output = ""
"""

SERVER = """
import time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.1)
    said = []
    for _ in range(2):
        asked = [Message(RecordDict(), nodes[0], "query")]
        (reply,) = grid.send_and_receive(asked, timeout=120)
        said.append(reply.content["said"]["text"])
    Path(context.run_config["output"]).write_text("[" + ",".join(said) + "]")
"""

CLIENT = """
import json, os, sys
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

WANTED = ["torch", "transformers.modeling_utils"]
LOADED = [name for name in WANTED if name in sys.modules]
CALLS = []
app = ClientApp()

@app.query()
def query(message, context):
    CALLS.append(message)
    said = json.dumps([os.getpid(), LOADED, len(CALLS), __file__])
    content = RecordDict({"said": ConfigRecord({"text": said})})
    return Message(content, reply_to=message)
"""


def test_messages_of_a_node_find_their_libraries_loaded_and_the_run_s_own_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the program that forks them stands in a folder with packages so called."""
    app = tmp_path / "app"
    for name, text in (("server", SERVER), ("clients", CLIENT)):
        (app / name).mkdir(parents=True)
        (app / name / "__init__.py").touch()
        (app / name / "app.py").write_text(text)
    (app / "pyproject.toml").write_text(PROJECT)
    monkeypatch.setattr("sims.processes.superlink.APP", app)
    output = tmp_path / "said.json"
    with federated(tmp_path / "federation") as federation:
        run = federation.link.submit({"output": str(output)})
        follow_to_end(federation.link, run)
    first, second = json.loads(output.read_text())
    assert first[0] != second[0]
    home = tmp_path / "federation" / "node_0" / "home"
    for _, loaded, calls, file in (first, second):
        assert loaded == ["torch", "transformers.modeling_utils"]
        assert calls == 1
        assert Path(file).is_relative_to(home)


@contextmanager
def federated(folder: Path) -> Iterator[Federation]:
    """Lend a SuperLink and one node, whose clients start warm."""
    credentials = make_credentials(folder / "credentials", 1)
    federation = describe(folder, [{}], credentials, clean_environment())
    node = federation.nodes[0]
    node.command = [*node.command, "--isolation", "process"]
    port = node.command[node.command.index("--port") + 1]
    command = [sys.executable, "-m", "sims.processes.warm_clients", "--insecure"]
    command += ["--runtime-api-address", f"127.0.0.1:{port}"]
    log = folder / "clients.log"
    clients = Program("clients", command, ROOT, node.environment, log)
    try:
        clients.start()  # it loads libraries meanwhile
        federation.server.start()
        federation.wait_for_server()
        federation.join(0)
        federation.wait_until_online()
        yield federation
    finally:
        for each in (clients, *federation.programs):
            each.terminate()
