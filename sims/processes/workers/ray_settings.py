"""Ray's settings, where it carries a simulation's messages: it is closed to others.

By default it listens on all interfaces of the machine, and whoever reaches it may join
and run what he likes.
"""

from secrets import token_hex

from sims.processes.workers.libraries import MODELS

RAY = {
    "RAY_preload_python_modules": ",".join(("flwr.clientapp", *MODELS)),
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""Processes of clients load their libraries while the server prepares the run, and no
others are started, which would wait for nothing. All listen on the loopback interface,
where each wants a token."""

TOKEN, TOKEN_BYTES = "RAY_AUTH_TOKEN", 32


def ray_settings() -> dict[str, str]:
    """Make the environment of one SuperLink's Ray, with a token of its own."""
    return {**RAY, TOKEN: token_hex(TOKEN_BYTES)}
