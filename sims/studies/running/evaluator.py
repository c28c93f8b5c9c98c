"""Evaluation of further requests by the model that a trial edited."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.hyperparameters.choice import load_named
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from editing.sources.embedded import resolve_model
from sims.console import hush_libraries
from sims.results.evaluation import edited
from strategies.scenario import ModelConfig


class RequestEvaluator:
    """Evaluates further requests by a run's edited model, which is loaded once."""

    def __init__(self, config: ModelConfig, hyperparameters: str | None = None) -> None:
        """Load nothing before something is to be evaluated.

        Args:
            config: Which model.
            hyperparameters: A file or preset that names its modules.
        """
        self._config, self._hyperparameters = config, hyperparameters

    @cached_property
    def _model(self) -> EditableModel:
        hush_libraries()
        path = resolve_model(self._config.path)
        return load_named(
            path, self._config.dtype, self._config.device, self._hyperparameters
        )

    def __call__(
        self, requests: Mapping[str, Sequence[EditRequest]], delta: Path
    ) -> dict[str, dict[str, float]]:
        """Give the metrics of each set of requests."""
        if not requests:
            return {}
        with edited(self._model, delta):
            return {
                name: sum_cases(evaluate_requests(self._model, each)).means()
                for name, each in requests.items()
            }
