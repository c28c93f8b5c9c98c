"""Laws of the proxy's configuration; `tests/end_to_end` sends real nodes through it."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from editing.base.errors import InputError
from sims.nodes.proxy import CONTROL, FLEET, ProxyOrder, write_proxy
from sims.processes.credentials import make_credentials

ORDER = ProxyOrder(PurePosixPath("/credentials"), PurePosixPath("/run/proxy"))


def test_flower_has_the_paths_that_are_passed_and_refused() -> None:
    """Those of nodes below one, those that are open to everybody below the other."""
    paths = {path for _, path in PROTOBUF_REQUEST_TYPES}
    assert f"{FLEET}pull-messages" in paths
    assert f"{CONTROL}start-run" in paths
    assert {path.split("/")[1] for path in paths} == {"v1"}


def test_one_place_alone_leads_to_the_superlink() -> None:
    """All others are answered by the proxy itself."""
    text = write_proxy(ORDER)
    assert re.findall(r"proxy_pass (\S+);", text) == [
        "https://127.0.0.1:8000/v1/fleet/"
    ]
    places = re.findall(r"location (.+) \{\n(?:.*#.*\n)?\s*(\w+)", text)
    assert places == [
        ("/v1/fleet/", "proxy_pass"),
        ("= /health", "return"),
        ("/", "return"),
    ]


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("certificates", replace(ORDER, certificates=PurePosixPath("relative"))),
        ("certificates", replace(ORDER, certificates=PurePosixPath("/with blank"))),
        ("certificates", replace(ORDER, certificates=PurePosixPath("/x;return 200"))),
        ("scratch", replace(ORDER, scratch=PurePosixPath("/x{y"))),
        ("scratch", replace(ORDER, scratch=PurePosixPath("/$uri"))),
        ("superlink", replace(ORDER, superlink="127.0.0.1")),
        ("superlink", replace(ORDER, superlink="https://127.0.0.1:8000")),
        ("superlink", replace(ORDER, superlink="host:70000")),
        ("superlink", replace(ORDER, superlink="host:80;")),
        ("listen", replace(ORDER, listen="0")),
        ("listen", replace(ORDER, listen="65536")),
        ("listen", replace(ORDER, listen="8443 default")),
        ("listen", replace(ORDER, listen="\u0668\u0664")),
        ("listen", replace(ORDER, listen="127.0.0.1:8000")),
        ("listen", replace(ORDER, listen="8000")),
        ("scratch", replace(ORDER, scratch=PurePosixPath("/x/../credentials"))),
    ],
)
def test_what_nginx_would_read_otherwise_is_refused(
    option: str, wrong: ProxyOrder
) -> None:
    """Naming the option."""
    with pytest.raises(InputError, match=f"--{option}"):
        write_proxy(wrong)


@pytest.mark.process
def test_nginx_takes_the_file(tmp_path: Path) -> None:
    """Where it is installed; of a user without rights, too."""
    if (nginx := shutil.which("nginx")) is None:
        pytest.skip("nginx is not installed")
    made = make_credentials(tmp_path / "made", 0)
    order = ProxyOrder(
        PurePosixPath(made.authority.parent),
        PurePosixPath(tmp_path),
        listen="[::]:8443",
    )
    (file := tmp_path / "proxy.conf").write_text(write_proxy(order))
    done = subprocess.run(
        [nginx, "-e", "stderr", "-t", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
