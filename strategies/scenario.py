"""The settings that server and clients share, and their flat form.

Flower carries a run's settings as one flat table of kebab-case keys whose values are
strings, numbers or booleans. `flatten` writes settings in that form and `nest` undoes
it: ``parties.requests-per-round = "[3, 2]"`` is the field ``requests_per_round`` of the
table ``parties``. Lists and mappings travel as JSON, and an empty string is a field
left at its default.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import (
    BaseModel,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from editing.embedded import EMBEDDED
from editing.errors import InputError
from editing.settings import Settings

FlatValue: TypeAlias = str | int | float | bool
FlatConfig: TypeAlias = Mapping[str, FlatValue]

JSON_OPENINGS = ("[", "{", '"')


class ModelConfig(Settings):
    """Which model every node loads.

    Attributes:
        path: A model directory, a hub id, or ``embedded``.
        dtype: The precision of the weights and of forward passes.
        device: Where the model lies, as torch names it.
        threads: How many processor threads one process may use.
    """

    path: str = EMBEDDED
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    threads: PositiveInt = 1


class RequestsConfig(Settings):
    """Which edit requests there are to share out.

    Attributes:
        source: A file of requests, or ``embedded``.
        limit: How many requests of the source to read; all of them if unset.
        seed: Draws which requests are used, and their order under ``shuffled``.
    """

    source: str = EMBEDDED
    limit: PositiveInt | None = None
    seed: NonNegativeInt = 0


class PartiesConfig(Settings):
    """How the requests are shared out among parties.

    Attributes:
        count: The number of parties.
        requests_per_round: Requests of each party in a round: one number for all
            parties, or a list with one for each.
        split: Whether parties take requests in the order of the source.
        allow_empty: Whether a party may have no request.
    """

    count: PositiveInt = 10
    requests_per_round: PositiveInt | tuple[NonNegativeInt, ...] = 10
    split: Literal["contiguous", "shuffled"] = "contiguous"
    allow_empty: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Requests of each party in a round."""
        if isinstance(self.requests_per_round, int):
            return (self.requests_per_round,) * self.count
        return self.requests_per_round

    @model_validator(mode="after")
    def check_sizes(self) -> "PartiesConfig":
        """Hold a list of sizes to the number of parties.

        Raises:
            ValueError: If the list is of another length or leaves a party empty.
        """
        if len(self.sizes) != self.count:
            raise ValueError(
                f"`requests-per-round` lists {len(self.sizes)} sizes for {self.count} "
                "parties; list one for each, or give one number for all"
            )
        if 0 in self.sizes and not self.allow_empty:
            raise ValueError(
                f"party {self.sizes.index(0)} of `requests-per-round` has no request; "
                "give it one, or set `allow-empty = true`"
            )
        return self


def flatten(settings: BaseModel) -> dict[str, FlatValue]:
    """Write settings as Flower's flat table; `nest` undoes it."""
    flat: dict[str, FlatValue] = {}
    for field in type(settings).model_fields:
        key, value = field.replace("_", "-"), getattr(settings, field)
        if isinstance(value, BaseModel):
            inner = flatten(value)
            flat |= {f"{key}.{name}": child for name, child in inner.items()}
        else:
            flat[key] = encode_value(value)
    return flat


def encode_value(value: object) -> FlatValue:
    """Write one value so that it is a string, a number or a boolean."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Path):
        return encode_value(str(value))
    if isinstance(value, str) and value and not value.startswith(JSON_OPENINGS):
        return value
    return json.dumps(value, ensure_ascii=False)


def decode_value(key: str, value: FlatValue) -> object:
    """Undo `encode_value`.

    Raises:
        InputError: If the value begins like JSON and is none.
    """
    if not isinstance(value, str) or not value.startswith(JSON_OPENINGS):
        return value
    try:
        decoded: object = json.loads(value)
    except json.JSONDecodeError as error:
        raise InputError(
            f"`{key}`: wanted JSON after the opening `{value[0]}`, got {value!r} "
            f"({error.msg} at character {error.pos}); write a list as `[1, 2]`, and a "
            "text that begins so in quotation marks"
        ) from None
    return decoded


def nest(flat: FlatConfig) -> dict[str, object]:
    """Rebuild nested tables, field names underscored, from Flower's flat table.

    Raises:
        InputError: If a key is both a value and a table, or a value is broken JSON.
    """
    nested: dict[str, object] = {}
    for key, value in flat.items():
        *tables, field = key.replace("-", "_").split(".")
        level = nested
        for table in tables:
            child = level.setdefault(table, {})
            if not isinstance(child, dict):
                raise InputError(f"`{key}`: `{table}` is a value and cannot hold keys")
            level = child
        if field in level:
            raise InputError(f"`{key}`: given twice, or both a value and a table")
        if value != "":
            level[field] = decode_value(key, value)
    return nested
