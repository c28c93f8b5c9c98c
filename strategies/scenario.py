"""The settings that server and clients share, and their flat form.

Flower carries a run's settings as one flat table of kebab-case keys whose values are
strings, numbers or booleans. `flatten` writes settings in that form and `nest` undoes
it: ``parties.requests-per-round = "[3, 2]"`` is the field ``requests_per_round`` of the
table ``parties``. Lists and mappings travel as JSON, and an empty string is a field
left at its default.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.text import explain_text_error, parse_json
from editing.sources.embedded import EMBEDDED, HUB, SELF

FlatValue: TypeAlias = str | int | float | bool
FlatConfig: TypeAlias = Mapping[str, FlatValue]

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0)]

COMPUTE = "compute"
"""The word for estimating the covariance at the start of the run."""

FEDERATED = "federated"
"""The word for pooling what the parties estimate, each on its own texts."""

JSON_OPENINGS = ("[", "{", '"')

MOST_BITS = 63
"""Of a whole number in Flower's messages, its sign aside."""


class ModelConfig(Settings):
    """Which model every node loads.

    Attributes:
        path: A model directory, a hub id, ``embedded`` or ``larger``.
        dtype: The precision of the weights and of forward passes.
        device: The device of the model, as torch names it; ``auto`` spreads its blocks
            over the devices that there are.
        threads: How many CPU threads one process may use.
    """

    path: str = EMBEDDED
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    threads: PositiveInt = 1


class PriorConfig(Settings):
    """What holds the rest of the model in place.

    Attributes:
        covariance: A covariance file, a folder of MEMIT's statistics, a list of its
            files, one for each edited layer, ``compute`` to estimate it on `text`, or
            ``federated`` to pool what the parties estimate on their own texts.
        text: A file of plain text, one document a line, or ``embedded``; under
            ``federated`` simulated parties share it out among them. To ``compute``, a
            data set may also be named as ``hub:NAME``, or ``self`` has the model write.
        tokens: Tokens of the text after which to stop; unset, all of a file, and
            132 000 of a data set or of the model's own text.
        weight: The prior weight; MEMIT's ``mom2_update_weight`` if unset.
        memory_weight: The weight ``γ`` of earlier rounds' grams; 0 forgets them, and
            ``lambda`` is the prior weight.
        memory_keys: Which keys the grams are made of: those that the round was
            ``solved`` with, or those of the ``edited`` model, read again after the
            round (AlphaEdit, arXiv 2410.02355).
    """

    covariance: str | tuple[str, ...] = COMPUTE
    text: str = EMBEDDED
    tokens: PositiveInt | None = None
    weight: Positive | None = None
    memory_weight: NonNegative | Literal["lambda"] = 1.0
    memory_keys: Literal["solved", "edited"] = "solved"

    @field_validator("covariance", mode="before")
    @classmethod
    def check_covariance(cls, given: object) -> object:
        """Validate the names of one file or several; a list becomes a tuple.

        Raises:
            ValueError: If it is neither a text nor a list of texts.
        """
        listed = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not all(isinstance(each, str) for each in listed):
            got = json.dumps(given, default=str)
            raise ValueError(
                f"wanted a text or a list of texts, got {got}; name one file or "
                "folder, or one .npz file for each edited layer"
            )
        return given if isinstance(given, str) else listed

    @model_validator(mode="after")
    def check_text(self) -> "PriorConfig":
        """Validate that a text of the parties is finite, and is used whole.

        Raises:
            ValueError: If it is the model's or the hub's, which no party owns, or
                the number of tokens is limited.
        """
        shareable = self.text != SELF and not self.text.startswith(HUB)
        if self.covariance == FEDERATED and not shareable:
            raise ValueError(
                '`covariance = "federated"` counts on texts of the parties\' own, and '
                f"`text` is {self.text!r}; name a file, or let the server `compute`"
            )
        if self.covariance == FEDERATED and self.tokens is not None:
            raise ValueError(
                '`covariance = "federated"` counts all tokens of the parties\' texts; '
                "leave `tokens` out, or let the server `compute`"
            )
        return self


class PrivacyConfig(Settings):
    """What the server learns of each party.

    Attributes:
        secure_sum: Whether statistics, counts and metrics are summed under masks, so
            that the server learns sums alone. It needs three parties or more, a key
            that they share, and a merge that needs the sum. If unset, runs with
            ``--connection`` and ``deploy-local`` do so if their merges can, and
            simulations do not.
    """

    secure_sum: bool | None = None


class OutputConfig(Settings):
    """Where the results go.

    Attributes:
        directory: The folder to make; a numbered one under ``results`` if unset.
        checkpoint: A folder that holds the run's state after the last completed round;
            a run that finds one there resumes from it. It is for one run at a time,
            and emptied once the results are complete, unless it is inside `watch`.
        watch: A folder, of this run alone, in which ``events.jsonl`` records what
            happens during the run. If unset, that is `directory` with
            ``.unfinished`` appended to its name, and the file is moved to the results
            in the end.
        tensorboard: A folder for TensorBoard's files of metrics.
        mlflow: A folder for MLflow's file of metrics; they go to the server that
            ``MLFLOW_TRACKING_URI`` names in the environment, if it names one.
        wandb: A folder for the metrics of Weights & Biases, which is offline unless
            ``WANDB_MODE`` says otherwise in the environment.
        statistics: Whether each party's statistics are kept among the results, for the
            server's operator alone to read: `remove` and `audit` need them. With
            secure sums it is the sum that is kept, and each simulated party keeps its
            own.
        command: The command that starts the run, for the head of its report;
            `python -m sims` gives its own.
    """

    directory: str | None = None
    checkpoint: str | None = None
    watch: str | None = None
    tensorboard: str | None = None
    mlflow: str | None = None
    wandb: str | None = None
    statistics: bool = False
    command: str | None = None


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
        return parse_json(value)
    except ValueError as error:
        raise InputError(
            f"`{key}`: wanted JSON after the opening `{value[0]}`, got {value!r:.80} "
            f"({explain_text_error(error)}); write a list as `[1, 2]`, and a text that "
            "begins so in quotation marks"
        ) from None


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


def whole_numbers(value: object, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield all whole numbers in nested tables and lists, each with its dotted key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            spelled = str(name).replace("_", "-")
            yield from whole_numbers(inner, f"{key}.{spelled}" if key else spelled)
    elif isinstance(value, list):
        for inner in value:
            yield from whole_numbers(inner, key)
    elif isinstance(value, int):
        yield key, value
