"""Several parties and a server in one process, around a tiny model on disk."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.serverapp.strategy import Result
from torch import Tensor

from clients.app import app as client_app
from editing.algebra.deltas import add_deltas, applied
from editing.algebra.statistics import LayerStatistics
from editing.hyperparameters.config import Plan
from editing.memit.pipeline import edit_alone, find_own_targets, read_pairs
from editing.memit.targets import Targets, compute_targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest, read_requests, to_counterfact
from server.config import RunConfig, read_run_config
from server.federated_covariance import TextPool
from server.preparation import Preparation, prepare
from sims.runs.in_process import InProcessGrid, make_contexts
from strategies.collaborative import CollaborativeEditing
from strategies.methods import read_method
from strategies.partitioning.partitions import order_requests
from strategies.rounds.callbacks import CompletedRound, RoundCallbacks
from strategies.rounds.exchange import ExchangeRecord
from strategies.rounds.settings import EditingSettings
from strategies.rounds.state import RoundState
from strategies.scenario import FlatValue
from strategies.wire.messages import Phase
from tests.hypernetworks import save_tiny_hypernetwork
from tests.laws import assert_same
from tests.tiny import LAYERS, PARAMETERS, TEMPLATES, tiny_model

FLOAT32_PIPELINE = 1e-5
"""Relative difference that a float32 model in other batches may leave in a delta."""

PROMPTS = (
    "{} works for",
    "the mother tongue of {} is",
    "in Rome , {} plays the",
    "the employer of {} , who speaks Basque , is",
)
TRUE = ("Acme Inc", "English", "harp", "Acme Group")
NEW = ("Lima Works", "French", "viola", "North Works Group")
FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dora", "Eli", "Fay")
LAST_NAMES = ("Lovelace", "Stone Rivers")
TEXT = (
    "Hal North plays the drum in Oslo .",
    "the employer of Gus is Acme Inc , they said",
    "I found one old red map under the stairs and then every day music",
    "Because You said that , the mother tongue of Hal is English .",
    "Gus Rivers was born in Rome at Works Inc . Therefore I lives in Lima",
)
HELD_OUT = ({"prompt": "Hal North plays the", "answer": "drum"},)

QUICK = {"v_num_grad_steps": 5, "mom2_update_weight": 5.0}
"""Hyperparameters that save time; a float32 solve stays well-conditioned."""

AT_ONCE = {"schedule": "frozen-uniform"}
"""One exchange a round, to save time."""

Tamper = Callable[[Message, Message], Message]
"""What comes between a node and the server: message and honest reply in, reply out."""


def make_world(folder: Path) -> Path:
    """Save the tiny model and what lies next to a model, as with the embedded one."""
    parameters = PARAMETERS.model_copy(update=QUICK)
    model = tiny_model(dtype=torch.float32)
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    write_json(folder / "requests.json", [to_counterfact(r) for r in world_requests()])
    write_json(folder / "hyperparameters.json", parameters.model_dump(mode="json"))
    write_json(folder / "context_templates.json", TEMPLATES)
    write_json(folder / "held_out.json", HELD_OUT)
    (folder / "text.txt").write_text("\n".join(TEXT))
    return save_tiny_hypernetwork(folder).parent


def world_requests() -> list[EditRequest]:
    """Give twelve requests on distinct people."""
    people = [f"{first} {last}" for last, first in product(LAST_NAMES, FIRST_NAMES)]
    return [
        EditRequest(
            case_id=100 + number,
            prompt=PROMPTS[number % 4],
            subject=person,
            target_new=NEW[number % 4],
            target_true=TRUE[number % 4],
            paraphrase_prompts=(f"every day {person} works at", f"music , {person}"),
            neighborhood_prompts=("the employer of Gus Rivers is", "Hal lives in"),
        )
        for number, person in enumerate(people)
    ]


def write_json(path: Path, value: object) -> Path:
    """Write a file of JSON."""
    path.write_text(json.dumps(value, indent=1))
    return path


def settings_of(world: Path, **tables: Mapping[str, FlatValue]) -> dict[str, FlatValue]:
    """Write a run's settings in Flower's flat form: three parties, float64."""
    flat: dict[str, FlatValue] = {
        "model.path": str(world),
        "model.dtype": "float64",
        "requests.source": str(world / "requests.json"),
        "parties.count": 3,
        "parties.requests-per-round": 2,
    }
    for table, values in tables.items():
        for key, value in values.items():
            flat[f"{table}.{key.replace('_', '-')}"] = value
    return flat


@dataclass
class Federation:
    """One run's nodes, and all that was said.

    Attributes:
        flat: The run's settings.
        private: Where parties keep what is theirs.
        node_configs: Settings of single nodes, by party.
        tampers: What comes between a party and the server, by party.
        places: Node number of each party; the usual ones if empty.
        messages: All messages in both directions, as they went over the wire.
        awaited: Nodes that the run waits for; all if None. Others may join late.
    """

    flat: Mapping[str, FlatValue]
    private: Path
    node_configs: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    tampers: dict[int, Tamper] = field(default_factory=dict)
    places: Sequence[int] = ()
    messages: list[Message] = field(default_factory=list)
    awaited: int | None = None

    def __post_init__(self) -> None:
        """Read the settings and make the nodes."""
        self.config: RunConfig = read_run_config(self.flat)
        count = self.config.parties.count
        private = {"private-folder": str(self.private)}
        configs = [{**private, **self.node_configs.get(i, {})} for i in range(count)]
        made = make_contexts(self.flat, count, configs)
        self.contexts = dict(zip(self.places or made, made.values(), strict=True))
        self.grid = InProcessGrid(self.contexts, self.answer)

    def node(self, party: int) -> int:
        """Give the node number of a party."""
        numbers = {c.node_config["partition-id"]: n for n, c in self.contexts.items()}
        return numbers[party]

    def answer(self, message: Message, context: Context) -> Message:
        """Let a client answer, write down what was said, and tamper with it."""
        self.messages.append(message)
        reply = client_app(message, context)
        tamper = self.tampers.get(int(str(context.node_config["partition-id"])))
        if tamper is not None:
            reply = tamper(message, reply)
        self.messages.append(reply)
        return reply

    @cached_property
    def preparation(self) -> Preparation:
        """What the server needs before the first round."""
        return prepare(self.config, texts=TextPool(lambda: self.grid, self.config))

    def run(
        self,
        merge: str = "collabedit",
        *,
        initial: ArrayRecord | None = None,
        evaluate_unedited: bool = False,
        callbacks: RoundCallbacks | None = None,
        resume: RoundState | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
    ) -> tuple[CollaborativeEditing, Result]:
        """Run all rounds with one merge."""
        preparation, method, config = self.preparation, read_method(merge), self.config
        gamma, run = preparation.memory_weight(config.prior), config.run
        settings = EditingSettings(
            job=preparation.job(config, merge, pooled=method.pooled),
            merge=method.merge,
            layers=preparation.layers(
                gamma, run, sums=method.sums, editor=config.editor.build()
            ),
            parties=self.awaited or config.parties.count,
            min_parties=run.min_parties,
            dtype=preparation.model.dtype,
            encoding_down=run.encoding_down,
            evaluate_unedited=evaluate_unedited,
            evaluate_every=config.evaluation.every,
            memory_keys=config.prior.memory_keys,
            conflicts=config.parties.conflict_rules,
            limits=preparation.limits(config, pooled=method.pooled, sums=method.sums),
            secure=bool(config.privacy.secure_sum) and not method.pooled,
        )
        self.strategy = CollaborativeEditing(settings, callbacks)
        if resume is not None:
            self.strategy.resume(resume)
        given = initial or ArrayRecord()
        result = self.strategy.start(
            self.grid, given, run.rounds, run.timeout, train_config, evaluate_config
        )
        return self.strategy, result

    def delta(self, merge: str = "collabedit") -> dict[str, Tensor]:
        """Run, and give all updates."""
        return self.run(merge)[0].delta

    def requests_of_parties(self, number: int) -> list[list[EditRequest]]:
        """Each party's requests of a round."""
        pool = read_requests(Path(self.config.requests.source))
        ordered = order_requests(
            pool, self.config.requests, self.config.parties.split, draw=False
        )
        sizes_of, found = self.config.parties.sizes_of, []
        before = sum(sum(sizes_of(earlier)) for earlier in range(1, number))
        for size in sizes_of(number):
            found.append(ordered[before : before + size])
            before += size
        return found

    def requests(self, number: int) -> list[EditRequest]:
        """All parties' requests of a round, party after party."""
        return [each for party in self.requests_of_parties(number) for each in party]

    def statistics_of(
        self, requests: Sequence[EditRequest]
    ) -> dict[int, LayerStatistics]:
        """Statistics of all edited layers on the unedited model."""
        model, plan = self.preparation.model, self.preparation.plan
        targets = compute_targets(model, requests, plan.templates, plan.parameters)
        pairs = read_pairs(model, requests, targets, plan, plan.parameters.layers)
        return {layer: pair.statistics for layer, pair in pairs.items()}

    def edit_alone(self) -> dict[str, Tensor]:
        """Do on one machine what the run does with all parties."""
        rounds = [self.requests(1 + n) for n in range(self.config.run.rounds)]
        gamma = self.preparation.memory_weight(self.config.prior)
        return edit_in_rounds(self.preparation, rounds, gamma)

    def grid_of(self, *parties: int) -> InProcessGrid:
        """Make a grid of some of the parties."""
        nodes = {n: self.contexts[n] for n in map(self.node, parties)}
        return InProcessGrid(nodes, self.answer)

    def replies(self, phase: Phase) -> list[Message]:
        """All replies to one kind of message."""
        return [m for m in self._of_phase(phase) if m.metadata.reply_to_message_id]

    def requests_to(self, party: int, phase: Phase) -> list[Message]:
        """All messages of one kind to a party."""
        node = self.node(party)
        return [m for m in self._of_phase(phase) if m.metadata.dst_node_id == node]

    def nodes_asked(self, phase: Phase) -> list[int]:
        """Who was sent one kind of message, in order."""
        sent = [m for m in self._of_phase(phase) if not m.metadata.reply_to_message_id]
        return [message.metadata.dst_node_id for message in sent]

    def _of_phase(self, phase: Phase) -> list[Message]:
        return [m for m in self.messages if m.metadata.message_type == phase.value]

    def said(self) -> bytes:
        """All bytes of all messages."""
        return b"".join(message_to_proto(m).SerializeToString() for m in self.messages)


@dataclass
class Recorder(RoundCallbacks):
    """Keeps all that a run reports."""

    progress: list[tuple[str, int, int, int]] = field(default_factory=list)
    exchanges: list[ExchangeRecord] = field(default_factory=list)
    rounds: list[CompletedRound] = field(default_factory=list)

    @property
    def states(self) -> list[RoundState]:
        """The state after each round."""
        return [each.state for each in self.rounds]

    def on_progress(self, phase: str, number: int, arrived: int, expected: int) -> None:
        """Keep progress."""
        self.progress.append((phase, number, arrived, expected))

    def on_exchange(self, record: ExchangeRecord) -> None:
        """Keep an exchange."""
        self.exchanges.append(record)

    def on_round_end(self, completed: CompletedRound) -> None:
        """Keep a round."""
        self.rounds.append(completed)


def edit_in_rounds(
    prepared: Preparation, rounds: Sequence[Sequence[EditRequest]], memory_weight: float
) -> dict[str, Tensor]:
    """Edit in rounds on one machine: the definition of what several rounds do.

    Each round is MEMIT on the model as the rounds before it left it, with the prior
    ``λ·C₀ + γ·Σ past grams``.
    """
    return _edit_in_rounds(prepared, rounds, memory_weight)[0]


def priors_after(
    prepared: Preparation, rounds: Sequence[Sequence[EditRequest]], memory_weight: float
) -> dict[int, Tensor]:
    """Compute the prior of the round after these, by layer."""
    return _edit_in_rounds(prepared, rounds, memory_weight)[1]


def _edit_in_rounds(
    prepared: Preparation, rounds: Sequence[Sequence[EditRequest]], memory_weight: float
) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    model, plan = prepared.model, prepared.plan
    priors = {
        layer: prepared.prior_weight * moment.double()
        for layer, moment in prepared.covariance.moments.items()
    }
    total: dict[str, Tensor] = {}
    for requests in rounds:
        with applied(total, model.model):
            targets = find_own_targets(model, requests, plan, plan.steps[0])
            update = edit_alone(model, requests, plan, priors, targets)
            grams = _grams(model, requests, targets, plan, update)
        priors = {k: prior + memory_weight * grams[k] for k, prior in priors.items()}
        total = add_deltas(total, update)
    return total, priors


def _grams(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    plan: Plan,
    update: Mapping[str, Tensor],
) -> dict[int, Tensor]:
    """``KᵀK`` of each layer, on the model that its keys were read on."""
    grams = {}
    for layers in plan.steps:
        names = [model.weight_name(k) for k in plan.parameters.layers if k < layers[0]]
        with applied({name: update[name] for name in names}, model.model):
            pairs = read_pairs(model, requests, targets, plan, layers)
        for layer in layers:
            keys = pairs[layer].keys.double()
            grams[layer] = keys.mT @ keys
    return grams


def count_targets(patch: pytest.MonkeyPatch) -> list[str]:
    """Note the subjects that parties compute targets for, from now on."""
    computed: list[str] = []

    def count(model: object, requests: list[EditRequest], *more: object) -> Targets:
        computed.extend(request.subject for request in requests)
        found: Targets = compute_targets(model, requests, *more)  # type: ignore[arg-type]
        return found

    patch.setattr("clients.round_targets.compute_targets", count)
    return computed


def on_phase(phase: Phase, change: Callable[[RecordDict], None]) -> Tamper:
    """Change the content of the replies to one kind of message, in place."""

    def tamper(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == phase.value:
            change(reply.content)
        return reply

    return tamper


def assert_same_delta(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float
) -> None:
    """Hold every weight's update to a tolerance."""
    assert ours.keys() == theirs.keys()
    assert len(ours) == len(LAYERS)
    for name, update in ours.items():
        assert_same(update, theirs[name], tolerance)


def assert_same_bits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Hold every weight's update to the last bit."""
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(update, theirs[name]) for name, update in ours.items())
