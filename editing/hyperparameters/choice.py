"""Choose a run's hyperparameters: a file, a preset, the model's own, or settings."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from editing.base.errors import InputError
from editing.hyperparameters.config import EditingConfig, Hyperparameters
from editing.hyperparameters.files import (
    BOOKKEEPING,
    parse_hyperparameters,
    read_hyperparameter_file,
)
from editing.hyperparameters.presets import (
    is_preset,
    match_preset,
    preset_names,
    read_preset,
    suggest_preset,
)
from editing.models.families import ModelFilesError
from editing.models.loading import EditableModel, ModelError, load_editable_model
from editing.models.module_names import ModuleNames
from editing.sources.embedded import file_in_model

logger = logging.getLogger(__name__)

OWN = "hyperparameters.json"
"""The file that a model's folder may hold."""

SETTINGS = "[editing]"


@dataclass(frozen=True, slots=True)
class HyperparameterChoice:
    """Hyperparameters and where they come from.

    Attributes:
        parameters: Validated, but not yet checked against a model.
        origin: A file, a preset or the settings, in words.
        bookkeeping: Other values of the file, which are recorded and not used.
        given: Fields that the settings override.
    """

    parameters: Hyperparameters
    origin: str
    bookkeeping: Mapping[str, object] = field(default_factory=dict)
    given: frozenset[str] = frozenset()

    def load(self, path: str, dtype: str, device: str) -> EditableModel:
        """Load the model that they are for, with its modules where they name them.

        A `ModelError` says so if it cannot be loaded, or has no module of a name.
        """
        return _load(path, dtype, device, self.parameters.naming, self.origin)

    def fit(self, model: EditableModel) -> Hyperparameters:
        """Check them against a model's size; fill in its last block as `v_loss_layer`.

        Raises:
            InputError: If they edit or read a block that the model does not have.
        """
        last, loss = model.block_count - 1, self.parameters.v_loss_layer
        beyond = loss is not None and loss > last
        try:
            model.check_layers(self.parameters.layers)
        except InputError as error:
            too = f" and `editing.v_loss_layer={last}`" if beyond else ""
            raise InputError(
                f"{error} They are from {self._origin_of('layers')}. "
                f"Set `editing.layers`{too}."
            ) from None
        if loss is None:
            return self.parameters.model_copy(update={"v_loss_layer": last})
        if beyond:
            other = self._origin_of("v_loss_layer") != SETTINGS
            why = ", which is for a model of another size" if other else ""
            raise InputError(
                f"`v_loss_layer`: {loss} lies outside the model, which has "
                f"{model.block_count} blocks, 0 to {last}; it is from "
                f"{self._origin_of('v_loss_layer')}{why}. "
                f"Set `editing.v_loss_layer={last}` to take the last block."
            )
        if loss < last:
            logger.warning(
                "v_loss_layer is block %d and not the last, %d (%s)",
                loss,
                last,
                self._origin_of("v_loss_layer"),
            )
        return self.parameters

    def _origin_of(self, name: str) -> str:
        """Return the source of one field."""
        return SETTINGS if name in self.given else self.origin

    def describe(self) -> dict[str, object]:
        """Return their source, for a report."""
        return {"origin": self.origin, "bookkeeping": dict(self.bookkeeping)}


def choose_hyperparameters(
    config: EditingConfig, model_path: str
) -> HyperparameterChoice:
    """Choose a file or preset, and apply the overrides of the settings.

    In this order: what `editing.hyperparameters` names, the file in the model's folder,
    the preset of the model's name.

    Args:
        config: The settings.
        model_path: The model's folder or hub name.

    Raises:
        InputError: If no source names the layers to edit, or a value is refused.
    """
    found = _find(config.hyperparameters, model_path)
    given = config.model_dump(exclude_none=True, include=set(OVERRIDING))
    if found is None and config.layers is None:
        here = Path(model_path).is_dir()
        doubt = "" if here else " (no folder; is `model.path` a hub name?)"
        raise InputError(
            f"`layers`: the model {model_path}{doubt} brings no {OWN} and has the name "
            f"of no preset ({', '.join(preset_names())}); name a file or a preset with "
            "`editing.hyperparameters`, or set `editing.layers`."
        )
    values, origin, bookkeeping = found or ({}, SETTINGS, {})
    # A fault of the settings is theirs, whatever they are put over.
    parse_hyperparameters({"layers": (0,), **given})
    parameters = _narrow(parse_hyperparameters({**values, **given}, origin), config)
    if config.top_1_steps is not None and parameters.stop != "top-1":
        raise InputError(
            "`editing.top-1-steps` is how long the stop `top-1` waits, and the stop is "
            f'{parameters.stop!r}. Set `editing.stop` to "top-1", or leave it out.'
        )
    if unused := _list_unused(bookkeeping):
        logger.info("recorded and not used: %s", unused)
    return HyperparameterChoice(parameters, origin, bookkeeping, frozenset(given))


def _narrow(parameters: Hyperparameters, config: EditingConfig) -> Hyperparameters:
    """Leave the layers out that the schedule does not edit."""
    if config.schedule != "boundary":
        return parameters
    if parameters.norm_anchor is not None and len(parameters.boundary) > 1:
        raise InputError(
            "`editing.norm-anchor` is the length of one layer's values, and the "
            "schedule `boundary` has targets at two layers. Leave one of them out."
        )
    return parameters.model_copy(update={"layers": parameters.boundary})


def load_named(
    path: str, dtype: str, device: str, hyperparameters: str | None = None
) -> EditableModel:
    """Load a model that is not to be edited, with its modules where a file names them.

    A `ModelError` says so if it cannot be loaded, or has no module of a name.

    Args:
        path: The model's folder or hub name.
        dtype: As for `load_editable_model`.
        device: As for `load_editable_model`.
        hyperparameters: A file or a preset; None takes the model's own if any.
    """
    found = _find(hyperparameters, path)
    if found is None:
        return load_editable_model(path, dtype, device)
    values, origin, _ = found
    naming = parse_hyperparameters(values, origin).naming
    return _load(path, dtype, device, naming, origin)


def _load(
    path: str, dtype: str, device: str, naming: ModuleNames | None, origin: str
) -> EditableModel:
    try:
        return load_editable_model(path, dtype, device, naming)
    except ModelFilesError:
        raise
    except ModelError as error:
        if naming is None:
            raise
        raise ModelError(f"{error} Modules are named by {origin}.") from None


Found = tuple[Mapping[str, object], str, Mapping[str, object]]
"""Values, where they come from, and what else is said there."""


def _find(named: str | None, model_path: str) -> Found | None:
    if named is not None and is_preset(named):
        return _preset(named, "")
    if named is not None:
        return _file(Path(named))
    if own := file_in_model(model_path, OWN):
        return _file(own)
    name = match_preset(model_path)
    return _preset(name, ", taken for the model's name") if name else None


def _file(path: Path) -> Found:
    if not path.suffix and not path.exists():
        raise InputError(
            f"`editing.hyperparameters`: {path} is no file, and {path.name!r} is no "
            f"preset; {suggest_preset(path.name)}"
        )
    found = read_hyperparameter_file(path)
    return found.values, str(path), found.bookkeeping


def _preset(name: str, why: str) -> Found:
    preset = read_preset(name)
    facts: dict[str, object] = {"model": preset.model, "source": preset.source}
    if preset.sources:
        facts["sources"] = dict(preset.sources)
    if preset.note:
        facts["note"] = preset.note
    return preset.values, f"preset {preset.name}{why}", facts


def _list_unused(bookkeeping: Mapping[str, object]) -> str:
    said = []
    for key, value in bookkeeping.items():
        setting = BOOKKEEPING.get(key)
        instead = f" (see {setting})" if setting else ""
        if setting is not None:
            said.append(f"{key} = {value!r}{instead}")
    return ", ".join(said)


OVERRIDING = Hyperparameters.model_fields.keys() & EditingConfig.model_fields.keys()
"""Fields that the table ``[editing]`` may put over a file's."""
