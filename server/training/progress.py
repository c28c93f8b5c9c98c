"""The state of a training after a step, kept so that a stopped run continues."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from editing.base.errors import InputError
from editing.files.atomic import write_whole
from editing.files.tensors import save_sorted
from editing.malmen.trainer import StepRecord, Trainer
from server.checkpoints import differences

STATE = "training.safetensors"
"""The file of the state, in the checkpoint's folder."""

_RECORDS = TypeAdapter(tuple[StepRecord, ...])


@dataclass(frozen=True, slots=True)
class Progress:
    """Keeps a training's state; without a folder, nothing.

    Attributes:
        folder: Of the run's checkpoint.
        made_of: All that the training depends on.
    """

    folder: Path | None
    made_of: Mapping[str, JsonValue]

    def keep(self, trainer: Trainer, records: Sequence[StepRecord]) -> None:
        """Write the state after a step, whole or not at all."""
        if self.folder is None:
            return
        tensors = {f"net.{k}": v for k, v in trainer.net.tensors.items()}
        optimizer = trainer.optimizer
        for name, means in (("first", optimizer.first), ("second", optimizer.second)):
            tensors |= {f"{name}.{k}": v for k, v in means.items()}
        texts = {
            "made_of": json.dumps(self.made_of),
            "records": json.dumps([asdict(each) for each in records]),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        written = {k: v.contiguous() for k, v in tensors.items()}
        write_whole(self.folder / STATE, save_sorted(written, texts))

    def find(self) -> "Found | None":
        """Read the state that was kept; None if there is none.

        Raises:
            InputError: If it cannot be read, or is of another training.
        """
        if self.folder is None or not (self.folder / STATE).is_file():
            return None
        path = self.folder / STATE
        try:
            with safe_open(path, framework="pt") as file:
                texts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            made_of = json.loads(texts["made_of"])
            records = _RECORDS.validate_json(texts["records"])
        except (OSError, SafetensorError, KeyError, ValueError, ValidationError) as err:
            raise InputError(
                f"{path}: is no state of a training ({type(err).__name__}); remove it "
                "to begin again"
            ) from None
        if different := differences(made_of, self.made_of):
            raise InputError(
                f"{path}: was kept by a training with another {', '.join(different)}; "
                "give that run's settings, or name another folder"
            )
        net, first, second = (_part(tensors, n) for n in ("net", "first", "second"))
        return Found(net, first, second, records)

    def remove(self) -> None:
        """Remove the state, once the results are complete."""
        if self.folder is not None:
            (self.folder / STATE).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Found:
    """A state that was kept.

    Attributes:
        tensors: Those of the hypernetwork.
        first: The optimizer's running means.
        second: Its running means of squares.
        records: Of the steps so far.
    """

    tensors: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    records: tuple[StepRecord, ...]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
