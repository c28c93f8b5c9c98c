"""Measure an edited model on a text and on tasks that no request is about."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from editing.algebra.deltas import Delta, applied
from editing.algebra.threads import threads_for
from editing.base.errors import InputError, ModelFilesError
from editing.evaluation.capability.config import CapabilityConfig
from editing.evaluation.capability.harness import find_tasks, run_tasks
from editing.evaluation.perplexity import read_surprise
from editing.files.text import read_text
from editing.models.loading import EditableModel
from editing.sources.embedded import resolve_source

PERPLEXITY = "perplexity"

LARGEST = math.exp(700.0)
"""In the place of a perplexity beyond all floats, or of a model that computes none."""


@dataclass(frozen=True, slots=True)
class CapabilityMeasure:
    """What is read for the capability curve, found before any model is edited.

    Attributes:
        config: What is measured.
        text: The text; None if its perplexity is not measured.
        tasks: What `find_tasks` gave; None if no task is run.
    """

    config: CapabilityConfig = field(default_factory=CapabilityConfig)
    text: str | None = None
    tasks: Any = None

    def __call__(self, model: EditableModel, delta: Delta) -> dict[str, float]:
        """Measure a model with an update; it is given back as it was.

        Args:
            model: The model, unedited.
            delta: By parameter name.
        """
        with applied(delta, model.model), threads_for(max(model.widths(0))):
            found = {}
            if self.text is not None:
                found[PERPLEXITY] = self._perplexity(model, self.text)
            if (options := self.config.task_options) is not None:
                for task, numbers in run_tasks(model, options, self.tasks).items():
                    found |= name_numbers(task, numbers)
        return found

    def _perplexity(self, model: EditableModel, text: str) -> float:
        try:
            surprise = read_surprise(model, text, tokens=self.config.tokens)
        except ModelFilesError:  # its scores are no numbers
            return LARGEST
        return min(surprise.perplexity, LARGEST)

    @property
    def digest(self) -> str | None:
        """SHA-256 of the text."""
        if self.text is None:
            return None
        return hashlib.sha256(self.text.encode()).hexdigest()

    def define(self, names: Iterable[str]) -> dict[str, str]:
        """Return the ids of what was measured: another text is another metric."""
        return {name: self._define(name) for name in names}

    def _define(self, name: str) -> str:
        config, tokens = self.config, self.config.tokens
        if name == PERPLEXITY:
            own = f"perplexity.half-windows.v1.text-{(self.digest or '')[:12]}"
            return own + (f".tokens-{tokens}" if tokens else "")
        own = f"lm-eval.{name}.v{version('lm_eval')}"
        return own + (f".limit-{config.task_limit}" if config.task_limit else "")


def open_capability(config: CapabilityConfig, model_path: str) -> CapabilityMeasure:
    """Read the text and find the tasks, before anything takes long.

    Args:
        config: What is to be measured.
        model_path: The model's folder, which holds its own text.

    Raises:
        InputError: If the text cannot be read or is blank, or a task cannot be found.
    """
    text = None
    if config.text is not None:
        place = resolve_source(config.text, model_path, "text.txt", "capability.text")
        try:
            text = read_text(place)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"`capability.text` {place}: cannot be read as UTF-8 text "
                f"({type(error).__name__}); name a text file, or `embedded`"
            ) from None
        if not text.strip():
            raise InputError(
                f"`capability.text` {place}: is blank; name a file with some text"
            )
    options, tasks = config.task_options, None
    if options is not None:
        tasks = find_tasks(options, "`capability.tasks`", "`capability.task-dir`")
    return CapabilityMeasure(config, text, tasks)


def name_numbers(task: str, numbers: dict[str, float]) -> dict[str, float]:
    """Name a task's numbers ``task.metric``, a filter after the metric.

    The harness writes ``metric,filter``, and ``none`` where there is no filter.
    Standard errors are left out, and what is no finite number.
    """
    return {
        f"{task}.{name.removesuffix(',none').replace(',', '.')}": value
        for name, value in numbers.items()
        if "," in name and "_stderr" not in name and math.isfinite(value)
    }
