"""States of a layer that editors are tried on, and rounds by their definition."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.base import Editor
from editing.editors.system import LayerState
from tests.laws import draw_pairs, draw_prior

WEIGHT, GAMMA = 2.0, 0.5


@dataclass(frozen=True)
class Past:
    """All rounds before one, as a definition has them.

    Attributes:
        text: ``C₀``.
        gram: ``M`` with its weight.
        total: ``W − W₀``.
        edits: Their number.
        grams: ``S`` of each.
        totals: ``W − W₀`` after each.
    """

    text: Tensor
    gram: Tensor
    total: Tensor
    edits: int = 0
    grams: tuple[Tensor, ...] = ()
    totals: tuple[Tensor, ...] = ()

    def after(self, statistics: LayerStatistics, delta: Tensor) -> "Past":
        """Add a round."""
        return replace(
            self,
            gram=self.gram + GAMMA * statistics.gram,
            total=self.total + delta,
            edits=self.edits + statistics.count,
            grams=(*self.grams, statistics.gram),
            totals=(*self.totals, self.total + delta),
        )


def first(text: Tensor, d_out: int) -> Past:
    """Begin without any round."""
    return Past(text, torch.zeros_like(text), text.new_zeros(d_out, len(text)))


def rounds_of(
    editor: Editor, text: Tensor, rounds: Sequence[LayerStatistics], scale: float = 1.0
) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
    """Solve rounds by an editor; yield each delta, and what is kept after it."""
    grams: Tensor | None = None
    total: Tensor | None = None
    kept = editor.begin(LayerState(Prior(text / scale, WEIGHT, scale=scale)))
    for statistics in rounds:
        prior = Prior(text / scale, WEIGHT, grams, GAMMA, scale)
        state = LayerState(prior, total, kept)
        delta = editor.system(state).solve(statistics)
        kept = dict(editor.remember(state, statistics.gram, statistics.count, delta))
        grams = statistics.gram if grams is None else grams + statistics.gram
        total = delta if total is None else total + delta
        yield delta, kept


def draw_rounds(sizes: Sequence[int], seed: int) -> list[LayerStatistics]:
    """Draw the statistics of some rounds."""
    return [
        LayerStatistics.of_pairs(*draw_pairs(size, seed + 100 * number))
        for number, size in enumerate(sizes)
    ]


def assert_is_definition(
    editor: Editor,
    define: Callable[[Past, Tensor, Tensor], Tensor],
    seed: int,
    sizes: Sequence[int] = (2, 3, 1),
) -> None:
    """Compare with a definition of a round's delta: past, ``S``, ``B``."""
    text, rounds = draw_prior(seed), draw_rounds(sizes, seed)
    for scale in (1.0, 0.125):
        past = first(text, rounds[0].cross.shape[0])
        found = rounds_of(editor, text, rounds, scale)
        for statistics, (delta, _) in zip(rounds, found, strict=True):
            expected = define(past, statistics.gram, statistics.cross)
            gap = (delta - expected).norm() / expected.norm()
            assert gap < 1e-9
            past = past.after(statistics, delta)
