"""The configuration of a proxy that admits nodes to a SuperLink, and nobody else.

Flower has one port for all: nodes, whoever starts runs, and server apps. Anybody who
reaches the paths of the last two can run code on every node, so the parties' network
gets the nodes' paths alone. `deploy/proxy.conf` is what `docker-compose.yml` uses.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from editing.base.errors import InputError

FLEET = "/v1/fleet/"
"""Flower 1.41 has all that nodes use below this path."""

CONTROL = "/v1/control/"
"""Flower 1.41 has all that operators use below this path, open to everybody."""

PLACE = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})")
ODD = re.compile(r"[\s\x00-\x1f\x7f\"'$;{}\\#]")
"""What no path may have here: nginx would read it as something else."""

TEMPLATE = """\
# Passes the paths of nodes to a SuperLink of Flower 1.41, and no others.
# Written by `python -m sims proxy-config`; to start it: nginx -e stderr -c THIS_FILE
daemon off;
error_log stderr;
pid {scratch}/proxy.pid;

events {{
}}

http {{
    server_tokens off;
    access_log off;
    client_body_temp_path {scratch}/proxy-bodies;
    proxy_temp_path {scratch}/proxy-replies;
    fastcgi_temp_path {scratch}/proxy-unused;
    uwsgi_temp_path {scratch}/proxy-unused;
    scgi_temp_path {scratch}/proxy-unused;

    server {{
        listen {listen} ssl;
        ssl_certificate {certificates}/server.pem;
        ssl_certificate_key {certificates}/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;

        location {fleet} {{
            # With its path, so that what is passed on is what was looked at.
            proxy_pass https://{superlink}{fleet};
            proxy_http_version 1.1;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {certificates}/ca.crt;
            proxy_ssl_name localhost;
            client_max_body_size 0;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}

        # Of the proxy itself.
        location = /health {{
            return 200;
        }}

        location / {{
            return 403;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class ProxyOrder:
    """What a proxy is to be.

    Attributes:
        certificates: The folder with ``ca.crt``, ``server.pem`` and ``server.key``.
        scratch: A folder of nginx's own, for its number and what is on the way.
        superlink: Where the SuperLink listens, as ``host:port``.
        listen: The port at which nodes come in, or ``address:port``.
    """

    certificates: PurePosixPath
    scratch: PurePosixPath
    superlink: str = "127.0.0.1:8000"
    listen: str = "8443"


def write_proxy(order: ProxyOrder) -> str:
    """Write the whole configuration for nginx; it needs no rights of root.

    Raises:
        InputError: If a place is none, or a path has what nginx would not read.
    """
    for name, path in (
        ("certificates", order.certificates),
        ("scratch", order.scratch),
    ):
        if ODD.search(str(path)) or not path.is_absolute():
            raise InputError(
                f"--{name} {path}: wanted the whole path of a folder, without "
                "blanks, quotes and any of $ ; { } # \\"
            )
    require_place("superlink", order.superlink)
    if not order.listen.isdecimal():
        require_place("listen", order.listen)
    elif not 0 < int(order.listen) <= 65535:
        raise InputError(f"--listen {order.listen}: wanted a port, such as 8443")
    return TEMPLATE.format(
        certificates=order.certificates,
        scratch=order.scratch,
        superlink=order.superlink,
        listen=order.listen,
        fleet=FLEET,
    )


def require_place(option: str, text: str) -> None:
    """Require a host and a port.

    Raises:
        InputError: If it is anything else.
    """
    found = PLACE.fullmatch(text)
    if not found or not 0 < int(found[2]) <= 65535:
        raise InputError(
            f"--{option} {text}: wanted a host and a port, such as 127.0.0.1:8000"
        )
