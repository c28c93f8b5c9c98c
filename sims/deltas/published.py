"""The weights of a base as published, which may be more than the model that is edited.

A checkpoint of a vision-language model holds a vision tower, and others hold heads that
predict several tokens. Of these the library loads the text model alone, under names of
its own. What is written keeps the class, the names and all tensors of the checkpoint.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from editing.base.errors import InputError
from editing.files.atomic import write_whole
from editing.files.text import read_json_object
from editing.models.published_class import build_published, published_class
from editing.sources.embedded import resolve_model

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
CONFIG = "config.json"
GENERATION = "generation_config.json"

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Kinds of numbers, as safetensors names them, that take the written precision."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The safetensors files of a model.

    Attributes:
        folder: Their folder, with the configuration.
        files: The file of each tensor.
        shapes: The shape of each tensor.
        kinds: What numbers each tensor holds, as safetensors names them.
    """

    folder: Path
    files: Mapping[str, Path]
    shapes: Shapes
    kinds: Mapping[str, str]

    def read(self, name: str) -> Tensor:
        """Read one tensor."""
        with safe_open(self.files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that holds more than the model loaded from it.

    Attributes:
        checkpoint: Its files.
        architecture: The class that its configuration names.
        names: The checkpoint's name of each edited weight, by the loaded model's.
        dtype: The precision in which the model was loaded.
    """

    checkpoint: Checkpoint
    architecture: str
    names: Mapping[str, str]
    dtype: torch.dtype

    def write(self, model: nn.Module, folder: Path, max_shard_size: str) -> None:
        """Write all tensors of the checkpoint, the edited ones as the model has them.

        One file of weights is in memory at a time.

        Args:
            model: Holds the edited weights, in the precision to write.
            folder: Where to.
            max_shard_size: Largest file of weights, such as ``5GB``.
        """
        edited = {
            theirs: model.get_parameter(ours).detach().contiguous()
            for ours, theirs in self.names.items()
        }
        written = next(iter(edited.values())).dtype
        plan = split_state_dict_into_shards_factory(
            {name: self._size(name, written) for name in self.checkpoint.shapes},
            get_storage_size=int,
            filename_pattern="model{suffix}.safetensors",
            get_storage_id=_no_storage,
            max_shard_size=max_shard_size,
        )
        for file, names in plan.filename_to_tensors.items():
            part = {
                name: edited[name] if name in edited else self._convert(name, written)
                for name in names
            }
            save_file(part, folder / file, {"format": "pt"})
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            write_whole(folder / INDEX, json.dumps(index, indent=2) + "\n")
        self._write_configuration(folder, written)

    def _size(self, name: str, written: torch.dtype) -> int:
        kind = self.checkpoint.kinds[name]
        bits = "".join(each for each in kind.split("_")[0] if each.isdecimal())
        size = int(bits or 8) // 8  # BOOL takes a byte
        if kind in FLOATS:
            size = written.itemsize
        return size * torch.Size(self.checkpoint.shapes[name]).numel()

    def _convert(self, name: str, written: torch.dtype) -> Tensor:
        tensor = self.checkpoint.read(name)
        if self.checkpoint.kinds[name] not in FLOATS:
            return tensor
        return tensor.to(self.dtype).to(written)

    def _write_configuration(self, folder: Path, written: torch.dtype) -> None:
        config = read_json_object(self.checkpoint.folder / CONFIG)
        name = str(written).removeprefix("torch.")
        if not {"dtype", "torch_dtype"} & config.keys():
            config["dtype"] = name
        _set_dtype(config, name)
        write_whole(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        if (self.checkpoint.folder / GENERATION).is_file():
            shutil.copyfile(self.checkpoint.folder / GENERATION, folder / GENERATION)


def find_published(
    model: PreTrainedModel, model_path: str, edited: Iterable[str]
) -> Published | None:
    """Find the checkpoint of a model where it holds more than was loaded of it.

    Args:
        model: The loaded model, not edited yet.
        model_path: Where it was loaded from: a folder, a hub name, or ``embedded``.
        edited: The weights that are to be edited.

    Returns:
        None if the library writes the model as it was published.

    Raises:
        InputError: If the checkpoint is of another class than the loaded model, and
            cannot be written with an edit in it.
    """
    architecture = published_class(resolve_model(model_path)) or type(model).__name__
    same = architecture == type(model).__name__
    checkpoint = open_checkpoint(model_path)
    if checkpoint is None:
        if same:
            return None
        raise InputError(
            f"--model {model_path}: its class {architecture} holds more than the text "
            f"model ({type(model).__name__}), and only safetensors files can be "
            "written whole; save it again with safe_serialization"
        )
    if same and len(checkpoint.shapes) <= len(model.state_dict()):
        return None
    names = _find_by_value(model, checkpoint, edited)
    missing = [name for name, found in names.items() if found is None]
    if missing and same:
        return None
    if missing:
        raise InputError(
            f"--model {model_path}: `{missing[0]}` of the text model is none of the "
            f"{len(checkpoint.shapes)} tensors in its files, because the library "
            f"converts them as it loads; the {architecture} cannot be written whole"
        )
    found = {ours: theirs for ours, theirs in names.items() if theirs is not None}
    return Published(checkpoint, architecture, found, model.dtype)


def published_names(
    model: PreTrainedModel, model_path: str, edited: Iterable[str]
) -> tuple[str, dict[str, str]]:
    """Find how the class that a configuration names calls weights of the text model.

    Args:
        model: The loaded model.
        model_path: Where it was loaded from.
        edited: The weights.

    Returns:
        The class, and its name of each weight.

    Raises:
        InputError: If the class has no such weight, or several.
    """
    ours, loaded = list(edited), type(model).__name__
    place = resolve_model(model_path)
    published = build_published(place, loaded)
    if published is None:
        return loaded, {name: name for name in ours}
    architecture = type(published).__name__
    shapes = _shapes_of(model)
    candidates = {
        name: match_name(name, shapes, _shapes_of(published)) for name in ours
    }
    for name, found in candidates.items():
        if len(found) != 1:
            raise InputError(
                f"--model {model_path}: {len(found)} weights of {architecture} may be "
                f"`{name}` of the text model, and an adapter must name one; "
                "use --as model"
            )
    return architecture, {name: found[0] for name, found in candidates.items()}


def open_checkpoint(model_path: str) -> Checkpoint | None:
    """Read the headers of a model's safetensors files; None if it has none.

    Raises:
        InputError: If a file cannot be read.
    """
    place = Path(resolve_model(model_path))
    if not place.is_dir():
        config = cached_file(str(place), CONFIG, local_files_only=True)
        place = Path(str(config)).parent
    if (place / INDEX).is_file():
        listed = read_json_object(place / INDEX).get("weight_map", {})
        names = {str(each) for each in listed.values()}  # type: ignore[attr-defined]
        paths = [place / name for name in sorted(names)]
    elif (place / WEIGHTS).is_file():
        paths = [place / WEIGHTS]
    else:
        return None
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, str] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    files[name], kinds[name] = path, part.get_dtype()
                    shapes[name] = tuple(part.get_shape())
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
    return Checkpoint(place, files, shapes, kinds)


def match_name(name: str, ours: Shapes, theirs: Shapes) -> list[str]:
    """List what may be one weight of a model under the names of another model.

    Two models of the same weights differ in how names begin. Of all the beginnings that
    give a weight of the right shape, those are kept that give most weights.

    Args:
        name: The weight.
        ours: The shapes of the model that has it.
        theirs: The shapes of the other.

    Returns:
        Names of the other model; one if the answer is clear.
    """
    scores: dict[str, int] = {}
    for candidate, shape in theirs.items():
        common = _common_end(name, candidate)
        if shape != ours[name] or common == 0:
            continue
        start, other = name[:-common], candidate[:-common]
        scores[candidate] = sum(
            theirs.get(other + each[len(start) :]) == shape
            for each, shape in ours.items()
            if each.startswith(start)
        )
    best = max(scores.values(), default=0)
    return [candidate for candidate, score in scores.items() if score == best]


def _common_end(first: str, second: str) -> int:
    """Return how many characters of whole steps two dotted names end with alike."""
    ours, theirs = first.split("."), second.split(".")
    count = 0
    for left, right in zip(reversed(ours), reversed(theirs), strict=False):
        if left != right:
            break
        count += 1
    return len(".".join(ours[len(ours) - count :])) if count else 0


def _find_by_value(
    model: PreTrainedModel, checkpoint: Checkpoint, edited: Iterable[str]
) -> dict[str, str | None]:
    """Find the tensor of a checkpoint that each weight was loaded from."""
    shapes = _shapes_of(model)
    found: dict[str, str | None] = {}
    for name in edited:
        weight = model.get_parameter(name)
        candidates = match_name(name, shapes, checkpoint.shapes)
        found[name] = next(
            (
                candidate
                for candidate in candidates
                if torch.equal(checkpoint.read(candidate).to(weight.dtype), weight)
            ),
            None,
        )
    return found


def _shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in model.state_dict().items()}


def _set_dtype(config: dict[str, object], name: str) -> None:
    """Write a precision wherever a configuration, or one within it, names one."""
    for key, value in config.items():
        if isinstance(value, dict):
            _set_dtype(value, name)
        elif key in {"dtype", "torch_dtype"} and value is not None:
            config[key] = name


def _no_storage(_: object) -> None:
    """No tensors of a checkpoint share memory."""
