"""Later blocks run on whole rows, called as the model called them.

Slower than windows (`editing.memit.prefix_cache`) and right for any causal model:
of what a block is told nothing is read, nothing changed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from editing.memit.block_calls import recording
from editing.models.activations import hidden_state
from editing.models.loading import EditableModel
from editing.models.token_rows import PromptBatch


@dataclass(frozen=True, slots=True)
class WholeRows:
    """What the blocks after ``L`` need to be run again.

    Attributes:
        states: Output of block ``L``; all rows that the model was run on.
        subjects: Place of each row's subject's last token.
        positions: Place in the row of each column of its window.
        kept: The rows that are still asked for.
        calls: Arguments that each block was called with, hidden state excluded.
    """

    states: Float[Tensor, "all seq d"]
    subjects: Int[Tensor, " all"]
    positions: Int[Tensor, "all window"]
    kept: Int[Tensor, " rows"]
    calls: dict[int, dict[str, Any]]

    @property
    def hidden(self) -> Float[Tensor, "rows window d"]:
        """Output of block ``L`` in each row's window."""
        return self._windows(self.states)

    def among(self, rows: Int[Tensor, " kept"]) -> "WholeRows":
        """Keep some rows; what a block is told is of all of them, so all are run."""
        kept = self.kept[rows]
        return WholeRows(self.states, self.subjects, self.positions, kept, self.calls)

    def shifted(self, shift: Float[Tensor, "rows d"]) -> Float[Tensor, "all seq d"]:
        """Add a shift at each kept row's subject's last token."""
        place = (self.kept, self.subjects[self.kept])
        return self.states.index_put(place, shift.to(self.states), accumulate=True)

    def run(
        self,
        model: EditableModel,
        hidden: Float[Tensor, "all seq d"],
        early: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks after ``L``; the last output and block `early`'s in windows.

        Windows begin at the subject's last token; columns behind a row's end repeat its
        last one.
        """
        read = hidden
        for layer, arguments in self.calls.items():
            hidden = hidden_state(model.block(layer)(hidden, **arguments))
            read = hidden if early is None or layer <= early else read
        return self._windows(hidden), self._windows(read)

    def _windows(self, states: Tensor) -> Float[Tensor, "rows window d"]:
        places = self.positions[self.kept]
        return states.to(places.device)[self.kept.unsqueeze(1), places]


def run_whole_rows(
    model: EditableModel, batch: PromptBatch, layer: int, positions: Tensor
) -> WholeRows:
    """Run a batch once and keep what it takes to run the blocks after `layer` again."""
    with recording(model, layer) as found:
        model.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
        )
    kept = torch.arange(len(positions), device=positions.device)
    return WholeRows(found.outputs[0], batch.subjects, positions, kept, found.calls)
