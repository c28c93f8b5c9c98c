"""Laws of the nodes that are added to docker-compose.yml."""

import copy

import pytest
import yaml

from deploy.nodes import FIRST_NEW, MOST, Table, add_nodes, main, renumber_all
from tests.compose import Compose, node_config, raw


def overlay(below: Table, above: Table) -> Table:
    """Lay one table over another as Docker Compose does with the keys used here."""
    result = copy.deepcopy(below)
    for key, value in above.items():
        if key in {"volumes", "networks"} and isinstance(value, list):
            result[key] = [*result.get(key, []), *value]
        elif isinstance(value, dict):
            result[key] = overlay(result.get(key, {}), value)
        else:
            result[key] = value
    return result


@pytest.mark.parametrize("node", range(1, FIRST_NEW))
def test_the_nodes_of_the_file_are_renumbered_copies_of_the_first(node: int) -> None:
    """So that a further copy is a node like them."""
    services = raw()["services"]
    assert renumber_all(services["node-0"], node) == services[f"node-{node}"]


def test_as_many_nodes_are_in_the_file_as_its_steps_count() -> None:
    """The count, and the first number that is free."""
    nodes = [name for name in raw()["services"] if name.startswith("node-")]
    assert len(nodes) == FIRST_NEW
    for step in ("credentials", "example-requests"):
        assert f"--nodes={FIRST_NEW}" in raw()["services"][step]["command"]


@pytest.mark.parametrize("nodes", [FIRST_NEW + 1, MOST])
def test_added_nodes_are_treated_as_those_of_the_file(nodes: int) -> None:
    """Each has its network, its volumes, its key, its examples, and is counted."""
    whole = Compose.model_validate(overlay(raw(), add_nodes(raw(), nodes)))
    assert sorted(whole.nodes) == sorted(f"node-{n}" for n in range(nodes))
    for number in range(nodes):
        node = whole.nodes[f"node-{number}"]
        assert node_config(node)["name"] == f"party-{number}"
        assert set(node.networks) == {f"party-{number}"} <= set(whole.networks)
        assert set(node.mounts.values()) <= set(whole.volumes)
        handed = whole.services["credentials"].mounts
        assert handed[f"/volumes/node-{number}"] == node.mounts["/credentials"]
        written = whole.services["example-requests"].mounts
        assert written[f"/volumes/requests-{number}"] == node.mounts["/private"]
    assert {f"party-{n}" for n in range(nodes)} <= {*whole.services["proxy"].networks}
    assert {*whole.services["superlink"].networks} == {"operator", "fleet"}
    for step in ("credentials", "example-requests"):
        assert f"--nodes={nodes}" in whole.services[step].words


def test_what_is_printed_is_what_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    """As YAML."""
    assert main(["5"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == add_nodes(raw(), 5)


@pytest.mark.parametrize("nodes", [FIRST_NEW, MOST + 1])
def test_a_number_that_makes_no_sense_is_refused(
    nodes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer than there are, or more than the image has places for."""
    with pytest.raises(SystemExit):
        main([str(nodes)])
    assert str(nodes) in capsys.readouterr().err
