"""What each editor reads and sends, at the widths of a model."""

from collections.abc import Iterator
from dataclasses import dataclass

from editing.answers.vectors import vector_lengths
from editing.editors.base import Editor
from editing.editors.choice import EDITORS, EditorChoice, find_editor
from sims.sizes.estimate import DOUBLE, Estimate, EstimateOrder
from sims.sizes.shapes import ModelShape

ANSWER_TOKENS = 5
"""Tokens of an answer, for editors that read at each of them."""


@dataclass(frozen=True, slots=True)
class EditorSize:
    """What an editor costs a party.

    Attributes:
        name: The word that chooses it.
        editor: Its class.
        reads: What it needs: of a request, and of plain text.
        exchanges: Of statistics in a round, layer by layer where that matters.
        bytes_up: What a party sends in a round.
    """

    name: str
    editor: type[Editor]
    reads: str
    exchanges: int
    bytes_up: int


def list_editors(shape: ModelShape, requests: int) -> Iterator[EditorSize]:
    """List every editor of the tree, with its cost in a round.

    Args:
        shape: The model's.
        requests: Requests of a party in a round.
    """
    for name in EDITORS:
        editor = find_editor(name)
        rule = EditorChoice(name=name).build().answers
        if rule is None:
            order = EstimateOrder(requests=requests)
            usual = Estimate(shape, order)
            up = usual.layer_count * usual.statistics
            yield EditorSize(name, editor, "subject, C₀", usual.exchanges, up)
            continue
        rows = EstimateOrder(requests=requests * ANSWER_TOKENS)
        statistics = len(shape.layers) * Estimate(shape, rows).statistics
        place = (shape.d_out, shape.d_in)
        lengths = vector_lengths([place], products=rule.whitens) if rule.pools else {}
        up = statistics + DOUBLE * sum(lengths.values())
        needs = ", ".join(["answer", "gradients", *rule.files])
        yield EditorSize(name, editor, needs, 2 if rule.pools else 1, up)
