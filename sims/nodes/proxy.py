"""The configuration of a proxy that admits nodes to a SuperLink, and nobody else.

Flower has one port for all: nodes, whoever starts runs, and server apps. Anybody who
reaches the paths of the last two can run code on every node, so the parties' network
gets the nodes' paths alone. `deploy/proxy.conf` is what `docker-compose.yml` uses.
"""

import re
from dataclasses import dataclass
from os.path import normpath
from pathlib import PurePosixPath

from editing.base.errors import InputError
from editing.base.foreign_text import show_foreign
from sims.nodes.places import collide, is_port, require_place

FLEET = "/v1/fleet/"
"""Flower 1.41 has all that nodes use below this path."""

CONTROL = "/v1/control/"
"""Flower 1.41 has all that operators use below this path, open to everybody."""

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
    _require_folders(order)
    require_place("superlink", order.superlink)
    if not is_port(order.listen):
        require_place("listen", order.listen)
    if collide(order.listen, order.superlink):
        raise InputError(
            f"--listen {order.listen}: the SuperLink is at {order.superlink}; wanted "
            "another port, such as 8443"
        )
    return TEMPLATE.format(
        certificates=order.certificates,
        scratch=order.scratch,
        superlink=order.superlink,
        listen=order.listen,
        fleet=FLEET,
    )


def _require_folders(order: ProxyOrder) -> None:
    folders = {"certificates": order.certificates, "scratch": order.scratch}
    for name, path in folders.items():
        if ODD.search(str(path)) or not path.is_absolute():
            raise InputError(
                f"--{name} {show_foreign(str(path))}: wanted the whole path of a "
                "folder, without blanks, quotes and any of $ ; { } # \\"
            )
    if len({normpath(path) for path in folders.values()}) == 1:
        raise InputError(
            f"--scratch {order.scratch}: has the certificates; wanted a folder of its "
            "own, for nginx writes there"
        )
