"""What a run measures of the whole model while it edits it."""

from pathlib import Path

from pydantic import PositiveInt, model_validator

from editing.base.settings import Settings
from editing.sources.embedded import HUB, SELF


class TaskOptions(Settings):
    """Which tasks are run, and on how much of them.

    Attributes:
        names: Tasks or groups, as the harness names them.
        folder: A folder with tasks of one's own, as YAML files.
        limit: How many documents of each task; all if None.
        batch_size: Rows of a batch.
    """

    names: tuple[str, ...]
    folder: Path | None = None
    limit: int | None = None
    batch_size: int = 16


class CapabilityConfig(Settings):
    """The capability curve: what a model can do besides its edits, as they add up.

    Attributes:
        every: After every how many rounds it is measured; the unedited model and the
            last round always are.
        text: A text whose perplexity is measured, a file or ``embedded``; unset, none.
        tokens: Tokens of the text, from its first on; unset, all.
        tasks: Tasks or groups of lm-evaluation-harness, by their names.
        task_dir: A folder with tasks of one's own, as YAML files.
        task_limit: Documents of each task; unset, all.
    """

    every: PositiveInt = 1
    text: str | None = None
    tokens: PositiveInt | None = None
    tasks: tuple[str, ...] = ()
    task_dir: str | None = None
    task_limit: PositiveInt | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is measured."""
        return self.text is not None or bool(self.tasks)

    @property
    def task_options(self) -> TaskOptions | None:
        """Which tasks are run; None if there is none."""
        if not self.tasks:
            return None
        folder = Path(self.task_dir) if self.task_dir else None
        return TaskOptions(names=self.tasks, folder=folder, limit=self.task_limit)

    def is_due(self, number: int, last: int) -> bool:
        """Return whether it is measured after a round, of which the last is `last`."""
        return self.is_on and (number % self.every == 0 or number == last)

    @model_validator(mode="after")
    def check_whole(self) -> "CapabilityConfig":
        """Refuse what counts on a text or on tasks without them, and texts of no file.

        Raises:
            ValueError: Naming the first.
        """
        if self.text is not None and (self.text == SELF or self.text.startswith(HUB)):
            raise ValueError(
                f"`capability.text` is {self.text!r}, and every round must read the "
                "same text; name a file, or `embedded`"
            )
        wants = {
            "tokens": ("capability.text", self.text is not None),
            "task_dir": ("capability.tasks", bool(self.tasks)),
            "task_limit": ("capability.tasks", bool(self.tasks)),
            "every": ("capability.text` or `capability.tasks", self.is_on),
        }
        for name, (needed, given) in wants.items():
            plain = type(self).model_fields[name].default
            if getattr(self, name) != plain and not given:
                key = f"capability.{name.replace('_', '-')}"
                raise ValueError(f"`{key}` needs `{needed}`; add it, or leave it out")
        return self
