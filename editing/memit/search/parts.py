"""Rows of a search for targets that are run together, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import kl_div

from editing.memit.search.full_rows import FullRows
from editing.memit.search.loss_positions import (
    LossPositions,
    TargetRows,
    find_positions,
    renumber,
)
from editing.memit.search.prefix_cache import FrozenPrefix
from editing.memit.search.streams import Streams
from editing.models.loading import EditableModel


@dataclass(frozen=True, slots=True)
class Costs:
    """What the rows of a part cost.

    Attributes:
        answer: The weighted loss of each answer's token.
        drift: Of each KL row.
        wrong: Whether another token is likelier than the answer's.
    """

    answer: Float[Tensor, " answers"]
    drift: Float[Tensor, " essences"]
    wrong: Bool[Tensor, " answers"]


@dataclass(slots=True)
class SearchPart:
    """Rows of a batch that are run together.

    Attributes:
        prefix: Of these rows.
        positions: Where the loss reads these rows.
        owners: Which of the requests still being optimised a row belongs to.
        before: Log-probabilities at the KL positions before any shift, once known.
        streams: What is shifted; None is the output of the block of the prefix.
    """

    prefix: FrozenPrefix | FullRows
    positions: LossPositions
    owners: Tensor
    before: Tensor | None = None
    streams: Streams | None = None

    def among(self, rows: Tensor, owners: Tensor) -> "SearchPart":
        """Keep some rows, in order; `owners` gives the new numbering of requests."""
        read = renumber(rows, self.positions.essence.rows) >= 0
        return SearchPart(
            self.prefix if len(rows) == len(self.owners) else self.prefix.among(rows),
            self.positions.among(rows, owners),
            renumber(owners, self.owners[rows]),
            None if self.before is None else self.before[read],
            self.streams,
        )

    def costs(
        self, model: EditableModel, shift: Float[Tensor, "rows ..."], layer: int | None
    ) -> Costs:
        """Compute what the rows cost at a shift."""
        answers, essence = self.positions.rewriting, self.positions.essence
        final, early = self._run(model, shift, layer)
        read = torch.cat([answers.pick(early), essence.pick(final)])
        logits = wide(model.logits(read)).log_softmax(dim=-1)
        said, now = logits.split([len(answers.rows), len(essence.rows)])
        if self.before is None:
            self.before = now.detach().clone()
        drift = kl_div(self.before, now, reduction="none", log_target=True)
        chosen = said.gather(1, answers.tokens.unsqueeze(1)).squeeze(1)
        likeliest = said.detach().max(dim=1).values
        return Costs(-chosen * answers.weights, drift.sum(dim=1), chosen < likeliest)

    def _run(
        self, model: EditableModel, shift: Float[Tensor, "rows ..."], layer: int | None
    ) -> tuple[Tensor, Tensor]:
        """Run the later blocks; return the last output, and that of block `layer`."""
        if self.streams is None:
            window = self.prefix.shifted(shift)
            each = (self.positions.rewriting, self.positions.essence)
            read = torch.cat([places.places(window.shape[1]) for places in each])
            return self.prefix.run(model, window, layer, read)
        window = self.prefix.shifted(torch.zeros_like(shift[:, 0]))
        early = None if layer is None else max(layer, self.streams.layer)
        with self.streams.shifted(places_of(self.prefix), shift):
            return self.prefix.run(model, window, early)

    @torch.no_grad()
    def states(self, model: EditableModel) -> Float[Tensor, "rows ..."]:
        """Return what is shifted, as it is at each row's subject's last token."""
        if self.streams is None:
            return self.prefix.hidden[:, 0]
        window = self.prefix.shifted(torch.zeros_like(self.prefix.hidden[:, 0]))
        with self.streams.shifted(places_of(self.prefix)) as seen:
            self.prefix.run(model, window)
        return torch.stack(seen, dim=1)


def places_of(prefix: FrozenPrefix | FullRows) -> tuple[Tensor, Tensor]:
    """Return the row and the column of each subject's last token in the states run."""
    if isinstance(prefix, FullRows):
        return prefix.kept, prefix.subjects[prefix.kept]
    rows = torch.arange(len(prefix.pasts), device=prefix.pasts.device)
    return rows, torch.zeros_like(rows)


def join_parts(parts: Sequence[SearchPart]) -> SearchPart:
    """Put the rows of several below one another; all are cut to windows."""
    prefixes = [each.prefix for each in parts if isinstance(each.prefix, FrozenPrefix)]
    before = [each.before for each in parts if each.before is not None]
    return SearchPart(
        FrozenPrefix.joined(prefixes),
        LossPositions.joined(
            [each.positions for each in parts], [len(each.owners) for each in parts]
        ),
        torch.cat([each.owners for each in parts]),
        torch.cat(before),
        parts[0].streams,
    )


def make_part(
    model: EditableModel,
    built: TargetRows,
    prefix: FrozenPrefix | FullRows,
    dtype: torch.dtype,
    streams: Streams | None = None,
) -> SearchPart:
    """Find where the loss reads some rows, whose prefix was run."""
    owners = torch.tensor(built.owners, device=model.device)
    positions = find_positions(built, model.device, dtype)
    return SearchPart(prefix, positions, owners, streams=streams)


def wide(values: Tensor) -> Tensor:
    """Values in single precision at least; at half precision, Adam would not move."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
