"""What an editor reads, sends and keeps besides what MEMIT does, by shapes alone."""

from dataclasses import dataclass
from functools import cached_property

from editing.answers.vectors import vector_lengths
from editing.editors.base import Editor
from editing.editors.choice import EditorChoice
from editing.malmen.rule import AnyRule
from sims.sizes.shapes import ModelShape

DOUBLE = 8
"""Bytes of a number of statistics and solves."""

ANSWER_TOKENS = 5
"""Tokens of an answer, unless it is said."""


@dataclass(frozen=True)
class ByEditor:
    """The share of an editor in a run's sizes, in bytes."""

    name: str
    shape: ModelShape

    @cached_property
    def editor(self) -> Editor:
        """The editor, with its default settings."""
        return EditorChoice(name=self.name).build()

    @property
    def rule(self) -> AnyRule | None:
        """How it makes values at the answers' tokens; None for MEMIT's family."""
        return self.editor.answers

    @property
    def reads(self) -> str:
        """What it needs: of a request, of plain text, of files."""
        if self.rule is None:
            return "subject, C₀"
        return ", ".join(["answer", "gradients", *self.rule.files])

    @property
    def pools(self) -> bool:
        """Whether moments are an exchange of their own."""
        return self.rule is not None and self.rule.pools

    @property
    def moments(self) -> int:
        """What a party sends before its statistics, and is sent back of all parties.

        ``8 (1 + 2 (d_in + d_out))`` for all layers, which share a width; with gradients
        that are whitened, ``8 d_out (d_out + 1) / 2`` more.
        """
        if self.rule is None or not self.rule.pools:
            return 0
        place = (self.shape.d_out, self.shape.d_in)
        lengths = vector_lengths([place], products=self.rule.whitens)
        return DOUBLE * sum(lengths.values())

    @property
    def kept(self) -> int:
        """The most that it keeps of a layer from round to round.

        Moments are of all layers, and are kept with the first.
        """
        return DOUBLE * self.editor.most_kept(self.shape.d_out, self.shape.d_in)
