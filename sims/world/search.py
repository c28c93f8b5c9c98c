"""The recorded search for the hyperparameters of a made-up world's model."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

from jaxtyping import Float
from torch import Tensor

from editing.algebra.deltas import add_deltas, applied
from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.covariance.covariance import compute_covariance
from editing.editors.system import System
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.files.json_text import dump_json
from editing.hyperparameters.config import Hyperparameters, Plan, read_context_templates
from editing.memit.pipeline import read_pairs
from editing.memit.targets import Targets, compute_targets
from editing.models.loading import EditableModel, load_editable_model
from editing.requests.edit_request import EditRequest, read_requests, sample_requests
from editing.sources.embedded import EMBEDDED, resolve_model
from sims.world.hypernetwork import find_pairs
from strategies.merges.base import Merge
from strategies.merges.pooled import CollabEditMerge
from strategies.merges.task_arithmetic import TaskArithmeticMerge

logger = logging.getLogger(__name__)

PARTIES, REQUESTS_PER_PARTY = 10, 10
REPORTED_SEEDS = (0, 1, 2)
"""Draws that results are reported for; the search sees none of their requests."""
SEARCH_SEEDS = (10, 11)
NEAR_BEST = 1.0
"""Points of score within which two trials of the embedded model count as alike."""
COLUMNS = ("score", "rewrite_success", "paraphrase_success", "neighborhood_success")
TEXT = "text.txt"


@dataclass(frozen=True, slots=True)
class Space:
    """What a search tries, and with which requests.

    Attributes:
        layers: Edited blocks, tried with each clamp.
        clamps: Longest shifts of a target, as shares of the hidden state.
        first_prior_weight: The prior weight they are tried with.
        prior_weights: Those tried with the best of them.
        public: Whether requests are public edits of people whom no request of the
            model is about (`sims.world.pairs`), or those of its own requests that no
            reported draw contains.
        per_party: Requests of each of the parties in a draw.
        near_best: Points of score within which two trials count as alike, and the one
            that tells merges apart best is chosen.
    """

    layers: tuple[tuple[int, ...], ...]
    clamps: tuple[float, ...]
    first_prior_weight: float
    prior_weights: tuple[float, ...]
    public: bool
    per_party: int
    near_best: float


SPACES = {
    "embedded": Space(
        layers=((0,), (1,), (0, 1)),
        clamps=(1.0, 1.25, 1.5),
        first_prior_weight=100.0,
        prior_weights=(10.0, 30.0, 300.0),
        public=False,
        per_party=REQUESTS_PER_PARTY,
        near_best=NEAR_BEST,
    ),
    "larger": Space(
        layers=((0,), (1,), (0, 1)),
        clamps=(1.0,),
        first_prior_weight=300.0,
        prior_weights=(30.0, 100.0, 1000.0),
        public=True,
        per_party=30,
        near_best=0.0,
    ),
}
"""By the name of the model's recipe."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Hyperparameters and what they reached, mean over the search's draws.

    Attributes:
        metrics: Of editing with all requests at once.
        naive_score: Of the sum of the parties' own solves (task arithmetic).
    """

    parameters: Hyperparameters
    metrics: Mapping[str, float]
    naive_score: float

    @property
    def score(self) -> float:
        """What the search maximises."""
        return self.metrics["score"]


class Bench:
    """The model, its text and the requests that a search may see."""

    def __init__(self, folder: Path, space: Space) -> None:
        """Load what lies in a model's folder, and average its keys over its text."""
        self.model: EditableModel = load_editable_model(str(folder))
        self.templates = read_context_templates(folder / "context_templates.json")
        self.space, self.draws = space, draw_requests(folder, space)
        texts = (folder / TEXT).read_text(encoding="utf-8").splitlines()
        layers = sorted({layer for layers in space.layers for layer in layers})
        self.documents = len(texts)
        self.moments = compute_covariance(self.model, texts, layers, TEXT).moments
        self._targets: dict[tuple[int, int, float], Targets] = {}

    def try_out(self, parameters: Hyperparameters) -> Trial:
        """Edit every draw with one choice of hyperparameters and evaluate it."""
        found = [self._reach(draw, parameters) for draw in range(len(self.draws))]
        metrics = {name: fmean(m[name] for m, _ in found) for name in found[0][0]}
        trial = Trial(parameters, metrics, fmean(naive for _, naive in found))
        logger.info(
            "layers %s, clamp %s, prior weight %s: score %.2f, naive %.2f",
            parameters.layers,
            parameters.clamp_norm_factor,
            parameters.mom2_update_weight,
            trial.score,
            trial.naive_score,
        )
        return trial

    def _reach(
        self, draw: int, parameters: Hyperparameters
    ) -> tuple[dict[str, float], float]:
        plan = Plan(
            parameters=parameters, schedule="layerwise", templates=self.templates
        )
        requests, targets = self.draws[draw], self._targets_of(draw, plan)
        reached = [
            score_merge(
                self.model,
                requests,
                targets,
                plan,
                merge,
                self.moments,
                self.space.per_party,
            )
            for merge in (CollabEditMerge(), TaskArithmeticMerge())
        ]
        return reached[0], reached[1]["score"]

    def _targets_of(self, draw: int, plan: Plan) -> Targets:
        """Targets depend on the last layer and the clamp alone; keep them."""
        parameters = plan.parameters
        key = (draw, parameters.layers[-1], parameters.clamp_norm_factor)
        if key not in self._targets:
            self._targets[key] = compute_targets(
                self.model, self.draws[draw], self.templates, parameters
            )
        return self._targets[key]


def score_merge(
    model: EditableModel,
    requests: Sequence[EditRequest],
    targets: Targets,
    plan: Plan,
    merge: Merge,
    moments: Mapping[int, Float[Tensor, "d_in d_in"]],
    per_party: int = REQUESTS_PER_PARTY,
) -> dict[str, float]:
    """Metrics after one round of a merge in memory, layer by layer."""
    delta: dict[str, Tensor] = {}
    for layer in plan.parameters.layers:
        with applied(delta, model.model):
            pairs = read_pairs(model, requests, targets, plan, (layer,))[layer]
        parts = [
            LayerStatistics.of_pairs(keys, residuals)
            for keys, residuals in zip(
                pairs.keys.split(per_party),
                pairs.residuals.split(per_party),
                strict=True,
            )
        ]
        prior = Prior(moments[layer], plan.parameters.mom2_update_weight)
        solved = merge(parts, System(prior))
        delta = add_deltas(delta, {model.weight_name(layer): solved})
    with applied(delta, model.model):
        return sum_cases(evaluate_requests(model, requests)).means()


def draw_requests(folder: Path, space: Space) -> list[list[EditRequest]]:
    """Draw the requests of a search: none is in a draw that is reported."""
    pool = (
        find_pairs(folder, 0)
        if space.public
        else visible_requests(read_requests(folder / "requests.json"))
    )
    count = PARTIES * space.per_party
    return [sample_requests(pool, count, seed) for seed in SEARCH_SEEDS]


def visible_requests(pool: Sequence[EditRequest]) -> list[EditRequest]:
    """Requests that no reported draw contains."""
    count = PARTIES * REQUESTS_PER_PARTY
    reported = {
        request.case_id
        for seed in REPORTED_SEEDS
        for request in sample_requests(pool, count, seed)
    }
    return [request for request in pool if request.case_id not in reported]


def search(
    output: Path, model: str = "embedded", recipe: str | None = None
) -> Hyperparameters:
    """Try layers and clamps, then prior weights, and record every trial.

    Args:
        output: The folder to make: `search.json`, `search.md` and the chosen
            `hyperparameters.json`; it appears once it is complete.
        model: A model's folder, ``embedded`` or ``larger``.
        recipe: The recipe whose `Space` is searched; None takes the model's name.

    Raises:
        FileExistsError: If `output` exists.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; name a folder that does not.")
    space = SPACES[recipe or (model if model in SPACES else EMBEDDED)]
    bench = Bench(Path(resolve_model(model)), space)
    trials = list(run_trials(bench))
    chosen = choose(trials, space.near_best).parameters
    draft = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_search(draft, trials, chosen, space)
    draft.rename(output)
    return chosen


def run_trials(bench: Bench) -> Iterator[Trial]:
    """Every pair of layers and clamp, then other prior weights for the best pair."""
    space = bench.space
    first = [
        bench.try_out(_parameters(bench, layers, clamp, space.first_prior_weight))
        for layers, clamp in product(space.layers, space.clamps)
    ]
    yield from first
    best = choose(first, space.near_best).parameters
    for weight in space.prior_weights:
        yield bench.try_out(best.model_copy(update={"mom2_update_weight": weight}))


def choose(trials: Sequence[Trial], near_best: float = NEAR_BEST) -> Trial:
    """The best score; among those hardly worse, the least naive one.

    Trials within `near_best` of the best score count as alike, and of these the one
    whose requests depend most on being merged well is taken: where the sum of the
    parties' own solves does as well, the model could not tell merges apart.
    """
    best = max(trial.score for trial in trials)
    alike = [trial for trial in trials if trial.score >= best - near_best]
    return min(alike, key=lambda trial: trial.naive_score)


def _parameters(
    bench: Bench, layers: tuple[int, ...], clamp: float, prior_weight: float
) -> Hyperparameters:
    return Hyperparameters(
        layers=layers,
        v_loss_layer=bench.model.block_count - 1,
        clamp_norm_factor=clamp,
        mom2_update_weight=prior_weight,
        rewrite_module_tmp="transformer.h.{}.mlp.c_proj",
        layer_module_tmp="transformer.h.{}",
        mlp_module_tmp="transformer.h.{}.mlp",
        attn_module_tmp="transformer.h.{}.attn",
        ln_f_module="transformer.ln_f",
        lm_head_module="transformer.wte",
        mom2_dataset=TEXT,
        mom2_n_samples=bench.documents,
        mom2_dtype="float64",
    )


def write_search(
    folder: Path,
    trials: Sequence[Trial],
    chosen: Hyperparameters,
    space: Space = SPACES[EMBEDDED],
) -> None:
    """Write all trials as JSON and as a table, and the chosen hyperparameters."""
    rows = [
        {
            "layers": list(trial.parameters.layers),
            "clamp_norm_factor": trial.parameters.clamp_norm_factor,
            "mom2_update_weight": trial.parameters.mom2_update_weight,
            **{name: round(trial.metrics[name], 2) for name in COLUMNS},
            "task_arithmetic_score": round(trial.naive_score, 2),
            "chosen": trial.parameters == chosen,
        }
        for trial in trials
    ]
    record = {
        "search_seeds": SEARCH_SEEDS,
        "hidden_seeds": () if space.public else REPORTED_SEEDS,
        "people": "public" if space.public else "editable",
        "requests": PARTIES * space.per_party,
        "trials": rows,
    }
    (folder / "search.json").write_text(dump_json(record, 1) + "\n")
    (folder / "search.md").write_text(render_table(rows))
    values = json.dumps(chosen.model_dump(), indent=2)
    (folder / "hyperparameters.json").write_text(values + "\n")


def render_table(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table, one line a trial."""
    names = [name for name in rows[0] if name != "chosen"]
    lines = [" | ".join(["", *names, "chosen", ""]).strip()]
    lines.append("|" + " --- |" * (len(names) + 1))
    for row in rows:
        cells = [str(row[name]) for name in names] + ["yes" if row["chosen"] else ""]
        lines.append(" | ".join(["", *cells, ""]).strip())
    return "\n".join(lines) + "\n"
