"""Find the statistics of ROME, MEMIT and EasyEdit by the names of folders and files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from editing.covariance.covariance import CovarianceError
from editing.models.loading import EditableModel

# Three programs write the batch limit into the name, and by a slip of theirs as the
# text `{batch_tokens}` instead of its value.
_FILE = re.compile(
    r"(?P<module>.+)_(?P<precision>float(?:16|32|64))"
    r"_(?:[a-z_]+-)*mom2(?:-[a-z_]+)*"
    r"(?P<cut>_t(?:\d+|\{batch_tokens\}))?(?:_(?P<samples>\d+))?\.npz"
)
_DATASET = "_stats"
_PRECISIONS = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class StatisticsName:
    """The properties of a published file that its path encodes.

    Attributes:
        model: Name of its model's folder; empty outside the published layout.
        dataset: Name of its data set's folder; empty outside the published layout.
        module: The module whose inputs were averaged.
        precision: Of the sums.
        cut: Whether texts were cut to less than the model's context.
        samples: Texts that were sampled; None for all.
    """

    model: str
    dataset: str
    module: str
    precision: str
    cut: bool
    samples: int | None

    @property
    def preference(self) -> tuple[bool, float, int]:
        """Larger is better: whole texts, more of them, then more precise sums."""
        samples = float("inf") if self.samples is None else float(self.samples)
        return not self.cut, samples, _PRECISIONS.index(self.precision)


def parse_name(path: Path) -> StatisticsName | None:
    """Read a file's name and folders; None if it is not named as published ones are."""
    found = _FILE.fullmatch(path.name)
    if found is None:
        return None
    folder = path.absolute().parent
    laid_out = folder.name.endswith(_DATASET)
    return StatisticsName(
        model=folder.parent.name if laid_out else "",
        dataset=folder.name if laid_out else "",
        module=found["module"],
        precision=found["precision"],
        cut=found["cut"] is not None,
        samples=None if found["samples"] is None else int(found["samples"]),
    )


def check_names(
    paths: Sequence[Path], model: EditableModel, layers: Sequence[int]
) -> None:
    """Refuse files whose names or folders show another model or module.

    A file with another name, outside the published layout, is accepted.

    Raises:
        CovarianceError: Naming the file, and the model or module it is of.
    """
    for path, layer in zip(paths, layers, strict=True):
        said = parse_name(path)
        if said is None:
            continue
        wanted = model.architecture.down_projection.format(layer)
        if said.module != wanted:
            raise CovarianceError(
                f"{path} is of the module {said.module}, and layer {layer} is edited "
                f"at {wanted}. Name one file for each layer, in the order of `layers`, "
                "or the folder that holds them."
            )
        if said.model and not _is_of(said.model, model):
            raise _other_model(path, said.model, model)


def find_files(folder: Path, model: EditableModel, layers: Sequence[int]) -> list[Path]:
    """One file for each layer, from a folder in the published layout.

    Of several sets that have all layers, that over whole texts goes before one over
    cut ones, then more samples before fewer, then more precise sums. Several data sets
    are a choice that is not ours.

    Args:
        folder: The folder of all statistics, of one model, or of one data set.
        model: Whose statistics are wanted.
        layers: In the order of the files that are given back.

    Raises:
        CovarianceError: If none is there, it is another model's, a layer is missing, or
            there are several data sets.
    """
    sets = _sets_in(_data_sets(folder, model), model, layers)
    whole = {name: files for name, files in sets.items() if len(files) == len(layers)}
    if not whole:
        raise _incomplete(folder, sets, model, layers)
    datasets = sorted({name.dataset for name in whole})
    if len(datasets) > 1:
        raise CovarianceError(
            f"{folder} has statistics of this model over {' and '.join(datasets)}; "
            "name one of these folders."
        )
    best = max(whole, key=lambda name: name.preference)
    return [whole[best][layer] for layer in layers]


def _data_sets(folder: Path, model: EditableModel) -> list[Path]:
    """The folders of this model's data sets.

    Raises:
        CovarianceError: If there are only those of other models.
    """
    here = folder.absolute()
    if here.name.endswith(_DATASET):
        return [here]
    own = sorted(here.glob(f"*{_DATASET}"))
    if own:
        return own
    others = sorted({each.parent for each in here.glob(f"*/*{_DATASET}")})
    named = [each for each in others if _is_of(each.name, model)]
    if not named:
        shown = ", ".join(each.name for each in others) or "no model at all"
        raise CovarianceError(
            f"{folder} holds statistics of {shown}, and this model is called "
            f"{_called(model)}. Name the folder of its statistics, or rename that "
            "folder to the model's name."
        )
    return [found for each in named for found in sorted(each.glob(f"*{_DATASET}"))]


def _sets_in(
    folders: Sequence[Path], model: EditableModel, layers: Sequence[int]
) -> Mapping[StatisticsName, dict[int, Path]]:
    """Files that were made together, by what they have in common."""
    wanted = {model.architecture.down_projection.format(each): each for each in layers}
    sets: dict[StatisticsName, dict[int, Path]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.npz")):
            said = parse_name(path)
            if said is None or said.module not in wanted:
                continue
            if not _is_of(said.model, model):
                raise _other_model(path, said.model, model)
            common = StatisticsName(
                said.model, said.dataset, "", said.precision, said.cut, said.samples
            )
            sets.setdefault(common, {})[wanted[said.module]] = path
    return sets


def _incomplete(
    folder: Path,
    sets: Mapping[StatisticsName, dict[int, Path]],
    model: EditableModel,
    layers: Sequence[int],
) -> CovarianceError:
    most = max(sets.values(), key=len, default={})
    missing = [
        model.architecture.down_projection.format(layer)
        for layer in layers
        if layer not in most
    ]
    return CovarianceError(
        f"{folder} has no statistics of {', '.join(missing)}. Wanted files such as "
        f"{missing[0]}_float32_mom2_100000.npz, of one precision and sample size for "
        "all edited layers."
    )


def _other_model(path: Path, said: str, model: EditableModel) -> CovarianceError:
    return CovarianceError(
        f"{path} is in the folder of the model {said}, and this model is called "
        f"{_called(model)}. Name its own statistics; if they are its own, rename that "
        "folder to the model's name."
    )


def _is_of(folder: str, model: EditableModel) -> bool:
    return _plain(folder) in {_plain(name) for name in _names(model)}


def _names(model: EditableModel) -> set[str]:
    """What a model is called: its hub name, its folder's name, or the cache's.

    A hub's cache keeps ``OWNER/NAME`` in ``models--OWNER--NAME/snapshots/…``.
    """
    path = str(model.model.config._name_or_path)
    names = {path.replace("/", "_"), *_ends(path.rstrip("/").split("/"))}
    for part in path.split("/"):
        if part.startswith("models--"):
            names |= _ends(part.removeprefix("models--").split("--"))
    return names - {""}


def _ends(parts: Sequence[str]) -> set[str]:
    return {parts[-1], "_".join(parts[-2:])}


def _called(model: EditableModel) -> str:
    return str(model.model.config._name_or_path) or "nothing"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
