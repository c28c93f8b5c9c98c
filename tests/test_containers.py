"""The containers are closed, their file is whole, and a federation runs in them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path, PurePosixPath

import pytest
from flwr.app import Context, RecordDict
from flwr.common.config import parse_config_args

from clients.settings import read_client_config
from deploy.steps import read_arguments
from server.config import default_run_config
from sims.nodes.proxy import ProxyOrder, write_proxy
from sims.processes.superlink import executable
from tests.compose import (
    FILE,
    Compose,
    Service,
    compose,
    node_config,
    raw,
    variables,
    with_defaults,
)
from tests.trees import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICES = sorted(raw()["services"])
STEPS = ("credentials", "example-requests", "register", "run")
"""The services that do one thing and end."""

IMAGE = os.environ.get("COLLABEDIT_IMAGE", "collabedit-flower")


def argument(name: str) -> str:
    """The default of a build argument."""
    found = re.search(rf"^ARG {name}=(.+)$", DOCKERFILE, re.MULTILINE)
    assert found
    return found[1]


def places_made() -> set[str]:
    """The folders that the image makes for volumes, with those of any node."""
    made = re.search(r"mkdir -p (.*?) \\\n    && for", DOCKERFILE, re.DOTALL)
    assert made
    each = re.findall(r'"(/volumes/[\w-]+-)\$node"', DOCKERFILE)
    numbers = re.search(r"seq 0 (\d+)", DOCKERFILE)
    assert numbers
    last = int(numbers[1])
    named = [Path(word) for word in made[1].split() if word.startswith("/")]
    single = {str(place) for path in named for place in (path, path.parent)}
    return single | {f"{place}{node}" for place in each for node in range(last + 1)}


def test_the_file_has_no_key_that_is_not_described() -> None:
    """A misspelt key would be a silent default, and some keys open what is closed."""
    wrong = {**raw(), "services": {**raw()["services"], "x": {"privileged": True}}}
    assert compose().services
    with pytest.raises(ValueError, match="privileged"):
        Compose.model_validate(wrong)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_runs_as_the_image_s_user_and_can_do_nothing_else(
    name: str,
) -> None:
    """`Service` admits only a read-only root without capabilities."""
    service = compose().services[name]
    user = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1]
    assert service.user == user
    assert all(int(number) >= 1000 for number in user.split(":"))
    assert service.cap_drop
    assert service.security_opt


def test_the_proxy_s_port_is_published_and_to_this_machine_alone() -> None:
    """Unless the operator says otherwise; the SuperLink's own never is."""
    published = {k: v.ports for k, v in compose().services.items() if v.ports}
    assert list(published) == ["proxy"]
    (port,) = published["proxy"]
    assert with_defaults(port) == "127.0.0.1:8000:8000"
    assert set(variables(port)) == {"COLLABEDIT_ADDRESS", "COLLABEDIT_PORT"}


def test_every_variable_is_documented_with_its_default() -> None:
    """And nothing is documented that the file does not read."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and line[0] != "#")
    documented = {name: value for name, _, value in pairs}
    assert documented == variables(FILE.read_text(encoding="utf-8"))


def test_nothing_is_passed_to_a_variable_without_a_default() -> None:
    """Not even `$NAME`, which has none."""
    text = FILE.read_text(encoding="utf-8")
    assert re.findall(r"\$\{\w+\}|\$\w+|\$\{\w+[-?][^}]*\}", text) == []


def test_nodes_meet_the_proxy_and_nobody_else() -> None:
    """No two of them are in one network, and none leads out of this machine.

    The SuperLink is in no network of a node, nor in one that leads out.
    """
    nodes, services = compose().nodes, compose().services
    for one, other in combinations(nodes.values(), 2):
        assert not {*one.networks} & {*other.networks}
    for service in nodes.values():
        assert {*service.networks} < {*services["proxy"].networks}
        assert {*service.networks}.isdisjoint(services["superlink"].networks)
    for service in (services["superlink"], *nodes.values()):
        assert all(compose().networks[each].internal for each in service.networks)
    met = {*services["proxy"].networks} & {*services["superlink"].networks}
    assert met == {"fleet"}
    operators = {*services["register"].networks, *services["run"].networks}
    assert operators.isdisjoint(
        name for node in nodes.values() for name in node.networks
    )


def test_what_is_private_to_a_node_is_mounted_in_no_other() -> None:
    """But for the step that writes it; requests and keys cannot be changed."""
    for name, node in compose().nodes.items():
        own = {node.mounts[place] for place in ("/private", "/credentials", "/state")}
        others = {
            k for k, v in compose().services.items() if own & {*v.mounts.values()}
        }
        assert others == {name, "credentials", "example-requests"}
        assert {"/private", "/credentials"} <= node.read_only_places


def test_the_authority_s_key_is_seen_by_the_step_that_makes_it_alone() -> None:
    """Who has it can play the server."""
    users = {
        k for k, v in compose().services.items() if "credentials" in v.mounts.values()
    }
    assert users == {"credentials"}


def test_networks_and_volumes_are_declared_and_used() -> None:
    """Each of them, in both directions."""
    services = compose().services.values()
    assert {name for each in services for name in each.networks} == {
        *compose().networks
    }
    mounted = {source for each in services for source in each.mounts.values()}
    assert mounted == {*compose().volumes}


def test_the_image_has_each_place_that_is_mounted() -> None:
    """A new volume takes the owner of the image's folder; without it, root's."""
    wanted = {place for each in compose().services.values() for place in each.mounts}
    assert wanted <= places_made()


@pytest.mark.parametrize("name", SERVICES)
def test_steps_end_and_programs_are_started_again(name: str) -> None:
    """A node that was killed is refused for a while, so it has to try again."""
    service = compose().services[name]
    lasting = name not in STEPS
    assert service.restart == ("unless-stopped" if lasting else None)
    assert (service.healthcheck is not None) == lasting


def test_services_wait_for_what_they_need() -> None:
    """Files, the server, the registration of nodes, and then the nodes."""
    services = compose().services
    assert {*services["superlink"].depends_on} == {"credentials"}
    assert {*services["register"].depends_on} == {"superlink"}
    assert {*services["proxy"].depends_on} == {"superlink"}
    for node in compose().nodes.values():
        assert {*node.depends_on} == {"register", "proxy"}
    for service in services.values():
        for name, needed in service.depends_on.items():
            healthy = services[name].healthcheck is not None
            assert (needed.condition == "service_healthy") == healthy


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_that_are_called_exist(name: str) -> None:
    """With the options that they are given."""
    words = compose().services[name].words
    assert words[:3] == ["python", "-m", "deploy.steps"]
    assert read_arguments(words[3:]).step == name


@pytest.mark.parametrize("name", sorted({*SERVICES} - {*STEPS}))
def test_health_is_asked_with_a_step_that_exists(name: str) -> None:
    """Of the server under a name that its certificate has."""
    health = compose().services[name].healthcheck
    assert health is not None
    assert health.test[:4] == ("CMD", "python", "-m", "deploy.steps")
    asked = read_arguments(health.test[4:])
    assert asked.step == "healthy"
    assert (asked.authority is not None) == asked.address.startswith("https")


def test_the_proxy_is_the_one_that_the_command_writes() -> None:
    """Of places that are mounted there, and under names of the certificate."""
    services = compose().services
    *_, file = services["proxy"].words
    order = ProxyOrder(
        PurePosixPath("/credentials"), PurePosixPath("/tmp"), "superlink:8000", "8000"
    )
    place = ROOT / PurePosixPath(file).relative_to("/app")
    assert place.read_text(encoding="utf-8") == write_proxy(order)
    assert {"/credentials"} == {*services["proxy"].mounts}
    (hosts,) = (w for w in services["credentials"].words if w.startswith("--hosts="))
    for node in compose().nodes.values():
        (given,) = (word for word in node.words if word.startswith("--superlink="))
        host, _, port = given.removeprefix("--superlink=").partition(":")
        assert (host, port) == ("proxy", order.listen)
        assert host in hosts.removeprefix("--hosts=").split()


@pytest.mark.parametrize("name", ["superlink", "node-0"])
def test_flower_knows_the_options_that_its_programs_are_given(name: str) -> None:
    """As its own help lists them."""
    program, *words = compose().services[name].words
    help_text = subprocess.run(
        [executable(program), "--help"],
        env={**os.environ, "FLWR_DISABLE_UPDATE_CHECK": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    options = {word.partition("=")[0] for word in words}
    assert options <= {*re.findall(r"--[a-z-]+", help_text)}


def test_a_client_reads_its_node_s_configuration() -> None:
    """Each party its number, its requests in the private volume, and its model."""
    for name, service in compose().nodes.items():
        (given,) = (word for word in service.words if "--node-config=" in word)
        parsed = parse_config_args([given.partition("=")[2]])
        assert {key: str(value) for key, value in parsed.items()} == node_config(
            service
        )
        context = Context(0, 0, parsed, RecordDict(), default_run_config())
        config = read_client_config(context)
        assert name == f"node-{config.party}"
        assert config.own_requests == Path("/private/requests.jsonl")
        assert config.model.path == "/app/sims/embedded"
        assert (ROOT / "sims" / "embedded" / "config.json").is_file()


def test_the_build_s_arguments_are_the_dockerfile_s() -> None:
    """With the same defaults, and made by one service for all."""
    (build,) = (each.build for each in compose().services.values() if each.build)
    assert (ROOT / build.context / "Dockerfile").is_file()
    for name, value in build.args.items():
        assert with_defaults(value) == argument(name)


def test_the_image_takes_what_runs_and_no_more() -> None:
    """Private requests that lie in a clone stay out of it."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and line[0] != "#"]
    assert rules[0] == "*"
    taken = [rule[1:] for rule in rules if rule[0] == "!"]
    assert [name for name in taken if not (ROOT / name).exists()] == []
    assert {"results", "tests", ".git", ".venv"}.isdisjoint(taken)


def test_flower_s_simulation_is_left_out_of_the_image() -> None:
    """The Dockerfile's expression still meets the requirement it is for."""
    expression = re.search(r"sed '(s/\^flwr.*?)'", DOCKERFILE)
    assert expression
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = re.findall(r'^    "(flwr.*?)",$', project, re.MULTILINE)
    done = subprocess.run(
        ["sed", expression[1]],
        input=wanted[0],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"flwr>=[\d.]+,<[\d.]+", done.stdout)


def ask_docker(*words: str) -> subprocess.CompletedProcess[str]:
    """Call Docker, from the folder of the file."""
    return subprocess.run(
        ["docker", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def composer() -> None:
    """Skip where Docker Compose is not installed."""
    if shutil.which("docker") is None or ask_docker("compose", "version").returncode:
        pytest.skip("Docker Compose is not installed")


@pytest.mark.usefixtures("composer")
def test_docker_compose_takes_the_file() -> None:
    """It has a schema of its own, and needs no daemon for that."""
    done = ask_docker("compose", "--profile", "*", "config", "--services")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == SERVICES
    everything = ("--profile", "*", "config")
    plain = ask_docker("compose", *everything)
    documented = ask_docker("compose", "--env-file", ".env.example", *everything)
    assert documented.stdout == plain.stdout


@pytest.fixture
def project(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lend a project of our own, and remove all of it; skip without daemon or image."""
    request.getfixturevalue("composer")
    if ask_docker("info").returncode:
        pytest.skip("no Docker daemon answers")
    if ask_docker("image", "inspect", IMAGE).returncode:
        pytest.skip(f"there is no image {IMAGE}: `docker compose build` makes it")
    words = ["compose", "--project-name", f"collabedit-test-{os.getpid()}"]
    yield words
    down = ask_docker(*words, "--profile", "*", "down", "--volumes", "--timeout", "10")
    assert down.returncode == 0, down.stderr


@pytest.mark.end_to_end
def test_a_federation_in_containers_runs_to_its_end(
    project: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Files are made, nodes join, a run completes, and its results can be fetched."""
    monkeypatch.setenv("COLLABEDIT_PORT", "0")  # any that is free
    quick = "sims/scenarios/quick.toml"
    for words in (
        ["run", "--rm", "-T", "example-requests"],
        ["up", "--detach", "--wait"],
        ["run", "--rm", "-T", "run", quick],
        ["cp", "superlink:/app/results", str(tmp_path)],
    ):
        done = ask_docker(*project, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "results").glob("collabedit/*/report.json"))) == 1
    failed = ask_docker(*project, "run", "--rm", "-T", "run", quick, "--set", BAD_LAYER)
    assert failed.returncode != 0


BAD_LAYER = "editing.layers=[99]"
"""What Flower takes and the run refuses."""


def test_services_are_typed_as_they_are_read() -> None:
    """The reader of this file gives the values it was given."""
    for name, service in compose().services.items():
        assert isinstance(service, Service)
        assert list(service.volumes) == raw()["services"][name].get("volumes", [])
