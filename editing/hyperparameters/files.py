"""Hyperparameter files of MEMIT, CollabEdit and EasyEdit, read as they are.

A file is JSON, YAML or TOML. Keys of the method become `Hyperparameters`; keys about
the machine are known by name, recorded and not used. Any other key is an error, because
a misspelt one would be a silent default, and so is a file of another method.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import yaml
from pydantic import ValidationError

from editing.base.errors import InputError
from editing.base.validation import (
    HYPERPARAMETERS,
    Fault,
    explain_all,
    find_faults,
    shorten,
    suggest,
)
from editing.files.text import (
    MAX_DEPTH,
    TOO_DEEP,
    explain_text_error,
    parse_json,
    parse_toml,
    read_text,
)
from editing.hyperparameters.config import Hyperparameters

METHOD = "MEMIT"

OTHER_METHODS = {
    "nullspace_threshold": "AlphaEdit",
    "L2": "AlphaEdit",
    "P_loc": "AlphaEdit",
    "emmet_lambda": "EMMET",
    "update_norm_lambda": "EMMET",
    "nll_loss_factor": "PMET",
    "rewrite_module_tmps": "PMET",
    "neuron_threshold": "NSE",
}
"""Keys that only the files of another method have, most of which do not name it."""

BOOKKEEPING = {
    "alg": "",
    "alg_name": "",
    "model_name": "model.path",
    "stats_dir": "prior.covariance",
    "device": "model.device",
    "model_parallel": "model.device",
    "fp16": "model.dtype",
    "bf16": "model.dtype",
    "batch_size": "editing.batch_size",
    "max_length": "",
    "context_template_length_params": "editing.context_templates",
}
"""Keys of EasyEdit and ROME that are recorded and not used, and what is set instead."""

PRESET_KEYS = ("model", "source", "sources", "note")
"""Keys of a preset next to its table ``[hyperparameters]``."""

FIELDS = tuple(Hyperparameters.model_fields)
NUMBERS = frozenset(
    name
    for name, field in Hyperparameters.model_fields.items()
    if {int, float} & ({field.annotation} | ({*get_args(field.annotation)} - {...}))
    and name != "layers"
)
PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class HyperparameterFile:
    """The contents of a file.

    Attributes:
        values: Its fields of `Hyperparameters`, not yet validated.
        bookkeeping: Its other values, which are recorded and not used.
    """

    values: Mapping[str, object]
    bookkeeping: Mapping[str, object]


def read_hyperparameters(path: Path) -> Hyperparameters:
    """Read a hyperparameter file; a bad field is an `InputError`."""
    return parse_hyperparameters(read_hyperparameter_file(path).values, path)


def read_hyperparameter_file(path: Path) -> HyperparameterFile:
    """Read a file in the format that its name ends with.

    Raises:
        InputError: If it is missing, unreadable, of another method or format, or has an
            unknown key.
    """
    reader = READERS.get(path.suffix.casefold())
    if reader is None:
        raise InputError(
            f"{path}: wanted a hyperparameter file that ends in "
            f"{', '.join(sorted(READERS))}."
        )
    table = reader(path)
    if not isinstance(table, dict):
        raise InputError(f"{path}: wanted a table of keys, got {_kind(table)}.")
    named = {str(key): value for key, value in table.items()}
    _refuse_other_methods(named, path)
    return split_fields(named, path)


def _refuse_other_methods(table: Mapping[str, object], path: Path) -> None:
    """Refuse the hyperparameters of a method that computes another update.

    Raises:
        InputError: Naming the method and its keys.
    """
    named = str(table.get("alg_name", table.get("alg", METHOD)))
    theirs = [key for key in table if key in OTHER_METHODS]
    if named.upper() != METHOD:
        raise InputError(
            f"{path}: `alg_name` is {named!r}; wanted the hyperparameters of {METHOD}. "
            f"Name a file for {METHOD}."
        )
    if theirs:
        keys = " and ".join(f"`{key}`" for key in theirs)
        raise InputError(
            f"{path}: {keys} set up {OTHER_METHODS[theirs[0]]}; wanted the "
            f"hyperparameters of {METHOD}. Name a file for {METHOD}, or remove "
            f"{keys} to edit by {METHOD} with the other values."
        )


def split_fields(table: Mapping[str, object], path: Path) -> HyperparameterFile:
    """Separate hyperparameters from bookkeeping.

    Raises:
        InputError: If a key is neither, naming the nearest that is known.
    """
    inner = table.get("hyperparameters")
    as_preset = isinstance(inner, dict)
    about = {key: value for key, value in table.items() if key in PRESET_KEYS}
    fields = dict(inner) if isinstance(inner, dict) else dict(table)
    facts = about if as_preset else {}
    unknown = [key for key in fields if key not in FIELDS and key not in BOOKKEEPING]
    if as_preset:
        unknown += [k for k in table if k not in {*PRESET_KEYS, "hyperparameters"}]
    if unknown:
        raise InputError(f"{path}: {describe_unknown(unknown)}.")
    kept = {key: value for key, value in fields.items() if key in BOOKKEEPING}
    values = {k: as_number(k, v) for k, v in fields.items() if k in FIELDS}
    # A report is JSON; YAML and TOML also have dates and numbers that are not finite.
    try:
        plain = json.loads(json.dumps(facts | kept, default=str, allow_nan=False))
    except ValueError:
        raise InputError(
            f"{path}: wanted finite numbers, got NaN or infinity."
        ) from None
    except (TypeError, RecursionError):
        raise InputError(
            f"{path}: wanted texts and numbers in lists and tables, got dates as keys "
            "or too many levels."
        ) from None
    return HyperparameterFile(values, plain)


def as_number(field: str, value: object) -> object:
    """Read a number that YAML reads as a text, such as EasyEdit's ``5e-1``.

    YAML 1.1 wants a point and a signed exponent in a number, so that ``5e-1``, ``1e3``
    and ``5e-5`` are texts to it.
    """
    written = isinstance(value, str) and field in NUMBERS
    if written and PLAIN_NUMBER.fullmatch(str(value).strip()):
        return float(str(value))
    return value


def parse_hyperparameters(
    values: Mapping[str, object], source: Path | str | None = None
) -> Hyperparameters:
    """Validate hyperparameters and name the first mistake.

    Args:
        values: By field.
        source: Their source, for the message; by default the settings.

    Raises:
        InputError: If a field is unknown, missing or of the wrong kind.
    """
    where = f"{source}: " if source else "[editing] "
    for field in sorted(NUMBERS & values.keys()):
        if isinstance(as_number(field, values[field]), bool | str):
            raise InputError(
                f"{where}`{field}`: wanted a number, got {shorten(values[field])}."
            )
    try:
        found = Hyperparameters.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(where + _explain(error, values)) from None
    if list(found.layers) != sorted(set(found.layers)) or found.layers[0] < 0:
        raise InputError(
            f"{where}`layers` must be ascending block numbers without repeats, got "
            f"{list(found.layers)}."
        )
    return found


def describe_unknown(keys: Sequence[str]) -> str:
    """Name unknown keys, each with the nearest known one."""
    known = {name: name for name in (*FIELDS, *BOOKKEEPING)}
    faults = [Fault(key, f"unknown key{suggest(key, known)}") for key in keys]
    return f"{explain_all(faults)}; wanted the keys of a MEMIT hyperparameter file"


def _explain(error: ValidationError, values: Mapping[str, object]) -> str:
    faults = find_faults(error, Hyperparameters, HYPERPARAMETERS)
    said = explain_all(faults)
    if faults[0].key != "layers" or "layers" in values:
        return f"{said}."
    return (
        f"{said}; name a file or a preset with `editing.hyperparameters`, or set "
        "`editing.layers`."
    )


def _read_json(path: Path) -> object:
    text = _read_text(path)
    try:
        return parse_json(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant
        )
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({explain_text_error(error)}).") from None


def _read_toml(path: Path) -> object:
    text = _read_text(path)
    try:
        return parse_toml(text)
    except ValueError as error:
        raise InputError(f"{path}: not TOML ({explain_text_error(error)}).") from None


def _read_yaml(path: Path) -> object:
    text = _read_text(path)
    try:
        _refuse_depth(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if isinstance(tree, yaml.MappingNode):
            _refuse_complex_keys(tree)
            _without_repeats([(key.value, None) for key, _ in tree.value])
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML ({error.problem}).") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML ({explain_text_error(error)}).") from None


def _refuse_depth(text: str) -> None:
    """Refuse what would take long to build: deep nests, and copies of copies.

    Raises:
        ValueError: If there is one.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"wanted values in full, got the alias *{event.anchor}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(TOO_DEEP)


def _refuse_complex_keys(tree: yaml.MappingNode) -> None:
    """Refuse keys that are lists or tables.

    Raises:
        ConstructorError: At the key.
    """
    for key, _ in tree.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                problem="wanted a text for a key", problem_mark=key.start_mark
            )


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8 ({error.reason}).") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a finite number")


def _without_repeats(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"`{key}` is given twice")
        found[key] = value
    return found


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


READERS: Mapping[str, Callable[[Path], object]] = {
    ".json": _read_json,
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
"""How a file is read, by the end of its name."""
