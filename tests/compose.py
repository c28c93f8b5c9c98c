"""Reading docker-compose.yml: keys that are not described here are refused."""

import re
import shlex
from functools import cache
from typing import Any, Literal

import yaml
from pydantic import Field

from editing.base.settings import Settings
from tests.trees import ROOT

FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Build(Settings):
    """How the image is made."""

    context: str
    args: dict[str, str]


class Condition(Settings):
    """The state that another service must have reached."""

    condition: Literal["service_healthy", "service_completed_successfully"]
    restart: Literal[True] | None = None


class Health(Settings):
    """How the health of a service is checked."""

    test: tuple[str, ...]
    interval: str
    timeout: str
    start_period: str


class Logging(Settings):
    """Where a service's log goes."""

    driver: Literal["json-file"]
    options: dict[str, str]


class Service(Settings):
    """A service; keys that give it more rights, such as `privileged`, are unknown."""

    image: str
    pull_policy: Literal["never"]
    user: str
    read_only: Literal[True]
    cap_drop: tuple[Literal["ALL"], ...]
    security_opt: tuple[Literal["no-new-privileges:true"], ...]
    tmpfs: tuple[str, ...]
    init: Literal[True]
    logging: Logging
    build: Build | None = None
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    network_mode: Literal["none"] | None = None
    ports: tuple[str, ...] = ()
    depends_on: dict[str, Condition] = Field(default_factory=dict)
    healthcheck: Health | None = None
    restart: Literal["unless-stopped"] | None = None
    stop_grace_period: str | None = None
    profiles: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The program and its arguments, with the defaults of variables."""
        return [with_defaults(word) for word in (*self.entrypoint, *self.command)]

    @property
    def mounts(self) -> dict[str, str]:
        """What is mounted, by path, with the defaults of variables."""
        split = (with_defaults(each).split(":") for each in self.volumes)
        return {place: source for source, place, *_ in split}

    @property
    def read_only_places(self) -> set[str]:
        """The paths that the service cannot write to."""
        split = (with_defaults(each).split(":") for each in self.volumes)
        return {place for _, place, *mode in split if mode == ["ro"]}


class Network(Settings):
    """A network; an internal one leads to no other."""

    internal: bool = False


class Volume(Settings):
    """A volume with the daemon's own driver."""


class Compose(Settings):
    """The whole file."""

    name: str
    services: dict[str, Service]
    networks: dict[str, Network]
    volumes: dict[str, Volume]

    @property
    def nodes(self) -> dict[str, Service]:
        """The services that are nodes."""
        named = re.compile(r"node-\d+")
        return {k: v for k, v in self.services.items() if named.fullmatch(k)}


@cache
def raw() -> dict[str, Any]:
    """The file as YAML reads it, without the fragments that others repeat."""
    tables = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {key: each for key, each in tables.items() if not key.startswith("x-")}


@cache
def compose() -> Compose:
    """The file, checked."""
    return Compose.model_validate(raw())


def variables(text: str) -> dict[str, str]:
    """List the variables that a text names, and their defaults."""
    return dict(VARIABLE.findall(text))


def with_defaults(text: str) -> str:
    """Put the default of each variable in its place."""
    return VARIABLE.sub(lambda found: found[2] or "", text)


def node_config(service: Service) -> dict[str, str]:
    """Read a node's configuration, as texts."""
    (given,) = (word for word in service.words if word.startswith("--node-config="))
    pairs = (word.partition("=") for word in shlex.split(given.partition("=")[2]))
    return {key: value for key, _, value in pairs}
