"""The golden values: what two published programs computed for one small model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from editing.hyperparameters.config import Hyperparameters
from editing.hyperparameters.files import parse_hyperparameters
from editing.models.loading import EditableModel, load_editable_model
from editing.models.token_rows import BARE
from editing.requests.edit_request import EditRequest, parse_request

GOLDEN_PAIRS = 1e-5
"""Relative difference allowed to keys, and to residuals given golden targets."""

GOLDEN_TARGETS = 1e-4
"""Relative difference allowed to targets, over all of them and of each."""

GOLDEN_END_TO_END = 1e-3
"""Relative difference allowed to deltas from our own targets; and of an NLL, absolute.

Targets differ in the sixth digit, and the solve amplifies that.
"""

CLIENTS = tuple(f"frozen.client{index}" for index in range(4))
"""The runs of one client each, with six requests in the order of the case."""

SCHEDULES = {"memit": "layerwise", "frozen.global": "frozen-harmonic"}
"""How the two runs with all requests were made."""


@dataclass(frozen=True)
class Golden:
    """One model and its edits, and what came out.

    Attributes:
        model: Loaded afresh.
        requests: All of them; each client has six, in this order.
        templates: Context templates, the bare one first.
        parameters: MEMIT's hyperparameters.
        tensors: As the file has them, columns being edits.
        cases: By run, the published evaluation of the edited model.
    """

    model: EditableModel
    requests: list[EditRequest]
    templates: tuple[str, ...]
    parameters: Hyperparameters
    tensors: dict[str, Tensor]
    cases: Mapping[str, list[dict[str, dict[str, list[dict[str, float]]]]]]

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited layers."""
        return self.parameters.layers

    @property
    def priors(self) -> dict[int, Tensor]:
        """``λ·C₀`` by layer, in float64."""
        weight = self.parameters.mom2_update_weight
        return {
            k: weight * self.tensors[f"covariance.{k}"].double() for k in self.layers
        }

    def rows(self, name: str) -> Tensor:
        """Targets, keys or residuals, rows being edits as everywhere here."""
        return self.tensors[name].mT

    def delta(self, run: str) -> dict[str, Tensor]:
        """The published update of a run, by parameter name."""
        return {
            self.model.weight_name(layer): self.tensors[f"{run}.delta.{layer}"]
            for layer in self.layers
        }

    def requests_of(self, run: str) -> list[EditRequest]:
        """The requests that a run edited with."""
        if run not in CLIENTS:
            return self.requests
        start = 6 * CLIENTS.index(run)
        return self.requests[start : start + 6]


def load_golden(folder: Path) -> Golden:
    """Read the golden folder, and load its model in float32."""
    case = json.loads((folder / "case.json").read_text())
    texts = [text for group in case["context_templates"] for text in group]
    assert texts[0] == BARE
    evaluation = json.loads((folder / "evaluation.json").read_text())
    return Golden(
        load_editable_model(str(folder / "model")),
        [parse_request(each, "case.json", i) for i, each in enumerate(case["records"])],
        tuple(texts),
        parse_hyperparameters(case["hyperparameters"]),
        load_file(folder / "golden.safetensors"),
        {"memit": evaluation["memit"], "frozen.global": evaluation["frozen_global"]},
    )
