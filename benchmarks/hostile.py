"""What one hostile party of ten can do, through the real strategy in this process.

Ten parties edit the embedded model with ten requests each. Party 9 sends false
statistics instead of its own, and metrics of no request, so that the scores are those
of the nine honest ones. A row ends with a score, or with a round that is stopped and
names whose statistics did it. Run it with

    python -m benchmarks.hostile [--only WORD] [--set KEY=VALUE]

where `--set` gives further settings of the run, such as `gate.requests=0` or
`run.max-residual-ratio=1000`.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from flwr.app import Context, Message, RecordDict
from jaxtyping import Float
from torch import Tensor

from clients.app import app as client_app
from editing.algebra.encodings import EncodedStatistics, decode
from editing.algebra.second_moments import write_triangle
from editing.algebra.statistics import LayerStatistics, NormBounds
from server.config import RunConfig, read_scenario
from server.evaluation import average
from server.monitoring.events import EVENTS, RunEnded, WarningLogged, read_events
from server.preparation import Preparation, prepare
from server.report.data import read_report
from server.report.tables import TableText, markdown_table
from sims.console import hush_libraries
from sims.errors import RunFailedError
from sims.runs.in_process import run_in_process
from strategies.scenario import flatten
from strategies.wire.messages import Phase, read_job, read_statistics, write_statistics
from strategies.wire.metrics import EvaluationSums, read_evaluation, write_evaluation

SCENARIO = Path("sims/scenarios/default.toml")
SETTINGS = ("gate.requests=200",)
HOSTILE, VICTIM = 9, 0
KEYS = 10
"""How many keys an attack makes up: as many as the party has requests."""

NEARLY = 0.999
"""Just within a bound."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What the hostile party knows of a layer.

    Attributes:
        place: Of the edited layers; 0 is the first.
        own: Its honest statistics.
        other: Those of party 0, which it has guessed.
        moment: ``C₀``.
        bounds: How long keys and residuals may be.
        typical: ``√tr(C₀)``, and how far a target may be from a hidden state.
    """

    place: int
    own: LayerStatistics
    other: LayerStatistics
    moment: Float[Tensor, "d_in d_in"]
    bounds: NormBounds
    typical: NormBounds

    def rows(
        self,
        keys: Float[Tensor, "n d_in"],
        residuals: Float[Tensor, "n d_out"],
    ) -> LayerStatistics:
        """Return statistics of made-up edits, as many as the own ones."""
        return LayerStatistics(keys, residuals, self.own.count)

    def top_keys(self, length: float) -> Float[Tensor, "n d_in"]:
        """Return the directions in which text has the most of its energy."""
        directions = torch.linalg.eigh(self.moment.double()).eigenvectors
        return length * directions[:, -KEYS:].mT

    def random_residuals(self, length: float) -> Float[Tensor, "n d_out"]:
        """Draw residuals of a length."""
        generator = torch.Generator().manual_seed(self.place)
        width = self.own.residuals.shape[1]
        drawn = torch.randn(KEYS, width, generator=generator, dtype=torch.float64)
        return length * drawn / drawn.norm(dim=1, keepdim=True)


Falsify = Callable[[Layer], LayerStatistics]


@dataclass(frozen=True, slots=True)
class Attack:
    """A hostile party.

    Attributes:
        name: What it does.
        falsify: Makes the statistics of a layer; the honest ones if None.
        settings: Further settings of the run.
        places: The edited layers in which it does so.
        success: The efficacy that it reports of its own requests; none if None.
    """

    name: str
    falsify: Falsify | None = None
    settings: tuple[str, ...] = ()
    places: tuple[int, ...] = (0, 1)
    success: float | None = None


def longer_residuals(layer: Layer) -> LayerStatistics:
    """Ask for ten times the change."""
    return layer.rows(layer.own.keys, 10 * layer.own.residuals)


def longest_residuals(layer: Layer) -> LayerStatistics:
    """Ask for the largest change that is allowed."""
    rows, edits = layer.own.residuals, layer.own.count**0.5
    allowed = NEARLY * edits * layer.bounds.residual / rows.norm().item()
    return layer.rows(layer.own.keys, allowed * rows)


def keys_of_text(layer: Layer) -> LayerStatistics:
    """Change what the model does with most of its text."""
    return layer.rows(
        layer.top_keys(layer.typical.key),
        layer.random_residuals(10 * layer.typical.residual),
    )


def allowed_keys_of_text(layer: Layer) -> LayerStatistics:
    """Do the same as strongly as the bounds allow."""
    return layer.rows(
        layer.top_keys(NEARLY * layer.bounds.key),
        layer.random_residuals(NEARLY * layer.bounds.residual),
    )


def wall(layer: Layer) -> LayerStatistics:
    """Claim keys in every direction, none of which may change the weight."""
    d_out, d_in = layer.own.residuals.shape[1], layer.own.keys.shape[1]
    unit = torch.eye(d_in, dtype=torch.float64)
    gram = layer.own.count * (NEARLY * layer.bounds.key) ** 2 / d_in * unit
    cross = torch.zeros(d_out, d_in, dtype=torch.float64)
    return LayerStatistics.of_sums(gram, cross, layer.own.count)


def undo_other(layer: Layer) -> LayerStatistics:
    """Take back what party 0 asks for."""
    return layer.rows(layer.other.keys, -layer.other.residuals)


def pin_other(layer: Layer) -> LayerStatistics:
    """Hold party 0's keys in place, as firmly as the bounds allow."""
    rows, edits = layer.other.keys, layer.own.count**0.5
    allowed = NEARLY * edits * layer.bounds.key / rows.norm().item()
    return layer.rows(allowed * rows, 0 * layer.other.residuals)


ATTACKS = (
    Attack("none: party 9 is honest"),
    Attack("residuals × 10", longer_residuals),
    Attack("ten keys on top of C₀, residuals 10·reach", keys_of_text),
    Attack("dense gram c·I, cross 0", wall, ('run.encoding="dense"',)),
    Attack("party 0's keys with −R", undo_other),
    Attack("party 0's keys with −R, and reports failure", undo_other, success=0.0),
    Attack("party 0's keys as long as allowed, R = 0", pin_other),
    Attack("residuals as long as allowed", longest_residuals),
    Attack("keys on top of C₀, all as long as allowed", allowed_keys_of_text),
    Attack("the same in the first layer alone", allowed_keys_of_text, places=(0,)),
    Attack("the same in the second layer alone", allowed_keys_of_text, places=(1,)),
    Attack("an honest update, and reports failure", success=0.0),
)


@dataclass
class Parties:
    """Answers for all parties; one of them is hostile.

    Attributes:
        attack: What that one does.
        prepared: What it knows of the model.
        config: The settings of the run.
        seen: Party 0's statistics of the exchange, by layer.
        honest: The metrics of the nine honest parties, of the last evaluation.
    """

    attack: Attack
    prepared: Preparation
    config: RunConfig
    seen: dict[int, LayerStatistics] = field(default_factory=dict)
    honest: EvaluationSums = field(default_factory=EvaluationSums)

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message."""
        reply = client_app(message, context)
        party = int(str(context.node_config["partition-id"]))
        phase = message.metadata.message_type
        if phase in {Phase.TARGETS, Phase.STATISTICS}:
            number, layers = read_job(message.content).round, layers_of(message)
            if party == VICTIM:
                self.seen = self._read(reply.content, number, layers)
            if party == HOSTILE and self.attack.falsify is not None:
                self._falsify(reply.content, number, layers)
        if phase == Phase.EVALUATE:
            self._evaluate(reply.content, party)
        return reply

    def _evaluate(self, content: RecordDict, party: int) -> None:
        """Add up the honest parties' metrics, and falsify the hostile one's."""
        if party == HOSTILE:
            content["metrics"] = write_evaluation(self._claim(content))["metrics"]
            return
        before = EvaluationSums() if party == VICTIM else self.honest
        self.honest = before + read_evaluation(content)

    def _falsify(self, content: RecordDict, number: int, layers: Sequence[int]) -> None:
        assert self.attack.falsify is not None
        parts, own = {}, self._read(content, number, layers)
        edited = self.prepared.layers(1.0, self.config.run)
        typical = self.prepared.layers(1.0, self.config.run.model_copy(update=UNIT))
        for layer, part in own.items():
            place = list(edited).index(layer)
            memory = edited[layer].memory
            known = Layer(
                place,
                part,
                self.seen[layer],
                memory.scale * memory.covariance.double(),
                edited[layer].bounds,
                typical[layer].bounds,
            )
            made = self.attack.falsify(known) if place in self.attack.places else part
            parts[layer] = write(made, self.config.run.encoding)
        sent = write_statistics(parts, number)
        content["statistics"], content["facts"] = sent["statistics"], sent["facts"]

    def _read(
        self, content: RecordDict, number: int, layers: Sequence[int]
    ) -> dict[int, LayerStatistics]:
        found = {}
        for layer in layers:
            d_out, d_in = self.prepared.model.widths(layer)
            sent = read_statistics(content, layer, number)
            found[layer] = decode(sent, d_in, d_out)
        return found

    def _claim(self, content: RecordDict) -> EvaluationSums:
        """Report no metric, or an efficacy of the party's own choice."""
        if self.attack.success is None:
            return EvaluationSums()
        found = read_evaluation(content)
        return EvaluationSums(
            {
                number: replace(sums, sums=dict.fromkeys(sums.sums, 0.0))
                for number, sums in found.by_round.items()
            }
        )


UNIT = {"max_key_ratio": 1.0, "max_residual_ratio": 1.0}


def layers_of(message: Message) -> tuple[int, ...]:
    """Return the layers that a message asks for."""
    return tuple(read_job(message.content).layers)


def write(part: LayerStatistics, encoding: str) -> EncodedStatistics:
    """Encode statistics that need not be anybody's."""
    if encoding == "dense":
        tensors = {"gram": write_triangle(part.gram), "cross": part.cross}
        return EncodedStatistics("dense", tensors, part.count)
    tensors = {"keys": part.keys, "residuals": part.residuals}
    return EncodedStatistics("factors", tensors, part.count)


def attack_run(attack: Attack, scratch: Path, settings: Sequence[str]) -> list[str]:
    """Run an attack; return a row of the table."""
    output = scratch / attack.name.replace("/", " ")
    given = [*SETTINGS, *attack.settings, *settings]
    places = [f'output.directory="{output}"', f'output.watch="{output}.watch"']
    config = read_scenario(SCENARIO, [*given, *places])
    parties = Parties(attack, prepare(config), config)
    count = config.parties.count
    nodes = [{"target-cache": str(scratch / "targets")} for _ in range(count)]
    try:
        run_in_process(
            flatten(config),
            count,
            Path(f"{output}.private"),
            parties,
            node_configs=nodes,
        )
    except RunFailedError:
        return [attack.name, "–", "–", "–", describe(output)]
    metrics = read_report(output / "report.json").runs[0].metrics[-1]
    honest = average(parties.honest.of_round(1))
    numbers = (honest.score, honest.rewrite_success, metrics.held_out_acc)
    shown = ["–" if each is None else f"{each:.1f}" for each in numbers]
    return [attack.name, *shown, describe(output)]


def describe(output: Path) -> str:
    """Say who was refused, and why the run was stopped, if it was."""
    kept = [Path(f"{output}.watch") / EVENTS, output / EVENTS]
    events = read_events(next(file for file in kept if file.exists()))
    said = [each.message for each in events if isinstance(each, WarningLogged)]
    refused = [each.partition("without ")[2] for each in said if "continues" in each]
    parts = [f"refused: {each}" for each in refused]
    last = events[-1]
    if isinstance(last, RunEnded) and last.error:
        parts.append(f"stopped: {last.error}")
    return "; ".join(parts) or "accepted"


def run_all(options: argparse.Namespace) -> Iterator[list[str]]:
    """Run the attacks whose names hold the word."""
    with tempfile.TemporaryDirectory() as scratch:
        for attack in ATTACKS:
            if options.only in attack.name:
                yield attack_run(attack, Path(scratch), options.set)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the attacks, and write the table."""
    options = _read_options(arguments)
    torch.set_num_threads(1)
    hush_libraries()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    heads = ["attack", "score", "ES", "held-out facts", "outcome"]
    table = TableText(heads, list(run_all(options)), 1)
    sys.stdout.write(markdown_table(table) + "\n")
    return 0


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile")
    parser.add_argument("--only", default="", help="attacks with this word")
    parser.add_argument("--set", action="append", default=[], help="a setting")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
