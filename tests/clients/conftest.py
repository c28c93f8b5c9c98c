"""Fixtures of the client's tests."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from clients.settings import ClientConfig, read_client_config
from strategies.scenario import FlatValue
from tests.federation import settings_of

Node = dict[str, str | int | float | bool]


@pytest.fixture
def configure(world: Path) -> Callable[..., ClientConfig]:
    """Read the settings of a node in a run."""

    def read(
        node: Node | None = None, **tables: Mapping[str, FlatValue]
    ) -> ClientConfig:
        context = Context(
            run_id=1,
            node_id=2,
            node_config={"partition-id": 1} if node is None else node,
            state=RecordDict(),
            run_config=settings_of(world, **tables),
        )
        return read_client_config(context)

    return read
