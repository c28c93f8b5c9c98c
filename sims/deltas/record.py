"""The record of an edit in an exported folder, and the model card made from it."""

import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field, JsonValue, ValidationError

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.atomic import write_whole
from editing.files.text import read_text

# A folder of its own: some servers load every *.safetensors next to a model.
FOLDER = Path("edit")
RECORD = FOLDER / "record.json"
REVERSAL = FOLDER / "revert.safetensors"

PUBLIC_FACTS = (
    "merge",
    "schedule",
    "rounds",
    "requests",
    "parties",
    "layers",
    "model",
)
"""Facts of a run that are published; other metadata stays in the delta's file."""

NAME = re.compile(r"[\w.:/-]{1,96}")


class WeightChange(Settings):
    """The change of one weight.

    Attributes:
        name: The parameter.
        shape: Of the update, ``(d_out, d_in)``.
        norm: ``‖Δ‖``, Frobenius.
        relative: ``‖Δ‖ / ‖W‖``.
        missed: Entries that subtracting the update would not restore bit for bit.
        largest_gap: The largest difference there.
        rank: Of the adapter; None in a merged model.
        full_rank: Number of the update's singular values above rounding.
        energy: Share of ``‖Δ‖²`` in the adapter.
    """

    name: str
    shape: tuple[int, int]
    norm: float
    relative: float
    missed: int = 0
    largest_gap: float = 0.0
    rank: int | None = None
    full_rank: int | None = None
    energy: float | None = None

    @property
    def entries(self) -> int:
        """Return how many numbers the weight has."""
        return self.shape[0] * self.shape[1]


class EditRecord(Settings):
    """Origin of an edited model or an adapter, without any request.

    Attributes:
        base_name: The base model's name.
        base: Fingerprint of the base, as it was loaded to be edited.
        base_as_written: The same in the written precision.
        edited: Fingerprint of the edited model; None for an adapter.
        delta: Fingerprint of the delta.
        forced: Whether the delta was made for another base.
        run_dtype: Precision of the sum ``W + Δ``.
        dtype: Precision of the written weights.
        facts: Facts of the run, from the delta's file.
        changes: The change of each weight.
        model_class: The class of transformers that the weights are named for.
        tensors: Number of tensors of the base's files, all of which are written, if the
            edited text model is a part of them; else None.
        earlier: Fingerprint of the delta that the base held already; None if none.
        earlier_dtype: The precision that the earlier edit was written in.
        carried: Whether the folder holds what undoes that earlier edit too.
        reversal_bytes: Size of the file that undoes the edit; None without one.
    """

    base_name: str
    base: str
    base_as_written: str
    edited: str | None = None
    delta: str
    forced: bool
    run_dtype: str
    dtype: str
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    changes: tuple[WeightChange, ...] = Field(min_length=1)
    model_class: str | None = None
    tensors: int | None = None
    earlier: str | None = None
    earlier_dtype: str | None = None
    carried: bool = False
    reversal_bytes: int | None = None

    @property
    def missed(self) -> int:
        """Return the entries of all weights that subtraction would not restore."""
        return sum(change.missed for change in self.changes)

    @property
    def largest_gap(self) -> float:
        """Return the largest difference that subtraction would leave."""
        return max(change.largest_gap for change in self.changes)

    @property
    def entries(self) -> int:
        """Return how many numbers the edited weights have."""
        return sum(change.entries for change in self.changes)


def public_facts(metadata: Mapping[str, object]) -> dict[str, JsonValue]:
    """Select the public facts of a delta's metadata: numbers and names alone."""
    facts: dict[str, JsonValue] = {}
    for name in PUBLIC_FACTS:
        value = metadata.get(name)
        if isinstance(value, int) or (isinstance(value, str) and NAME.fullmatch(value)):
            facts[name] = value
        elif isinstance(value, list) and all(isinstance(each, int) for each in value):
            facts[name] = list(value)
    return facts


def write_record(record: EditRecord, folder: Path, card: str, **words: object) -> None:
    """Write the record, and a model card made from it.

    Args:
        record: The record.
        folder: The model's or adapter's.
        card: The template's name.
        words: Further values of the template.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    write_whole(folder / RECORD, record.model_dump_json(indent=2) + "\n")
    write_whole(folder / "README.md", render_card(card, record=record, **words))


def render_card(card: str, **words: object) -> str:
    """Fill in a template; a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "cards"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(card).render(words)


def read_record(folder: Path) -> EditRecord | None:
    """Read what `write_record` wrote; None if there is no record.

    Raises:
        InputError: If the file exists and is no record.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return EditRecord.model_validate_json(read_text(path))
    except (OSError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: not the record of an edit ({reason}); move it away to continue "
            "without it"
        ) from None
