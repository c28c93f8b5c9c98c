"""Training in federation is training on one machine that holds all requests."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import Message, RecordDict

from editing.base.errors import InputError
from editing.malmen.files import FILE, read_hypernetwork
from editing.malmen.holders import train
from editing.malmen.hypernetwork import Hypernetwork
from editing.malmen.settings import TrainingSettings
from editing.models.loading import load_editable_model
from editing.requests.edit_request import read_requests
from server.config import read_run_config
from server.monitoring.stream import EventStream
from server.training.progress import STATE
from server.training.run import RECORD, REPORT, train_together
from strategies.scenario import FlatValue
from strategies.training.nodes import LostPartyError
from strategies.wire.messages import Phase
from tests.federation import Federation, on_phase
from tests.laws import ALGEBRA, assert_same
from tests.tiny import LAYERS

Make = Callable[..., Federation]

TRAINING: dict[str, FlatValue] = {
    "steps": 3,
    "share": 0.6,
    "rate": 0.05,
    "value_rate": 0.3,
    "rank": 2,
}
REQUESTS = 9


@pytest.fixture(scope="module")
def reference(world: Path) -> Hypernetwork:
    """Train on one machine."""
    model = load_editable_model(str(world), "float64")
    requests = read_requests(world / "requests.json")[:REQUESTS]
    settings = TrainingSettings.model_validate(TRAINING)
    return train(model, [requests], LAYERS, settings, dtype=torch.float64)


def run(federation: Federation) -> Hypernetwork:
    """Train in federation, and read what is left."""
    stream = EventStream()
    try:
        folder = train_together(federation.grid, federation.config, stream)
    except Exception:
        stream.fail("it failed", "run")
        raise
    stream.finish(folder)
    return read_hypernetwork(folder / FILE)


def output(folder: Path, name: str = "results") -> dict[str, FlatValue]:
    """Say where results go, and where the state is kept."""
    state = str(folder / "state")
    return {"directory": str(folder / name), "checkpoint": state}


@pytest.mark.parametrize(
    "parties",
    [
        {"count": 1, "requests-per-round": 9},
        {"count": 3, "requests-per-round": "[1, 5, 3]"},
        {"count": 4, "requests-per-round": "[0, 6, 0, 3]", "allow-empty": True},
    ],
)
def test_parties_train_what_one_machine_trains(
    federate: Make,
    tmp_path: Path,
    reference: Hypernetwork,
    parties: dict[str, FlatValue],
) -> None:
    """Three steps over messages, for any split and either encoding."""
    encoding = "dense" if parties["count"] == 3 else "factors"
    made = federate(
        parties=parties,
        training=TRAINING,
        output=output(tmp_path),
        run={"encoding": encoding},
    )
    net = run(made)
    assert net.shape == reference.shape
    for name, each in reference.tensors.items():
        assert_same(net.tensors[name], each, ALGEBRA)
    phases = [
        m.metadata.message_type for m in made.messages[:: 2 * made.config.parties.count]
    ]
    assert phases[-9:] == ["train.values", "train.losses", "train.gradients"] * 3
    said = made.said()
    for request in read_requests(Path(made.config.requests.source))[:REQUESTS]:
        assert request.subject.encode() not in said
        assert request.rewrite_prompt.encode() not in said


def test_the_folder_says_what_was_trained(federate: Make, tmp_path: Path) -> None:
    """Settings, every step with its losses, and a page; the state is gone."""
    made = federate(training=TRAINING, output=output(tmp_path))
    net = run(made)
    folder = tmp_path / "results"
    record = json.loads((folder / RECORD).read_text())
    assert record["digest"] == net.digest()
    assert [each["step"] for each in record["steps"]] == [1, 2, 3]
    assert all(each["general"] > 0 and each["texts"] > 0 for each in record["steps"])
    assert json.loads((folder / "params.json").read_text())["training"]["steps"] == 3
    page = (folder / REPORT).read_text()
    assert f"| 3 | {record['steps'][2]['edits']} |" in page
    assert not (tmp_path / "state" / STATE).exists()


def test_a_stopped_training_goes_on_to_the_same_bits(
    federate: Make, tmp_path: Path
) -> None:
    """After the last completed step, with the optimizer as it was."""
    whole = run(federate(training=TRAINING, output=output(tmp_path, "whole")))
    stopped = federate(training=TRAINING, output=output(tmp_path))
    seen = []

    def lose(content: RecordDict) -> None:
        seen.append(content)
        if len(seen) == 2:
            content.clear()

    stopped.tampers[1] = on_phase(Phase.LOSSES, lose)
    with pytest.raises(LostPartyError, match="after 1 steps"):
        run(stopped)
    assert not (tmp_path / "results").exists()
    other = federate(training={**TRAINING, "rate": 0.1}, output=output(tmp_path))
    with pytest.raises(InputError, match=r"another training\.rate"):
        run(other)
    resumed = federate(training=TRAINING, output=output(tmp_path))
    assert run(resumed).digest() == whole.digest()
    assert len(resumed.replies(Phase.VALUES)) == 2 * 3
    assert resumed.replies(Phase.BEGIN) == []


def spoil(record: str) -> Callable[[RecordDict], None]:
    """Take a record out of a reply."""

    def change(content: RecordDict) -> None:
        del content[record]

    return change


def grow(content: RecordDict) -> None:
    """Report more answer tokens than a party can have."""
    content.config_records["targets"]["targets"] = '{"requests": 100000}'


def lie(content: RecordDict) -> None:
    """Report a loss below 0."""
    content.config_records["losses"]["general"] = -1.0


@pytest.mark.parametrize(
    ("phase", "change", "reason"),
    [
        (Phase.BEGIN, spoil("answers"), "does not hold them"),
        (Phase.VALUES, spoil("targets"), "number of requests is not in the reply"),
        (Phase.VALUES, grow, "more than it has"),
        (Phase.LOSSES, lie, "no finite numbers from 0 on"),
        (Phase.LOSSES, spoil("losses"), "Losses were asked for"),
        (Phase.GRADIENTS, spoil("gradients"), "reply does not hold them"),
    ],
)
def test_an_invalid_reply_stops_the_training_and_names_the_party(
    federate: Make,
    tmp_path: Path,
    phase: Phase,
    change: Callable[[RecordDict], None],
    reason: str,
) -> None:
    """Before it is in any sum."""
    made = federate(training={**TRAINING, "share": 1.0}, output=output(tmp_path))
    made.tampers[2] = on_phase(phase, change)
    with pytest.raises(LostPartyError, match=rf"party 2: .*{reason}"):
        run(made)


@pytest.mark.parametrize("wrong", ["size", "number"])
def test_gradients_of_others_are_refused(
    federate: Make, tmp_path: Path, wrong: str
) -> None:
    """Of another size, or not finite."""

    def change(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.GRADIENTS.value:
            record = reply.content.array_records["gradients"]
            array = record["0.bias"].numpy()
            spoiled = array[:1] if wrong == "size" else array * float("nan")
            record["0.bias"] = type(record["0.bias"])(spoiled)
        return reply

    made = federate(training=TRAINING, output=output(tmp_path))
    made.tampers[0] = change
    with pytest.raises(LostPartyError, match=r"party 0: .*(sizes|finite)"):
        run(made)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("run", "compare", True),
        ("run", "rounds", 2),
        ("gate", "requests", 5),
        ("output", "statistics", True),
        ("privacy", "secure-sum", True),
        ("parties", "deduplicate", True),
        ("parties", "skip-known", 0.1),
    ],
)
def test_what_a_training_does_not_use_is_refused(
    table: str, key: str, value: FlatValue
) -> None:
    """By the name of the setting, before anything is loaded."""
    flat = {"training.steps": 1, f"{table}.{key}": value}
    with pytest.raises(InputError, match=f"does not use `{table}.{key}`"):
        read_run_config(flat)
    read_run_config({f"{table}.{key}": value})
