"""What a search writes: every trial, and the chosen hyperparameters."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from editing.files.atomic import write_whole
from editing.hyperparameters.config import Hyperparameters
from server.output import create_output_folder
from sims.search.bench import Trial
from sims.search.search import Outcome

CHOSEN = "hyperparameters.json"
METRICS = {
    "rewrite_success": "ES",
    "paraphrase_success": "PS",
    "neighborhood_success": "NS",
    "rewrite_acc": "rewrite accuracy",
}
DIAGNOSIS = {
    "target_probability": "p(new) at z",
    "target_stopped": "stopped",
    "target_clamped": "clamped",
    "residual_left": "residual left",
    "update_ratio": "‖Δ‖/‖W‖",
}
"""Columns of the table, by the names of the record."""


def write_search(
    folder: Path, outcome: Outcome, command: str, settings: Mapping[str, object]
) -> None:
    """Write `search.md`, `search.json` and `hyperparameters.json` to a new folder."""
    chosen = outcome.chosen.parameters
    record = {
        "command": command,
        **settings,
        "trials": [record_of(trial, chosen) for trial in outcome.trials],
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    values = chosen.model_dump(mode="json", exclude_none=True)
    with create_output_folder(folder) as draft:
        write_whole(draft / "search.json", text + "\n")
        write_whole(draft / "search.md", render_table(outcome) + "\n")
        write_whole(draft / CHOSEN, json.dumps(values, indent=2) + "\n")


def record_of(trial: Trial, chosen: Hyperparameters) -> dict[str, object]:
    """Record a trial with all that it measured."""
    return {
        "part": trial.part,
        "layers": list(trial.parameters.layers),
        "mom2_update_weight": trial.parameters.mom2_update_weight,
        "clamp_norm_factor": trial.parameters.clamp_norm_factor,
        "score": round(trial.score, 2),
        **{name: round(value, 4) for name, value in trial.metrics.items()},
        **{name: round(value, 6) for name, value in trial.diagnosis.items()},
        "seconds": round(trial.seconds, 2),
        "failure": trial.failure,
        "chosen": trial.parameters == chosen,
    }


def render_table(outcome: Outcome) -> str:
    """Write all trials as a Markdown table, in the order in which they were tried."""
    trials = outcome.trials
    shown = [name for name in METRICS if any(name in each.metrics for each in trials)]
    heads = ["part", "layers", "λ", "clamp", "score"]
    heads += [METRICS[name] for name in shown]
    heads += [*DIAGNOSIS.values(), "chosen"]
    lines = [_row(heads), _row(["---"] * 2 + ["--:"] * (len(heads) - 3) + ["---"])]
    chosen = outcome.chosen.parameters
    return "\n".join([*lines, *(_row(cells(t, shown, chosen)) for t in trials)])


def cells(trial: Trial, shown: Sequence[str], chosen: Hyperparameters) -> list[str]:
    """Write a trial as the cells of its row; what was not measured is `–`."""
    parameters = trial.parameters
    mark = "**yes**" if parameters == chosen else ""
    return [
        trial.part,
        ", ".join(map(str, parameters.layers)),
        f"{parameters.mom2_update_weight:.4g}",
        f"{parameters.clamp_norm_factor:g}",
        "failed" if trial.failure else f"{trial.score:.1f}",
        *(_number(trial.metrics.get(name), 1) for name in shown),
        *(_number(trial.diagnosis.get(name), 3) for name in DIAGNOSIS),
        mark,
    ]


def describe(trial: Trial) -> str:
    """Describe a trial in one line, as it is shown while the search runs."""
    layers, weight, clamp = cells(trial, (), trial.parameters)[1:4]
    result = trial.failure or f"score {trial.score:.1f}"
    return (
        f"{trial.part}: layers {layers}, λ {weight}, clamp {clamp}: {result} "
        f"({trial.seconds:.1f} s)"
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
