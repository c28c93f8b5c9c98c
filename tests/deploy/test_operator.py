"""Laws of what an operator does at a SuperLink."""

import tomllib
from pathlib import Path

from flwr.supercore.constant import SUPERLINK_DEFAULT_CLIENT_ADDRESS
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.error.catalog import API_ERROR_MAP

from deploy.operator import KNOWN, connect


def test_a_connection_names_the_server_and_whom_to_trust(tmp_path: Path) -> None:
    """With TLS, whatever characters are in the path."""
    authority = tmp_path / 'odd "name"' / "ca.crt"
    link = connect(tmp_path / "scratch", SUPERLINK_DEFAULT_CLIENT_ADDRESS, authority)
    home = Path(link.environment["FLWR_HOME"])
    written = tomllib.loads((home / "config.toml").read_text(encoding="utf-8"))
    own = written["superlink"][written["superlink"]["default"]]
    assert written["superlink"]["default"] == link.connection
    assert own == {
        "address": SUPERLINK_DEFAULT_CLIENT_ADDRESS,
        "root-certificates": str(authority),
    }
    assert connect(tmp_path / "scratch", "x:1", authority) == link


def test_flower_says_of_a_known_key_what_is_looked_for() -> None:
    """And of no other error."""
    written = {
        code: spec.public_message
        for code, spec in API_ERROR_MAP.items()
        if KNOWN.search(spec.public_message)
    }
    assert list(written) == [ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE]
