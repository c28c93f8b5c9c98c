"""Laws of Ray's settings: nobody else can join a simulation."""

import os
import subprocess
import sys

from sims.processes.workers.ray_settings import ray_settings


def test_ray_is_closed_to_others_where_it_is_used() -> None:
    """By a token that each SuperLink has anew, and on the loopback interface alone."""
    first, second = ray_settings(), ray_settings()
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(bytes.fromhex(first["RAY_AUTH_TOKEN"])) == 32
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    show = "import ray._private.services as s; print(s.get_node_ip_address())"
    done = subprocess.run(
        [sys.executable, "-c", show],
        env={**os.environ, **first},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["127.0.0.1"]
