"""Laws of warm clients: a process a message, which shares libraries and no more."""

import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import (
    ExecutionSpec,
    LaunchResult,
    LaunchResultStatus,
)
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

from sims.processes.warm_clients import (
    OURS,
    Task,
    WarmExecutor,
    load_libraries,
    read_approved,
)
from tests.trees import ROOT

KEEPER = """
import io, json, os, sys
from pathlib import Path
import sims.processes.warm_clients as warm

warm.LIBRARIES = ("wave",)
seen = []

def run(task):
    seen.append(task.token)
    said = [os.getpid(), os.getppid(), "wave" in sys.modules, seen]
    Path(sys.argv[1], task.token).write_text(json.dumps(said))
    if task.token == "bad":
        raise ValueError("a message that fails")

assert "wave" not in sys.modules
warm.keep(io.StringIO(sys.stdin.read()), run)
try:
    os.wait()
except ChildProcessError:
    pass
assert not seen
print(os.getpid(), [name for name in warm.OURS if name in sys.modules])
"""


def task(token: str) -> Task:
    """Make a task as Flower hands it out."""
    return Task("127.0.0.1:9094", token, True, None, 1)


def spec(
    kind: TaskType = TaskType.CLIENT_APP, *, install: bool = False
) -> ExecutionSpec:
    """Make what Flower tells an executor."""
    return ExecutionSpec(
        task_type=kind,
        runtime_api_address="127.0.0.1:9094",
        token="secret",
        insecure=True,
        root_certificates_path=None,
        runtime_dependency_install=install,
        parent_pid=1,
        suppress_output=False,
        task_id=1,
    )


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> list[ExecutionSpec]:
    """Collect what Flower itself would start."""
    started: list[ExecutionSpec] = []

    def launch(_: SubprocessExecutor, asked: ExecutionSpec) -> LaunchResult:
        started.append(asked)
        return LaunchResult.accepted()

    monkeypatch.setattr(SubprocessExecutor, "launch", launch)
    return started


def test_each_message_has_a_process_with_the_libraries_and_nothing_of_another(
    tmp_path: Path,
) -> None:
    """One that fails stops no other, and nothing of the app is there beforehand."""
    tokens = ["one", "bad", "two"]
    lines = "".join(json.dumps(asdict(task(token))) + "\n" for token in tokens)
    done = subprocess.run(
        [sys.executable, "-c", KEEPER, str(tmp_path)],
        input=lines,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    keeper, loaded = done.stdout.split(maxsplit=1)
    assert loaded.strip() == "[]"
    found = {token: json.loads((tmp_path / token).read_text()) for token in tokens}
    assert len({own for own, *_ in found.values()} | {int(keeper)}) == 4
    for token, (_, parent, has_library, seen) in found.items():
        assert (parent, has_library, seen) == (int(keeper), True, [token])
    assert "a message that fails" in done.stderr


def test_a_client_is_asked_of_the_keeper_in_one_line(
    cold: list[ExecutionSpec],
) -> None:
    """With all that Flower's own command would receive."""
    pipe = io.StringIO()
    assert WarmExecutor(pipe).launch(spec()) == LaunchResult.accepted()
    (line,) = pipe.getvalue().splitlines()
    assert Task(**json.loads(line)) == task("secret")
    assert cold == []


@pytest.mark.parametrize(
    "asked", [spec(TaskType.SERVER_APP), spec(install=True)], ids=["server", "install"]
)
def test_what_is_no_plain_client_is_started_as_flower_does(
    asked: ExecutionSpec, cold: list[ExecutionSpec]
) -> None:
    """Such as one that installs other versions of the libraries."""
    pipe = io.StringIO()
    WarmExecutor(pipe).launch(asked)
    assert (pipe.getvalue(), cold) == ("", [asked])


@pytest.mark.parametrize(
    "asked", [spec(TaskType.AGENT_APP), spec(install=True)], ids=["agent", "install"]
)
def test_where_bundles_are_approved_nothing_starts_past_the_keeper(
    asked: ExecutionSpec, cold: list[ExecutionSpec]
) -> None:
    """Flower's own commands would run any."""
    pipe = io.StringIO()
    result = WarmExecutor(pipe, closed=True).launch(asked)
    assert result.status is LaunchResultStatus.FAILED
    assert "--only-bundle" in str(result.message)
    assert (pipe.getvalue(), cold) == ("", [])


def test_approved_bundles_are_read_off_the_command_line() -> None:
    """Any number of them; the rest is for Flower."""
    one, two = "a" * 64, "b" * 64
    words = ["--insecure", "--only-bundle", one, "--only", f"--only-bundle={two}"]
    assert read_approved(words) == (frozenset({one, two}), ["--insecure", "--only"])
    assert read_approved(["--insecure"]) == (frozenset(), ["--insecure"])


def test_a_wrong_digest_stops_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """It would otherwise wait for a bundle that cannot be."""
    with pytest.raises(SystemExit):
        read_approved(["--only-bundle", "abc"])
    assert "64 hexadecimal digits" in capsys.readouterr().err


def test_without_a_keeper_clients_start_cold(cold: list[ExecutionSpec]) -> None:
    """It may have been killed for memory."""

    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    assert WarmExecutor(Broken()).launch(spec()) == LaunchResult.accepted()
    assert cold == [spec()]
    refused = WarmExecutor(Broken(), closed=True).launch(spec())
    assert (refused.status, cold) == (LaunchResultStatus.FAILED, [spec()])


@pytest.mark.parametrize("name", OURS)
def test_a_keeper_that_has_loaded_the_app_refuses(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run would be given this version of it."""
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "0")  # is put back then
    for each in OURS:
        monkeypatch.delitem(sys.modules, each, raising=False)
    monkeypatch.setitem(sys.modules, name, sys)
    with pytest.raises(RuntimeError, match=name):
        load_libraries(())
