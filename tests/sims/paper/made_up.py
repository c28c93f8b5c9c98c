"""Trials that no model was asked for."""

from pathlib import Path

import torch

from editing.algebra.deltas import save_delta
from server.config import RunConfig
from server.report.data import Report, RoundMetrics, RunReport
from server.report.writing import write_report

SCORES = {"collabedit": 90.0, "ties": 20.0, "global": 91.0}


class FakeRuns:
    """Leaves reports that follow from merge, seed and rounds, and counts them."""

    def __init__(self, stop_after: int | None = None) -> None:
        """Stop in the trial after so many, if a number is given."""
        self.configs: list[RunConfig] = []
        self._stop_after = stop_after

    def __call__(self, config: RunConfig, folder: Path, engine: str) -> None:
        """Write a folder as a run does."""
        assert engine == "in-process"
        if self._stop_after == len(self.configs):
            raise KeyboardInterrupt
        self.configs.append(config)
        score = SCORES[config.merge.name] + config.run.seed
        metrics = tuple(measured(score - number) for number in range(config.run.rounds))
        run = RunReport(
            merge=config.merge.name,
            schedule="layerwise",
            rounds=config.run.rounds,
            metrics=metrics,
            seconds=1.0,
            bytes_per_party=1.0,
        )
        folder.mkdir(parents=True)
        write_report(Report(runs=(run,), unedited=measured(1.0)), folder)
        delta = {"weight": torch.full((2, 2), score)}
        save_delta(delta, folder / "delta.safetensors", {"base": "a model"})


def measured(score: float) -> RoundMetrics:
    """Make metrics that differ by the score."""
    return RoundMetrics(
        score=score,
        rewrite_success=score,
        paraphrase_success=score / 2,
        neighborhood_success=99.0,
        all_edits={"score": score, "rewrite_success": score, "rewrite_acc": score},
    )
