"""Run later blocks on full rows, with the arguments the model called them with.

Slower than windows (`editing.memit.search.prefix_cache`) and right for any causal
model: no argument of a block is read or changed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from editing.memit.search.block_calls import recording
from editing.models.activations import hidden_state
from editing.models.loading import EditableModel
from editing.models.token_rows import PromptBatch


@dataclass(frozen=True, slots=True)
class FullRows:
    """What the blocks after ``L`` need to be run again.

    Attributes:
        states: Output of block ``L``; all rows that the model was run on.
        subjects: Position of each row's subject's last token.
        positions: Position in the row of each column of its window.
        kept: The rows that are still needed.
        calls: Arguments that each block was called with, hidden state excluded.
    """

    states: Float[Tensor, "all seq d"]
    subjects: Int[Tensor, " all"]
    positions: Int[Tensor, "all window"]
    kept: Int[Tensor, " rows"]
    calls: dict[int, dict[str, Any]]

    @property
    def hidden(self) -> Float[Tensor, "rows window d"]:
        """Return the output of block ``L`` in each row's window."""
        return self._windows(self.states)

    def among(self, rows: Int[Tensor, " kept"]) -> "FullRows":
        """Keep some rows; blocks run on all, as their arguments are of all rows."""
        kept = self.kept[rows]
        return FullRows(self.states, self.subjects, self.positions, kept, self.calls)

    def shifted(self, shift: Float[Tensor, "rows d"]) -> Float[Tensor, "all seq d"]:
        """Add a shift at each kept row's subject's last token."""
        place = (self.kept, self.subjects[self.kept])
        return self.states.index_put(place, shift.to(self.states), accumulate=True)

    def run(
        self,
        model: EditableModel,
        hidden: Float[Tensor, "all seq d"],
        early: int | None = None,
        places: Int[Tensor, " places"] | None = None,  # noqa: ARG002 - for windows
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks after ``L``; return the last output and that of block `early`.

        Both are cut to windows, which begin at the subject's last token; columns after
        a row's end repeat its last one.
        """
        read = hidden
        for layer, arguments in self.calls.items():
            hidden = hidden_state(model.block(layer)(hidden, **arguments))
            read = hidden if early is None or layer <= early else read
        return self._windows(hidden), self._windows(read)

    def _windows(self, states: Tensor) -> Float[Tensor, "rows window d"]:
        places = self.positions[self.kept]
        return states.to(places.device)[self.kept.unsqueeze(1), places]


def run_full_rows(
    model: EditableModel, batch: PromptBatch, layer: int, positions: Tensor
) -> FullRows:
    """Run a batch once and keep what it takes to run the blocks after `layer` again."""
    with recording(model, layer) as found:
        model.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
        )
    kept = torch.arange(len(positions), device=positions.device)
    return FullRows(found.outputs[0], batch.subjects, positions, kept, found.calls)
