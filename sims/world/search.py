"""The recorded search for the embedded model's hyperparameters."""

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
from editing.sources.embedded import resolve_model
from strategies.merges.base import Merge
from strategies.merges.pooled import CollabEditMerge
from strategies.merges.task_arithmetic import TaskArithmeticMerge

logger = logging.getLogger(__name__)

PARTIES, REQUESTS_PER_PARTY = 10, 10
REPORTED_SEEDS = (0, 1, 2)
"""Draws that results are reported for; the search sees none of their requests."""
SEARCH_SEEDS = (10, 11)
LAYERS: tuple[tuple[int, ...], ...] = ((0,), (1,), (0, 1))
CLAMPS = (1.0, 1.25, 1.5)
PRIOR_WEIGHTS = (10.0, 30.0, 300.0)
FIRST_PRIOR_WEIGHT = 100.0
NEAR_BEST = 1.0
"""Points of score within which two trials count as alike."""
COLUMNS = ("score", "rewrite_success", "paraphrase_success", "neighborhood_success")
TEXT = "text.txt"


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

    def __init__(self, folder: Path) -> None:
        """Load what lies in a model's folder, and average its keys over its text."""
        self.model: EditableModel = load_editable_model(str(folder))
        self.templates = read_context_templates(folder / "context_templates.json")
        visible = visible_requests(read_requests(folder / "requests.json"))
        count = PARTIES * REQUESTS_PER_PARTY
        self.draws = [sample_requests(visible, count, seed) for seed in SEARCH_SEEDS]
        texts = (folder / TEXT).read_text(encoding="utf-8").splitlines()
        layers = sorted({layer for layers in LAYERS for layer in layers})
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
            score_merge(self.model, requests, targets, plan, merge, self.moments)
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
) -> dict[str, float]:
    """Metrics after one round of a merge in memory, layer by layer."""
    delta: dict[str, Tensor] = {}
    for layer in plan.parameters.layers:
        with applied(delta, model.model):
            pairs = read_pairs(model, requests, targets, plan, (layer,))[layer]
        parts = [
            LayerStatistics.of_pairs(keys, residuals)
            for keys, residuals in zip(
                pairs.keys.split(REQUESTS_PER_PARTY),
                pairs.residuals.split(REQUESTS_PER_PARTY),
                strict=True,
            )
        ]
        prior = Prior(moments[layer], plan.parameters.mom2_update_weight)
        solved = merge(parts, System(prior))
        delta = add_deltas(delta, {model.weight_name(layer): solved})
    with applied(delta, model.model):
        return sum_cases(evaluate_requests(model, requests)).means()


def visible_requests(pool: Sequence[EditRequest]) -> list[EditRequest]:
    """Requests that no reported draw contains."""
    count = PARTIES * REQUESTS_PER_PARTY
    reported = {
        request.case_id
        for seed in REPORTED_SEEDS
        for request in sample_requests(pool, count, seed)
    }
    return [request for request in pool if request.case_id not in reported]


def search(output: Path, model: str = "embedded") -> Hyperparameters:
    """Try layers and clamps, then prior weights, and record every trial.

    Args:
        output: The folder to make: `search.json`, `search.md` and the chosen
            `hyperparameters.json`; it appears once it is complete.
        model: A model's folder or ``embedded``.

    Raises:
        FileExistsError: If `output` exists.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; name a folder that does not.")
    bench = Bench(Path(resolve_model(model)))
    trials = list(run_trials(bench))
    chosen = choose(trials).parameters
    draft = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_search(draft, trials, chosen)
    draft.rename(output)
    return chosen


def run_trials(bench: Bench) -> Iterator[Trial]:
    """Every pair of layers and clamp, then other prior weights for the best pair."""
    first = [
        bench.try_out(_parameters(bench, layers, clamp, FIRST_PRIOR_WEIGHT))
        for layers, clamp in product(LAYERS, CLAMPS)
    ]
    yield from first
    best = choose(first).parameters
    for weight in PRIOR_WEIGHTS:
        yield bench.try_out(best.model_copy(update={"mom2_update_weight": weight}))


def choose(trials: Sequence[Trial]) -> Trial:
    """The best score; among those less than a point worse, the least naive one.

    Trials within `NEAR_BEST` of the best score count as alike, and of these the one
    whose requests depend most on being merged well is taken: where the sum of the
    parties' own solves does as well, the model could not tell merges apart.
    """
    best = max(trial.score for trial in trials)
    alike = [trial for trial in trials if trial.score > best - NEAR_BEST]
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
    folder: Path, trials: Sequence[Trial], chosen: Hyperparameters
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
        "hidden_seeds": REPORTED_SEEDS,
        "requests": PARTIES * REQUESTS_PER_PARTY,
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
