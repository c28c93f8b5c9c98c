"""What real nodes send to a real SuperLink tells nothing of what is private."""

import socket
from contextlib import ExitStack
from pathlib import Path

from sims.processes.credentials import make_credentials
from sims.processes.federation import (
    clean_environment,
    deployed,
    describe_keeper,
    describe_node,
)
from sims.processes.superlink import free_port
from strategies.wire.messages import Phase
from tests.conftest import ROOT
from tests.federation import TEXT, world_requests
from tests.leaks import SHORTEST, Secrets, secrets_of
from tests.processes import needs_proc
from tests.recording import recorded
from tests.sites import lay_out, run_to_end, wait_until
from tests.tiny import tiny_model

USER = "nurse-joy"
KEY = "5a" * 32
TRAINING = {Phase.BEGIN, Phase.VALUES, Phase.LOSSES, Phase.GRADIENTS}
NOT_ASKED = {Phase.ANSWERS, Phase.MEMORY, Phase.KEYS, Phase.SHARES, Phase.UNMASK}
NOT_ASKED |= TRAINING
"""Messages of other runs: a secure sum needs three parties that answer."""


@needs_proc
def test_nothing_private_is_in_what_nodes_send(world: Path, tmp_path: Path) -> None:
    """All requests of two node processes, from their first to their last.

    One party takes part in every exchange of a run without secure sums, and the other
    one has no private folder.
    """
    sites = lay_out(world, tmp_path, world_requests(), 2, 1)
    flat = {
        **sites.flat,
        "parties.deduplicate": True,
        "prior.covariance": "federated",
    }
    nodes = sites.node_configs()
    for party, node in enumerate(nodes):
        for name, text in (("key", KEY), ("text", "\n".join(TEXT[party::2]))):
            (file := tmp_path / f"site_{party}" / f"{name}.txt").write_text(text)
            node[f"{name}-path"] = str(file)
    broken = tmp_path / "site_1" / "ward_seven_notes"
    broken.write_text("no folder")
    nodes[1]["private-folder"] = str(broken)
    home = tmp_path / "home-of-joy"
    home.mkdir()
    environment = {"USER": USER, "LOGNAME": USER, "HOME": str(home)}
    folder, credentials = tmp_path / "processes", make_credentials(tmp_path / "own", 2)
    with (
        deployed(folder, [], credentials=credentials) as programs,
        recorded(programs.port, credentials) as line,
        ExitStack() as stack,
    ):
        for number, node in enumerate(nodes):
            variables = {**clean_environment(), **environment}
            port = free_port()
            programs.register(number)
            for program in (
                describe_node(
                    folder, number, node, credentials, line.port, variables, warm=port
                ),
                describe_keeper(folder, number, port, variables),
            ):
                stack.callback(program.terminate)
                program.start()
        wait_until(
            lambda: list(programs.states().values()).count("online") == 2,
            "both nodes to be online",
        )
        run_to_end(programs, programs.link.submit(flat))
    found = b"".join(line.said)
    assert all(each.startswith(b"POST /v1/fleet/") for each in line.said)
    asked = [phase.value for phase in Phase if phase not in NOT_ASKED]
    for words in ("files that it cannot use", "NUMPY", *asked):
        assert words.encode() in found, words
    places = [tmp_path, world, ROOT, Path.home(), home, broken]
    others = [*map(str, places), broken.name, USER, socket.gethostname(), *TEXT]
    requests = [request for hand in sites.hands for request in hand]
    long = [text for text in others if len(text) >= SHORTEST]
    key = Secrets((), keys=(bytes.fromhex(KEY),))
    assert (secrets_of(requests, tiny_model(), *long) + key).found_in(found) == []
