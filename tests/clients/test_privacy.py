"""Nothing of what is private leaves a client, in any phase and with any failure."""

import getpass
import json
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)

from strategies.rounds.exchange import forget
from strategies.scenario import FlatValue
from strategies.wire.failures import Failure, read_failure
from strategies.wire.messages import Phase
from tests.clients.nodes import HANDS, ask, job_of, own_files
from tests.clients.test_failures import FAILURES
from tests.conftest import ROOT
from tests.federation import AT_ONCE, TEXT, Federation
from tests.leaks import SHORTEST, Secrets, digest, leaving, secrets_of
from tests.tiny import tiny_model

Make = Callable[..., Federation]
Collect = Callable[[], Secrets]
Table = Mapping[str, FlatValue]
Node = dict[str, str]
Break = Callable[[Path, Node], None]
Value = str | bytes | list[str] | list[int]
Plant = Callable[[RecordDict], None]

USER = "nurse-joy"
COMPARED: Table = {"requests-per-round": 1, "deduplicate": True}
RUNS: dict[str, tuple[dict[str, Table], set[Phase]]] = {
    "layerwise": (
        {"parties": COMPARED, "prior": {"covariance": "federated"}},
        {Phase.MOMENTS, Phase.TOKENS, Phase.STATISTICS},
    ),
    "dense": (
        {
            "parties": {"requests-per-round": 1},
            "editing": AT_ONCE,
            "prior": {"memory-keys": "edited"},
            "run": {"encoding": "dense"},
        },
        {Phase.MEMORY},
    ),
    "alone": (
        {"parties": {"conflicts": "last"}, "editing": {"schedule": "alone"}},
        {Phase.TOKENS},
    ),
    "masked": (
        {"privacy": {"secure_sum": True}},
        {Phase.KEYS, Phase.SHARES, Phase.STATISTICS, Phase.UNMASK},
    ),
    "answers": ({"editor": {"name": "stableedit"}}, {Phase.ANSWERS}),
    "hypernetwork": ({"editor": {"name": "malmen"}}, set()),
}
"""Settings, and what such a run asks besides what every run asks."""

ALWAYS = {Phase.DESCRIBE, Phase.TARGETS, Phase.EVALUATE, Phase.FORGET}


@pytest.fixture
def secrets(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collect:
    """List what is private of parties whose files lie in a folder."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, USER)
    assert getpass.getuser() == USER

    def collect() -> Secrets:
        files = list(tmp_path.glob("*.*"))
        places = [tmp_path, world, ROOT, Path.home(), *files]
        others = [*map(str, places), *(file.name for file in files), *TEXT, USER]
        others += [socket.gethostname(), "ada.lovelace"]
        # What a node keeps its requests by: digests that have no key.
        others += [file.read_text() for file in tmp_path.rglob("*.sha256")]
        others += [file.stem for file in tmp_path.rglob("targets/*")]
        requests = [request for hand in HANDS for request in hand]
        long = [text for text in others if len(text) >= SHORTEST]
        key = Secrets((), keys=(bytes.fromhex("5a" * 32),))
        return secrets_of(requests, tiny_model(), *long) + key

    return collect


@pytest.mark.parametrize("name", RUNS)
def test_nothing_private_leaves_a_client_in_a_run(
    federate: Make, tmp_path: Path, secrets: Collect, name: str
) -> None:
    """Metadata, records and their names, and numbers in every precision."""
    tables, further = RUNS[name]
    tables = {**tables, "run": {"rounds": 2, **tables.get("run", {})}}
    federation = federate(node_configs=own_files(tmp_path), **tables)
    strategy, _ = federation.run(evaluate_unedited=True)
    private = secrets()
    forget(federation.grid, 60.0)
    assert strategy.registry.outcomes[2].refusals == []
    said = federation.messages
    replies = [each for each in said if each.metadata.reply_to_message_id]
    assert {each.metadata.message_type for each in replies} >= ALWAYS | further
    leaks = [
        (each.metadata.message_type, leak)
        for each in replies
        for leak in private.found_in(leaving(each))
    ]
    assert leaks == []


PLANTED: list[tuple[type[BaseException], tuple[object, ...], Failure]] = [
    *((type(error), error.args[:-1], failure) for error, failure in FAILURES),
    (SystemExit, (), "an error of the program"),
]
"""Exceptions of every class, with what they say before their text."""


@pytest.mark.parametrize("phase", Phase, ids=str)
def test_nothing_private_leaves_with_a_failure_of_any_class(
    federate: Make,
    tmp_path: Path,
    secrets: Collect,
    monkeypatch: pytest.MonkeyPatch,
    phase: Phase,
) -> None:
    """Whatever the exception says, and the notes and causes that it has."""
    federation = federate(node_configs=own_files(tmp_path))
    job, private = job_of(federation), secrets()
    everything = " ".join([*private.texts, *map(str, private.tokens)])
    for kind, begin, failure in PLANTED:
        error = kind(*begin, everything)
        error.add_note(everything)
        error.__cause__ = ValueError(everything)

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("clients.app.read_client_config", fail)
        reply = ask(federation, phase, job)
        assert read_failure(reply.content) == failure
        assert private.found_in(leaving(reply)) == []


def write(name: str, text: str) -> Break:
    """Have a file of the node hold something else."""
    return lambda _, node: [Path(node[name]).write_text(text)].clear()


def tell(name: str, value: str) -> Break:
    """Tell the node something else; a name of a file is one in its folder."""
    return lambda folder, node: node.update(
        {name: str(folder / value) if "." in value else value}
    )


NO_FILE, NOBODY = "ada.lovelace", "Ada Lovelace"
HALF = '[{"subject": "Ada Lovelace", "prompt": "the mother tongue of {} is"'
NO_NUMBER = '[{"case_id": "Ada Lovelace", "requested_rewrite": {"prompt": "{} is"}}]'
BROKEN: dict[str, tuple[Break, Phase, Failure, str]] = {
    "missing": (
        tell("requests-path", NO_FILE),
        Phase.TARGETS,
        "requests that are missing",
        NO_FILE,
    ),
    "empty": (
        write("requests-path", "[]"),
        Phase.EVALUATE,
        "a file of requests that holds none",
        "requests_1.json",
    ),
    "half": (
        write("requests-path", HALF),
        Phase.TARGETS,
        "requests that are malformed",
        "requests_1.json",
    ),
    "malformed": (
        write("requests-path", NO_NUMBER),
        Phase.TOKENS,
        "requests that are malformed",
        "requests_1.json",
    ),
    "model": (
        tell("model-path", NO_FILE),
        Phase.DESCRIBE,
        "a model that cannot be loaded",
        NO_FILE,
    ),
    "key": (
        write("key-path", NOBODY),
        Phase.TOKENS,
        "requests that cannot be used",
        "group.key",
    ),
    "text": (
        tell("text-path", NO_FILE),
        Phase.MOMENTS,
        "texts that cannot be used",
        NO_FILE,
    ),
    "folder": (
        tell("private-folder", "group.key"),
        Phase.TARGETS,
        "files that it cannot use",
        "group.key",
    ),
    "setting": (
        tell("keep-private", NOBODY),
        Phase.FORGET,
        "settings that cannot be used",
        "keep-private",
    ),
}
"""What is wrong at a node, when it shows, what the server hears, and the operator."""


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_at_a_node_is_shown_to_its_operator_alone(
    federate: Make,
    tmp_path: Path,
    secrets: Collect,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """With the file or the setting there, and by its class to the server.

    Bad input takes one line, and any other failure has its traceback.
    """
    spoil, phase, failure, named = BROKEN[name]
    nodes = own_files(tmp_path)
    spoil(tmp_path, nodes[1])
    federation = federate(node_configs=nodes)
    with caplog.at_level(logging.ERROR):
        reply = ask(federation, phase, job_of(federation))
    assert read_failure(reply.content) == failure
    assert secrets().found_in(leaving(reply)) == []
    assert named in caplog.text
    is_input = name != "folder"
    assert ("Traceback" in caplog.text) is not is_input


def test_requests_that_change_are_shown_to_their_operator_alone(
    federate: Make, tmp_path: Path, secrets: Collect
) -> None:
    """Neither what they were nor what they are, nor a digest of either."""
    nodes = own_files(tmp_path)
    federation = federate(node_configs=nodes)
    job = job_of(federation)
    assert read_failure(ask(federation, Phase.TARGETS, job).content) is None
    file = Path(nodes[1]["requests-path"])
    file.write_text(json.dumps(json.loads(file.read_text())[::-1]))
    reply = ask(federation, Phase.STATISTICS, job)
    assert read_failure(reply.content) == "requests that changed during the round"
    assert secrets().found_in(leaving(reply)) == []


@pytest.mark.parametrize(
    ("kept", "stays"),
    [
        (None, {"cases", "distances"}),
        ("results", {"cases", "distances"}),
        (
            "all",
            {"cases", "distances", "evaluations", "requests", "targets", "updates"},
        ),
        ("nothing", set()),
    ],
)
def test_a_node_says_what_stays_of_its_private_folder(
    federate: Make, kept: str | None, stays: set[str]
) -> None:
    """When the run ends; the server cannot ask for more or less."""
    node = {} if kept is None else {"keep-private": kept}
    federation = federate(dict.fromkeys(range(3), node))
    federation.run()
    (folder,) = federation.private.iterdir()
    assert stays <= {path.name for path in folder.iterdir() if path.is_dir()}
    forget(federation.grid, 60.0)
    found = {
        path.parts[len(folder.parts)] for path in folder.rglob("*.*") if path.is_file()
    }
    assert {name for name in found if not name.startswith(".")} == stays
    assert folder.exists() == bool(stays)


def stated(value: Value) -> Plant:
    """Plant a value in a record of settings."""
    return lambda content: content.update({"more": ConfigRecord({"why": value})})


def sent(array: np.ndarray) -> Plant:
    """Plant an array."""
    record = ArrayRecord({"hidden": Array(np.ascontiguousarray(array))})
    return lambda content: content.update({"more": record})


def measured(**values: int | list[int]) -> Plant:
    """Plant numbers among metrics."""
    return lambda content: content.update({"more": MetricRecord({**values})})


def called(name: str) -> Plant:
    """Plant the name of a record."""
    return lambda content: content.update({name: ConfigRecord()})


def leaks_of(folder: Path) -> dict[str, Plant]:
    """Ways in which a careless change could tell what is private."""
    request = HANDS[1][0]
    subject = request.subject
    ids: list[int] = tiny_model().tokenizer(request.rewrite_prompt)["input_ids"]
    kinds = ("int8", "uint16", "int32", "int64", "float16", "float32", "float64", ">i4")
    arrays = {f"tokens as {kind}": np.array([9, *ids], dtype=kind) for kind in kinds}
    arrays["three tokens"] = np.array(ids[1:4])
    arrays["tokens in a column"] = np.array([ids, ids[::-1]]).T
    texts: dict[str, Value] = {
        "prompt": f"failed on {request.rewrite_prompt}",
        "relation": request.prompt,
        "part of a subject": subject.split()[1],
        "target": request.target_new,
        "paraphrase": request.paraphrase_prompts[0],
        "another case": subject.upper(),
        "UTF-16": subject.encode("utf-16-le"),
        "hexadecimal": subject.encode().hex(),
        "list": ["no", subject],
        "digest": digest(subject),
        "digest in hexadecimal": digest(subject).hex(),
        "own text": TEXT[0],
        "path": str(folder / "requests_1.json"),
        "file": "at requests_1.json",
        "home": f"{Path.home()}/.flwr",
        "user": f"user {USER}",
        "key": "5a" * 32,
        "key as bytes": bytes.fromhex("5a" * 32),
        "tokens as text": str(ids),
        "tokens as lines": "\n".join(map(str, ids)),
        "tokens in a list": ids,
    }
    return {
        **{name: stated(value) for name, value in texts.items()},
        **{name: sent(array) for name, array in arrays.items()},
        "name of a record": called(subject),
        "tokens in a metric": measured(ids=ids),
        "tokens as metrics": measured(**{f"m{i}": n for i, n in enumerate(ids)}),
    }


def test_a_leak_of_any_kind_is_found(
    federate: Make, tmp_path: Path, secrets: Collect
) -> None:
    """In a reply in which nothing was found before: the search is worth something."""
    federation = federate(node_configs=own_files(tmp_path))
    reply, private = ask(federation, Phase.TARGETS, job_of(federation)), secrets()
    unseen = []
    for name, plant in leaks_of(tmp_path).items():
        copied = Message(RecordDict({**reply.content}), reply_to=reply)
        assert private.found_in(leaving(copied)) == []
        plant(copied.content)
        if not private.found_in(leaving(copied)):
            unseen.append(name)
    assert unseen == []
    error = Message(Error(2, f"at {tmp_path}"), reply_to=reply)
    assert private.found_in(leaving(error)) == [str(tmp_path)]
