"""All parties of a run in this process, the last of which is hostile."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from rich.console import Console

from clients.app import app as client_app
from editing.algebra.encodings import EncodedStatistics, decode
from editing.algebra.second_moments import write_triangle
from editing.algebra.statistics import LayerStatistics
from editing.files.atomic import write_whole
from editing.files.json_text import dump_json
from server.config import RunConfig
from server.preparation import Preparation, prepare
from sims.errors import RunFailedError
from sims.runs.jobs import execute
from sims.studies.trust.attacks import ATTACKS, HONEST, Attack, Layer
from strategies.wire.messages import Phase, read_job, read_statistics, write_statistics
from strategies.wire.metrics import EvaluationSums, read_evaluation, write_evaluation

VICTIM = 0
"""The party whose requests the hostile one has guessed."""

STOPPED = "stopped.json"
"""Why the first attempt was stopped, if the run was repeated without some parties."""

ADVISED = re.compile(r"parties\.without = \[(\d+)\]")
CONTRADICTING = re.compile(r"((?:party \d+ and )+party \d+) contradict each other")
"""How the gate names a party, or those of whom it cannot tell who is right."""

BY_DEFAULT = {"max_key_ratio": None, "max_residual_ratio": None}
UNIT = {"max_key_ratio": 1.0, "max_residual_ratio": 1.0}


@dataclass(frozen=True, slots=True)
class HostileRun:
    """Runs a scenario with a hostile party; can be sent to another process.

    Where the gate stops the run and names parties, the run is repeated without them:
    the one of its advice, or those that contradict each other.

    Attributes:
        attack: The name of what the party does.
    """

    attack: str

    def __call__(self, config: RunConfig, folder: Path, engine: str) -> None:
        """Run it, and leave a complete folder.

        Raises:
            RunFailedError: If the run ends without a result, and no party is named.
        """
        try:
            self._run(config, folder, engine)
        except RunFailedError as stopped:
            named = find_named(str(stopped))
            if not named:
                raise
            parties = config.parties.model_copy(update={"without": tuple(named)})
            again = config.model_copy(update={"parties": parties})
            self._run(again, folder, engine)
            record = {"reason": str(stopped), "named": named}
            write_whole(folder / STOPPED, dump_json(record, 2) + "\n")

    def _run(self, config: RunConfig, folder: Path, engine: str) -> None:
        client = HostileClient(ATTACKS[self.attack], config)
        quiet = Console(quiet=True)
        execute(config, folder, engine, advise=False, console=quiet, client=client)


@dataclass
class HostileClient:
    """Answers for all parties; the last one is hostile.

    Attributes:
        attack: What that one does.
        config: The settings of the run.
        seen: Party 0's statistics of the exchange, by layer.
    """

    attack: Attack
    config: RunConfig
    seen: dict[int, LayerStatistics] = field(default_factory=dict)

    @cached_property
    def prepared(self) -> Preparation:
        """The model, the plan and the prior, which every party knows."""
        return prepare(self.config)

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message as the app does, and falsify the hostile party's answer."""
        reply = client_app(message, context)
        party = int(str(context.node_config["partition-id"]))
        hostile = party == self.config.parties.count - 1
        phase = message.metadata.message_type
        if phase in {Phase.TARGETS, Phase.STATISTICS}:
            job = read_job(message.content)
            if party == VICTIM:
                self.seen = self._read(reply.content, job.round, job.layers)
            if hostile and self.attack.falsify is not None:
                self._falsify(reply.content, job.round, job.layers)
        if phase == Phase.EVALUATE and hostile and self.attack != ATTACKS[HONEST]:
            found = claim(read_evaluation(reply.content), self.attack.success)
            reply.content["metrics"] = write_evaluation(found)["metrics"]
        return reply

    def _falsify(self, content: RecordDict, number: int, layers: Sequence[int]) -> None:
        assert self.attack.falsify is not None
        own, places = self._read(content, number, layers), self.attack.places
        parts = {}
        for layer, part in own.items():
            known = self._know(layer, part)
            touched = places is None or known.place in places
            made = self.attack.falsify(known) if touched else part
            parts[layer] = write(made, self.config.run.encoding)
        sent = write_statistics(parts, number)
        content["statistics"], content["facts"] = sent["statistics"], sent["facts"]

    def _know(self, layer: int, own: LayerStatistics) -> Layer:
        """Put together what the party knows of a layer."""
        run = self.config.run
        bounded, typical = (
            self.prepared.layers(1.0, run.model_copy(update=update))
            for update in (BY_DEFAULT, UNIT)
        )
        memory = bounded[layer].memory
        return Layer(
            place=list(bounded).index(layer),
            own=own,
            other=self.seen.get(layer, own),
            moment=memory.scale * memory.covariance.double(),
            bounds=bounded[layer].bounds,
            typical=typical[layer].bounds,
        )

    def _read(
        self, content: RecordDict, number: int, layers: Sequence[int]
    ) -> dict[int, LayerStatistics]:
        found = {}
        for layer in layers:
            d_out, d_in = self.prepared.model.widths(layer)
            sent = read_statistics(content, layer, number)
            found[layer] = decode(sent, d_in, d_out)
        return found


def find_named(reason: str) -> list[int]:
    """Find the parties that the gate names; none if it cannot tell."""
    named = ADVISED.findall(reason)
    for parties in CONTRADICTING.findall(reason):
        named += re.findall(r"\d+", parties)
    return sorted({int(party) for party in named})


def claim(found: EvaluationSums, success: float | None) -> EvaluationSums:
    """Replace all that a party measured of its requests by a number, or by nothing."""
    if success is None:
        return EvaluationSums()
    return EvaluationSums(
        {
            number: replace(sums, sums=dict.fromkeys(sums.sums, success))
            for number, sums in found.by_round.items()
        }
    )


def write(part: LayerStatistics, encoding: str) -> EncodedStatistics:
    """Encode statistics that need not be anybody's."""
    if encoding == "dense":
        tensors = {"gram": write_triangle(part.gram), "cross": part.cross}
        return EncodedStatistics("dense", tensors, part.count)
    tensors = {"keys": part.keys, "residuals": part.residuals}
    return EncodedStatistics("factors", tensors, part.count)


def read_stop(folder: Path) -> tuple[int, ...]:
    """Return the parties that were named when the first attempt was stopped."""
    file = folder / STOPPED
    if not file.is_file():
        return ()
    return tuple(json.loads(file.read_text(encoding="utf-8"))["named"])
