"""The settings of a run, read once and validated together.

A run is described by one scenario: a TOML file for people, or Flower's flat
``--run-config`` (see `strategies.scenario`). Both are read into one closed, frozen
`RunConfig`, and every mistake is one line that names the key.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import (
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
)

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.base.validation import SETTINGS, explain_all, find_faults
from editing.editors.choice import EDITORS, MEMIT, EditorChoice, check_name, find_editor
from editing.evaluation.capability.config import CapabilityConfig
from editing.evaluation.config import EvaluationConfig
from editing.hyperparameters.config import EditingConfig
from editing.malmen.settings import TrainingSettings
from server.tables import (
    ConfigurationError,
    Table,
    overlay,
    parse_override,
    read_tables,
    refuse_nul,
    resolve_paths,
)
from strategies.gate.decision import GateConfig
from strategies.methods import (
    COMPARED,
    GLOBAL,
    MergeChoice,
    check_method,
    known_methods,
    read_method,
)
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.scenario import (
    MOST_BITS,
    FlatConfig,
    FlatValue,
    ModelConfig,
    OutputConfig,
    Positive,
    PriorConfig,
    PrivacyConfig,
    flatten,
    nest,
    whole_numbers,
)
from strategies.unread_settings import find_unread

KEY_RATIO, TEXT_RATIO = 5.0, 100.0
"""Keys may be so many times as long as those of plain text. Of honest parties the
longest edits' keys measured are 1.7 times as long, of scenarios and tests together."""

RESIDUAL_RATIO, OVERSHOOTING_RATIO = 2.0, 20.0
"""Residuals may be so many times as long as a target may be far; the latter for merges
that solve for each party alone. The longest measured are 0.45 times as long."""


class ScheduleConfig(Settings):
    """Rounds, their parties, and the bounds on what a party sends.

    Attributes:
        rounds: How many rounds of requests are edited.
        seed: Draws everything that a run draws.
        min_parties: A round stops the run if fewer parties than this remain.
        encoding: How statistics travel. ``factors-float32`` takes half the bytes of
            ``factors``, and rounds each number to 6e-8 of its size.
        encoding_down: How updates travel. ``factors`` sends an update of low rank as
            two factors, where those are smaller; the update is rounded to their
            product, by up to 1e-6 of its norm, and all nodes have the same bits.
        timeout: Seconds to wait for the replies of one exchange.
        compare: Whether to run several merges on the same requests and targets.
        merges: Which merges `compare` runs, by name or import path. If empty, those of
            CollabEdit's paper (collabedit, simple-average, task-arithmetic, ties), the
            one of the table ``merge``, and ``global``.
        name: The name of the parties' folders of the run, so that a resumed run finds
            them; Flower's number of the run if unset.
        max_key_ratio: The largest root mean square norm of a party's keys, as a
            multiple of that of plain text, ``√tr(C₀)``; a party above it is refused.
            5 if unset. A token that begins every text counts once in a window, so even
            its keys are within the square root of the window's tokens: subjects of
            one token that begin their prompts may need as much. A text for a federated
            covariance must be within the same ratio, both ways, of the keys that the
            server reads of the context templates, or within 100 if unset.
        max_residual_ratio: The largest root mean square norm of a party's residuals, as
            a multiple of the distance allowed between a target and the longest hidden
            state that the server finds; a party above it is refused. If unset, 2, and
            20 for merges that solve for each party alone: they may overshoot and make
            the model worse layer by layer, and residuals grow then.
        max_residual_norm: The same bound as a norm, instead of that ratio. The report's
            residual norm shows what is usual for a model.
    """

    rounds: PositiveInt = 1
    seed: NonNegativeInt = 0
    min_parties: PositiveInt = 1
    encoding: Literal["factors", "factors-float32", "dense"] = "factors"
    encoding_down: Literal["whole", "factors"] = "whole"
    timeout: Positive = 3600.0
    compare: bool = False
    merges: tuple[str, ...] = ()
    name: str | None = None
    max_key_ratio: Positive | None = None
    max_residual_ratio: Positive | None = None
    max_residual_norm: Positive | None = None

    @property
    def key_ratio(self) -> float:
        """The bound on the keys of edits."""
        return self.max_key_ratio or KEY_RATIO

    @property
    def text_ratio(self) -> float:
        """The bound on the keys of texts, of whose tokens some are far longer."""
        return self.max_key_ratio or TEXT_RATIO

    def residual_ratio(self, *, sums: bool) -> float:
        """The bound on residuals, for a merge of the sum or of each party's alone."""
        unset = RESIDUAL_RATIO if sums else OVERSHOOTING_RATIO
        return self.max_residual_ratio or unset

    @field_validator("merges")
    @classmethod
    def check_merges(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a merge that is named twice or unknown.

        Raises:
            ValueError: Naming the first such merge.
        """
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"{name!r} is named twice; name each merge once")
            try:
                check_method(name)
            except InputError as error:
                raise ValueError(str(error)) from None
        return names


class RunConfig(Settings):
    """All settings of one run, one table for each part."""

    model: ModelConfig = ModelConfig()
    requests: RequestsConfig = RequestsConfig()
    parties: PartiesConfig = PartiesConfig()
    editing: EditingConfig = EditingConfig()
    prior: PriorConfig = PriorConfig()
    merge: MergeChoice = MergeChoice()
    editor: EditorChoice = EditorChoice()
    run: ScheduleConfig = ScheduleConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    gate: GateConfig = GateConfig()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationConfig = EvaluationConfig()
    capability: CapabilityConfig = CapabilityConfig()
    output: OutputConfig = OutputConfig()

    @property
    def compared(self) -> tuple[str, ...]:
        """The names of the merges that the run compares, or of its only one.

        `merge` counts as well where no list is given: a merge from outside the tree
        can be named nowhere else with its settings.
        """
        if not self.run.compare:
            return (self.merge.name,)
        named = dict.fromkeys([*COMPARED, self.merge.name, GLOBAL])
        # `global` comes last: the targets are computed by then, at all parties at once.
        return self.run.merges or tuple(sorted(named, key=lambda name: name == GLOBAL))


def default_run_config() -> dict[str, FlatValue]:
    """List every key that Flower's ``--run-config`` may set, with its default."""
    return flatten(RunConfig())


def read_run_config(flat: FlatConfig) -> RunConfig:
    """Read the flat table that Flower hands to an app.

    Raises:
        ConfigurationError: If a key is unknown, or a value mistyped or out of range.
    """
    try:
        nested = nest(flat)
        refuse_nul(nested)
    except InputError as error:
        raise ConfigurationError(f"run config: {error}") from None
    return check_settings(nested, lambda _: "run config")


def read_scenario(
    path: Path, overrides: Sequence[str] = (), *, external: bool = True
) -> RunConfig:
    """Read a scenario file, then put ``key=value`` settings over it.

    See `change_scenario`; an override that cannot be read is a `ConfigurationError`.
    """
    changes = [parse_override(override) for override in overrides]
    return change_scenario(path, changes, external=external)


def change_scenario(
    path: Path, changes: Iterable[tuple[list[str], object]], *, external: bool = True
) -> RunConfig:
    """Read a scenario file, then put settings over it.

    Relative paths in the file start at the file's folder, relative paths in a change at
    the current one. A mistake is a `ConfigurationError`, as in `read_tables` and
    `check_settings`.

    Args:
        path: The file.
        changes: Settings that win over the file's: the parts of each key, and a value.
        external: Whether merges from outside the tree are accepted; they are imported,
            and whatever code they name runs.
    """
    tables = resolve_paths(read_tables(path), path.resolve().parent)
    overridden: set[str] = set()
    for keys, value in changes:
        changed: Table = {keys[-1]: value}
        for key in reversed(keys[:-1]):
            changed = {key: changed}
        tables = overlay(tables, resolve_paths(changed, Path.cwd()))
        overridden.add(".".join(keys).replace("_", "-"))

    def origin(key: str) -> str:
        given = key in overridden or any(k.startswith(f"{key}.") for k in overridden)
        return f"--set {key}" if key and given else str(path)

    return check_settings(tables, origin, external=external)


def check_settings(
    tables: Table, origin: Callable[[str], str], *, external: bool = True
) -> RunConfig:
    """Validate nested tables as strictly as TOML is typed.

    Args:
        tables: Nested tables with underscored names.
        origin: Says for a dotted key where it was written.
        external: Whether merges from outside the tree are accepted.

    Raises:
        ConfigurationError: If a key is unknown, or a value mistyped or out of range.
    """
    for key, number in whole_numbers(tables):
        if number.bit_length() > MOST_BITS:
            raise ConfigurationError(
                f"{origin(key)}: `{key}`: wanted a whole number of at most {MOST_BITS} "
                f"bits, as messages carry them, got one of {number.bit_length()}"
            )
    try:
        config = RunConfig.model_validate_json(json.dumps(tables), strict=True)
    except ValidationError as error:
        faults = find_faults(error, RunConfig, SETTINGS)
        raise ConfigurationError(explain_all(faults, origin)) from None
    except TypeError:
        raise ConfigurationError(
            f"{origin('')}: dates and times are no settings; write a text, a number, "
            "true or false, or a list of them"
        ) from None
    if not external:
        refuse_external(config, origin)
    check_merges(config, origin)
    check_editor(config, origin)
    check_training(config, origin)
    return config


def refuse_external(config: RunConfig, origin: Callable[[str], str]) -> None:
    """Refuse merges and editors whose code a scenario brings; nothing is imported.

    Raises:
        ConfigurationError: Naming the first.
    """
    known = {*known_methods(), *EDITORS}
    named = (
        ("merge.name", config.merge.name),
        ("editor.name", config.editor.name),
        *(("run.merges", m) for m in config.run.merges),
    )
    for key, name in named:
        if name not in known:
            raise ConfigurationError(
                f"{origin(key)}: `{key}`: {name!r} is code from outside this project, "
                "which would run next to the parties' statistics; read it, then add "
                "--allow-external-merge"
            )


def check_merges(config: RunConfig, origin: Callable[[str], str]) -> None:
    """Validate the chosen merge with its settings, and load those from outside.

    A known merge without settings is not loaded: that takes as long as torch does.

    Raises:
        ConfigurationError: If a merge is unknown, or a setting of it is wrong.
    """
    try:
        check_method(config.merge.name)
        if not config.merge.is_plain:
            config.merge.build().merge.check_parties(config.parties.count)
    except ValidationError as error:
        chosen = type(read_method(config.merge.name).merge)
        faults = find_faults(error, chosen, SETTINGS, within="merge")
        raise ConfigurationError(explain_all(faults, origin)) from None
    except InputError as error:
        raise ConfigurationError(f"{origin('merge.name')}: {error}") from None
    for name in config.run.merges:
        try:
            if MergeChoice(name=name).is_plain or name == config.merge.name:
                continue
            read_method(name)
        except (InputError, ValidationError) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"{origin('run.merges')}: {reason}") from None


def check_editor(config: RunConfig, origin: Callable[[str], str]) -> None:
    """Validate the chosen editor with its settings, and what it runs with.

    Raises:
        ConfigurationError: If it is unknown, a setting of it is wrong, parties cannot
            solve by it on their own, or a setting of the run is one it does not read.
    """
    chosen = config.editor
    try:
        check_name(chosen.name)
        if not chosen.is_plain:
            chosen.build()
    except ValidationError as error:
        faults = find_faults(error, find_editor(chosen.name), SETTINGS, within="editor")
        raise ConfigurationError(explain_all(faults, origin)) from None
    except InputError as error:
        raise ConfigurationError(f"{origin('editor.name')}: {error}") from None
    if config.editing.schedule == "alone" and chosen != EditorChoice():
        own = f"`{chosen.name}`" if chosen.name != MEMIT else "one with settings"
        raise ConfigurationError(
            f"{origin('editing.schedule')}: under `alone` each party solves by itself, "
            f"and it does so by `memit` without settings, not by {own}; choose another "
            "schedule"
        )
    unread = find_unread(chosen, config.editing, config.prior, config.compared)
    for key, reason in unread:
        raise ConfigurationError(f"{origin(key)}: `{key}`: {reason}; leave it out")


def check_training(config: RunConfig, origin: Callable[[str], str]) -> None:
    """Refuse settings that a run which trains would not use.

    Raises:
        ConfigurationError: Naming the first.
    """
    given = {
        "run.compare": config.run.compare,
        "run.rounds": config.run.rounds > 1,
        "gate.requests": config.gate.requests > 0,
        "privacy.secure-sum": bool(config.privacy.secure_sum),
        "parties.deduplicate": config.parties.deduplicate,
        "parties.conflicts": config.parties.conflicts != "ignore",
        "parties.skip-known": config.parties.skip_known is not None,
        "output.statistics": config.output.statistics,
        "capability.text": config.capability.text is not None,
        "capability.tasks": bool(config.capability.tasks),
        "editor.name": config.editor.name not in {MEMIT, "malmen"},
        "merge.name": config.merge.name != "collabedit",
    }
    for key, on in given.items():
        if config.training.steps > 0 and on:
            raise ConfigurationError(
                f"{origin(key)}: a training (`training.steps`) does not use `{key}`; "
                "leave it out, or set `training.steps` to 0"
            )
