"""Equal tensors with equal metadata are one file, byte for byte."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load

from editing.files.tensors import save_sorted

FACTS = {name: json.dumps(name) for name in ("merge", "base", "rounds", "layers", "é")}
WRITE = """
import hashlib, torch
from editing.files.tensors import save_sorted
from tests.editing.files.test_tensors import FACTS
data = save_sorted({"b": torch.arange(3.0), "a": torch.eye(2)}, FACTS)
print(hashlib.sha256(data).hexdigest())
"""


def test_what_is_saved_loads() -> None:
    """Tensors of several precisions, and the metadata."""
    tensors = {"b": torch.arange(3.0), "a": torch.eye(2).double(), "c": torch.ones(0)}
    data = save_sorted(tensors, FACTS)
    loaded = load(data)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert header["__metadata__"] == FACTS
    assert list(header) == sorted(header)
    assert size % 8 == 0


def test_the_order_in_which_things_are_given_does_not_matter() -> None:
    """Nor of the metadata, of which the library keeps no order."""
    tensors = {"b": torch.arange(3.0), "a": torch.eye(2)}
    one = save_sorted(tensors, FACTS)
    other = save_sorted(dict(reversed(tensors.items())), dict(reversed(FACTS.items())))
    assert one == other


@pytest.mark.process
def test_every_process_writes_the_same_bytes() -> None:
    """The library draws the order of metadata anew in each."""
    command = [sys.executable, "-c", WRITE]
    digests = {
        subprocess.run(command, capture_output=True, check=True, text=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
