"""The command line: what it explains, refuses and hands on."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.sources.embedded import locate_embedded
from server.config import read_run_config
from server.monitoring.events import EVENTS, RunEnded, write_event
from server.report.writing import write_report
from sims.cli.main import main
from sims.errors import RunFailedError
from sims.runs import jobs
from strategies.scenario import FlatValue
from tests.server.report.test_data import MERGES, make_report
from tests.trees import ROOT

Flat = Mapping[str, FlatValue]
Engine = Callable[[Flat, int], None]


def exit_code(*arguments: str) -> int:
    """Run the command line in this process."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    code = caught.value.code
    return code if isinstance(code, int) else 0


HEAVY = {"torch", "transformers", "flwr", "ray", "pandas", "matplotlib"}
"""Libraries that a command must not load before it has read its input."""

JOB = ("--set", "model.path=./lent", "--set", "requests.source=pool.json")
SMALL = ("--set", "parties.count=2", "--set", "parties.requests-per-round=1")


@pytest.fixture
def use_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Engine], None]:
    """Put an engine in the place of the real ones, and a pool of requests around."""
    monkeypatch.chdir(tmp_path)
    request = {"prompt": "{} is", "target_new": "B"}
    pool = [request | {"subject": f"A{number}"} for number in range(5)]
    Path("pool.json").write_text(json.dumps(pool))
    Path("lent").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(locate_embedded() / name, Path("lent") / name)

    def use(engine: Engine) -> None:
        monkeypatch.setattr(
            jobs, "choose_engine", lambda *_, **__: nullcontext((engine, None))
        )

    return use


def write_results(flat: Flat, parties: int) -> None:
    """Do what the server does at the end of a run."""
    assert parties == read_run_config(flat).parties.count
    folder = Path(str(flat["output.directory"]))
    folder.mkdir(parents=True)
    write_report(make_report(), folder)


def refuse_input(flat: Flat, _: int) -> None:
    """Fail as Flower does when the server refuses its input."""
    event = RunEnded(error="no such\nfile [here]", cause="input")
    file = Path(str(flat["output.watch"])) / EVENTS
    file.write_text(f"{write_event(event)}\n")
    raise RunFailedError("the run ended as `finished:failed`")


def never(_: Flat, __: int) -> None:
    """Be an engine that must not be started."""
    raise AssertionError("the engine was started")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """And says what it does."""
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    for command in (
        "run",
        "compare",
        "evaluate",
        "presets",
        "summarize",
        "study",
        "cache",
        "train-world",
        "export-model",
    ):
        assert f" {command} " in shown


@pytest.mark.parametrize("command", ["run", "compare"])
def test_help_explains_the_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an example and the defaults."""
    assert exit_code(command, "--help") == 0
    shown = capsys.readouterr().out
    for words in ("parties.count=3", "in-process", "run_NUMBER", "default.toml"):
        assert words in shown


def test_help_waits_for_no_heavy_library() -> None:
    """A newcomer's first command answers at once."""
    code = "import sims.cli.main, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & set(done.stdout.split())


EMBEDDED = ("--model", "embedded", "--requests", "embedded")
DELTA = ("--model", "embedded", "--delta", "delta.safetensors")
BAD_REQUESTS = '[{"prompt": "no place", "subject": "A", "target_new": "B"}]'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.toml"], "none.toml: cannot be read"),
        (["run", "--set", "parties.cuont=3"], "did you mean `parties.count`"),
        (["run", "--set", "parties.count=0"], "greater than or equal to 1"),
        (["run", "--set", "merge.name=tise"], "simple-average"),
        (["run", "--set", "editing.schedule=now"], "frozen-harmonic"),
        (["compare", "--set", "run.rounds=x"], "whole number"),
        (["run", "--output", "."], "never overwritten"),
        (["run", *JOB[:3], "requests.source=none.json"], "none.json: cannot be read"),
        (["run", *JOB[:3], "requests.source=bad.json"], "bad.json: record 1: `prompt`"),
        (["run", *JOB], "100 requests"),
        (
            ["run", *JOB, *SMALL, "--set", "editing.hyperparameters=gpt2-x1"],
            "did you mean 'gpt2-xl'?",
        ),
        (["export-model", "."], "never overwritten"),
        (["run", "--output", "pool.json/x"], "pool.json is a file"),
        (["run", "--connection", "nowhere"], "no table [superlink.nowhere]"),
        (["evaluate", *EMBEDDED, "--output", "pool.json/x"], "pool.json is a file"),
        (["evaluate", *EMBEDDED, "--output", "lent"], "never overwritten"),
        (["apply", *DELTA, "--output", "pool.json/x"], "pool.json is a file"),
        (["apply", *DELTA, "--output", "x", "--rank", "3"], "add --as lora"),
        (["revert", *DELTA, "--output", "lent"], "never overwritten"),
        (["train-world", "--output", "pool.json/x"], "pool.json is a file"),
        (["search", "--output", "pool.json/x"], "pool.json is a file"),
        (["estimate", "--bandwidth", "nan"], "--bandwidth nan: wanted a number"),
        (["flower"], "wanted a command of `flwr`"),
        (["flower", "--stop", "run"], "wanted a command of `flwr`"),
        (["run", "--resume", "nowhere"], "no unfinished run is in"),
        (["run", "--resume", "x", "--set", "run.rounds=2"], "leave the scenario"),
        (["compare", "--schedule", "then"], "'boundary', got"),
        (["compare", "--merges", "ties,tise"], "Unknown merge 'tise'"),
        (["compare", "--merges", "ties,ties"], "named twice"),
        (["compare", "--merges", "ties,,global"], "names between the commas"),
        (["compare", "--merges", "no.where:It"], "Cannot load merge `no.where:It`"),
        (["compare", "--resume", "x", "--merges", "ties"], "--merges out"),
        (["summarize", "nowhere"], "nowhere"),
        (["study", "forgetting", "--seeds", "0,x"], "wanted whole numbers"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: str,
    use_engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Before anything is started, and without a traceback."""
    use_engine(never)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('[superlink.local]\naddress = ":local:"\n')
    Path("bad.json").write_text(BAD_REQUESTS)
    assert exit_code(*arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert words in written.err
    assert "Traceback" not in written.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--set", "run.roundz=3"],
        ["compare", "--set", "merge.name=tise"],
        ["compare", "--merges", "tise"],
        ["run", "none.toml"],
        ["run", "--output", "sims"],
        ["deploy-local", "--set", "run.roundz=3"],
        ["deploy-local", "--output", "sims"],
    ],
)
def test_bad_settings_are_refused_before_heavy_libraries_load(
    arguments: list[str],
) -> None:
    """Torch, transformers and Flower take half a minute on a slow disk."""
    code = (
        "import atexit, sys; from sims.cli.main import main\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert not HEAVY & set(done.stdout.split())


def test_a_command_prints_a_line_before_heavy_libraries_load(tmp_path: Path) -> None:
    """Whatever fails later, the user has seen that something goes on."""
    command = ["run", "--set", "requests.source=none.json", "--output"]
    done = subprocess.run(
        [sys.executable, "-m", "sims", *command, str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    first, last = done.stderr.splitlines()
    assert "Starting: loading torch, transformers and Flower" in first
    assert last.startswith("Error: ")
    assert done.returncode == 2


def test_a_path_that_nobody_validated_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """A command may meet a path that it cannot read in the middle of its work."""
    gone = tmp_path / "gone"
    monkeypatch.setattr("sims.runs.jobs.describe_target_cache", gone.read_text)
    assert exit_code("cache") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {gone}: cannot be read or written (No such file")
    assert error.count("\n") == 1


def test_an_unknown_option_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """As everywhere."""
    assert exit_code("run", "--outptu", "x") == 2
    assert "--output" in capsys.readouterr().err


def test_what_the_server_refuses_is_bad_input(
    use_engine: Callable[[Engine], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Though it comes back through Flower, which ends well whatever happens."""
    use_engine(refuse_input)
    assert exit_code("run", *JOB, *SMALL) == 2
    assert capsys.readouterr().err.endswith("parties …\nError: no such file [here]\n")


def test_a_failed_run_is_exit_code_1(
    use_engine: Callable[[Engine], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is nobody's input."""

    def fail(_: Flat, __: int) -> None:
        raise RunFailedError("Ray did not start")

    use_engine(fail)
    assert exit_code("run", *JOB, *SMALL) == 1
    started, error = capsys.readouterr().err.splitlines()
    assert "Starting Flower's simulation of 2 parties" in started
    assert error == "Error: Ray did not start"


def test_a_run_without_a_report_is_a_failed_run(
    use_engine: Callable[[Engine], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that ends early ends well, to Flower."""
    use_engine(lambda _, __: None)
    assert exit_code("run", *JOB, *SMALL) == 1
    assert "left no report" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, RunFailedError, MemoryError])
def test_a_run_that_does_not_end_well_leaves_nothing(
    error: type[BaseException], use_engine: Callable[[Engine], None]
) -> None:
    """Not even what the server had begun to write when it was killed."""

    def stop(flat: Flat, _: int) -> None:
        half = Path(str(flat["output.directory"])).with_name(".run.partial")
        half.mkdir(parents=True)
        raise error("stopped")

    use_engine(stop)
    with pytest.raises((SystemExit, error)):
        main(["run", *JOB, *SMALL])
    assert not [path for path in Path("results").rglob("*") if "run" in path.name]


def test_results_are_shown_and_numbered(
    use_engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """A folder a run, named for what was run."""
    use_engine(write_results)
    for arguments in (
        ["run"],
        ["run"],
        ["run", "--set", "merge.name=ties"],
        ["compare"],
    ):
        assert exit_code(*arguments, *JOB, *SMALL) == 0
    shown = capsys.readouterr().out
    assert all(merge in shown for merge in MERGES)
    folders = sorted(str(path.parent) for path in Path("results").rglob("*.json"))
    assert folders == [
        "results/collabedit/run_000",
        "results/collabedit/run_001",
        "results/compare/run_000",
        "results/ties/run_000",
    ]
    assert f"Report: {tmp_path}/results/compare/run_000/report.html" in shown


def test_the_app_gets_absolute_paths(
    use_engine: Callable[[Engine], None], tmp_path: Path
) -> None:
    """Flower runs it in another folder."""
    given: list[Flat] = []

    def keep(flat: Flat, parties: int) -> None:
        given.append(flat)
        write_results(flat, parties)

    use_engine(keep)
    assert exit_code("compare", *JOB, *SMALL, "--output", "here") == 0
    config = read_run_config(given[0])
    assert config.run.compare
    assert config.parties.count == 2
    assert config.model.path == str(tmp_path / "lent")
    assert config.requests.source == str(tmp_path / "pool.json")
    assert Path(str(config.output.directory)).is_absolute()
    assert Path("here", "report.html").is_file()
    assert config.output.watch is not None
    assert Path(config.output.watch).is_absolute()


def embedded_is_here() -> bool:
    """Whether the clone holds the embedded model's weights."""
    try:
        locate_embedded()
    except InputError:
        return False
    return True


@pytest.mark.skipif(not embedded_is_here(), reason="the embedded model is not trained")
def test_the_exported_model_is_the_embedded_one(tmp_path: Path) -> None:
    """File by file, byte by byte."""
    assert exit_code("export-model", str(tmp_path / "model")) == 0
    place = locate_embedded()
    names = sorted(path.name for path in place.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "model").iterdir())
    for name in names:
        assert (tmp_path / "model" / name).read_bytes() == (place / name).read_bytes()
