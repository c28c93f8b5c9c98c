"""The updates that the model carries, kept at the node while the run lasts.

In deployment each message starts a new process, so received updates are kept on disk.
"""

import re
from collections.abc import Collection
from pathlib import Path

from flwr.app import Array, Message
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from editing.files.atomic import write_private
from strategies.wire.arrays import digest_array, read_numbers, to_array, to_tensor
from strategies.wire.deltas import join_factors
from strategies.wire.messages import reading
from strategies.wire.updates import DELTA, read_carried

_ENDING = ".safetensors"
_DIGEST = re.compile("[0-9a-f]{64}")


class MissingUpdatesError(LookupError):
    """The server left out updates that this node does not hold."""


def find_updates(message: Message, folder: Path) -> dict[str, Tensor]:
    """The updates that the model shall carry, by parameter name.

    Those of the message are kept in the folder, the others are taken from it. What the
    model carries no more is removed. Factors are kept as such, and multiplied.

    Raises:
        MissingUpdatesError: If some are in neither, or not as the server means them;
            what the server's message does not hold at all is a `ProtocolError`.
    """
    with reading("updates"):
        carried = _check_digests(read_carried(message.content))
        sent = message.content.array_records[DELTA]
        tensors = {name: read_numbers(array) for name, array in sent.items()}
    for name, digest in carried.items():
        array = sent[name] if name in sent else _read(folder, digest)
        if array is None or digest_array(array) != digest:
            raise MissingUpdatesError(
                f"The update of {name} is neither in the server's message nor in "
                f"{folder}. The server is asked to send it again."
            )
        if name in sent:
            _keep(folder, digest, array)
        else:
            tensors[name] = to_tensor(array)
    _remove_others(folder, carried.values())
    with reading("updates"):
        return join_factors({name: tensors[name] for name in carried})


def _check_digests(carried: dict[str, str]) -> dict[str, str]:
    """Refuse other texts than digests, which become names of files.

    Raises:
        ValueError: If there is one.
    """
    if not all(_DIGEST.fullmatch(each) for each in carried.values()):
        raise ValueError("an update has no digest")
    return carried


def _read(folder: Path, digest: str) -> Array | None:
    try:
        with safe_open(folder / f"{digest}{_ENDING}", framework="pt") as file:
            return to_array(file.get_tensor("update"))
    except (OSError, SafetensorError, TypeError):  # the last of unknown precisions
        return None


def _keep(folder: Path, digest: str, array: Array) -> None:
    held = _read(folder, digest)
    if held is not None and digest_array(held) == digest:
        return
    write_private(folder / f"{digest}{_ENDING}", save({"update": to_tensor(array)}))


def _remove_others(folder: Path, digests: Collection[str]) -> None:
    for file in folder.glob(f"*{_ENDING}"):
        if file.stem not in digests:
            file.unlink(missing_ok=True)
