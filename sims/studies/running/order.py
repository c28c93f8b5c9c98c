"""What a study is run with. Importing this loads neither torch nor pandas."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOP = ("compare", "paper")
"""What has the trials of a study and is a command of its own."""


def command_words(study: str) -> list[str]:
    """Return the words that call a study."""
    return ["python", "-m", "sims", *([] if study in TOP else ["study"]), study]


@dataclass(frozen=True, slots=True)
class Order:
    """What a study is run with.

    Attributes:
        scenario: A TOML file; the study's own if None.
        overrides: Settings over the scenario, each ``table.key=value``.
        seeds: All trials are run once for each.
        engine: What carries the messages.
        jobs: How many trials run at once, each in a process of its own.
        options: The study's own options and their values, as on the command line.
    """

    scenario: Path | None = None
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    engine: str = "in-process"
    jobs: int = 1
    options: tuple[str, ...] = ()

    def command(self, study: str) -> str:
        """Write the command that runs the study again."""
        words = command_words(study)
        words += ["--seeds", ",".join(map(str, self.seeds))]
        if self.scenario:
            # `compare` takes it as `run` does.
            named = [] if study == "compare" else ["--scenario"]
            words += [*named, str(self.scenario)]
        for override in self.overrides:
            words += ["--set", override]
        return shlex.join([*words, "--engine", self.engine, *self.options])

    @property
    def own(self) -> Mapping[str, str]:
        """The study's own options by their names."""
        return dict(zip(self.options[::2], self.options[1::2], strict=True))

    def repeated(self, option: str) -> tuple[str, ...]:
        """The values of an option that may be given several times."""
        pairs = zip(self.options[::2], self.options[1::2], strict=True)
        return tuple(value for name, value in pairs if name == option)
