"""Faults that the fuzzer found, each kept as the smallest file that shows it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from editing.base.errors import InputError
from sims.deltas.inspection import inspect_delta
from tests.fuzzing.kinds import KINDS
from tests.fuzzing.mutations import join_safetensors, split_safetensors

Change = Callable[[bytes], bytes]

DEEP = "[" * 100_000 + "]" * 100_000
NESTED = "[" * 900 + "]" * 900
"""As deep as what the interpreter reads, and no further function walks."""

LONG = "9" * 5000
"""More digits than Python reads."""


def text(content: str) -> Change:
    """Write another text."""
    return lambda _: content.encode("utf-8", "surrogatepass")


def fact(name: str, value: str) -> Change:
    """Write another text of a safetensors file's metadata."""

    def change(data: bytes) -> bytes:
        header, rest = split_safetensors(data)
        header["__metadata__"][name] = value
        return join_safetensors(header, rest)

    return change


def tensor(name: str, value: torch.Tensor) -> Change:
    """Write one tensor, and the metadata of the file."""

    def change(data: bytes) -> bytes:
        header, _ = split_safetensors(data)
        return save({name: value}, header.get("__metadata__"))

    return change


def provenance(**changes: object) -> Change:
    """Say something else of a covariance."""

    def change(data: bytes) -> bytes:
        header, _ = split_safetensors(data)
        said = json.loads(header["__metadata__"]["provenance"])
        return fact("provenance", json.dumps({**said, **changes}))(data)

    return change


FOUND: tuple[tuple[str, Change], ...] = (
    ("hyperparameters in TOML", text(f"layers = {LONG}")),
    ("hyperparameters in TOML", text(f"layers = {DEEP}")),
    ("hyperparameters in YAML", text(f"layers: {DEEP}")),
    ("hyperparameters in YAML", text("layers: " + "- " * 20_000)),
    ("hyperparameters in YAML", text("layers: [1]\nmax_length: &a [1]\ndevice: *a")),
    ("hyperparameters in YAML", text("layers: [1]\n-1: 1")),
    ("hyperparameters in JSON", text(f'{{"layers": {DEEP}}}')),
    ("requests", text(f'[{{"prompt": {NESTED}}}]')),
    ("scenario", text(f"[run]\nrounds = {LONG}")),
    ("scenario", text("[run]\nrounds = 99999999999999999999")),
    ("scenario", text(f"[run]\nrounds = {DEEP}")),
    ("scenario", text(f"run{'.a' * 5000} = 1")),
    ("scenario", text('[model]\npath = "/a\\u0000"')),
    ("scenario", text('[prior]\ncovariance = ["a\\u0000.npz"]')),
    ("run config", text('{"model.path": "/a\\u0000"}')),
    ("run config", text(json.dumps({"run.merges": DEEP}))),
    ("run config", text(json.dumps({"run.merges": f"[{LONG}]"}))),
    ("covariance", fact("provenance", '"a text"')),
    ("covariance", fact("provenance", DEEP)),
    ("covariance", provenance(tokens="many")),
    ("covariance", provenance(ridges={"1": 0.5}, ranks={})),
    ("covariance", tensor("moment.1", torch.ones(0, 0))),
    ("covariance", tensor("moment.1", torch.eye(4, dtype=torch.complex64))),
    ("covariance", tensor("moment.1", torch.tensor(1.0))),
    ("unfinished covariance", fact("of", '"a text"')),
    ("unfinished covariance", fact("place", DEEP)),
    ("unfinished covariance", tensor("sum.1", torch.ones(3))),
    ("text lines", text(f'{{"text": {DEEP}}}')),
    ("delta", tensor("a.weight", torch.ones(3))),
    ("delta", tensor("a.weight", torch.ones(0, 4))),
    ("delta", tensor("a.weight", torch.ones(3, 4, dtype=torch.int8))),
    ("delta", tensor("a.weight", torch.ones(3, 4, dtype=torch.complex64))),
    ("delta", tensor("a.weight", torch.ones(3, 4).bool())),
    ("delta", tensor("a.weight", torch.full((3, 4), float("nan")))),
    ("delta", tensor("a.weight", torch.full((3, 4), 1e300, dtype=torch.float64))),
    ("applied delta", tensor("a.weight", torch.ones(3))),
    ("applied delta", tensor("a.weight", torch.ones(3, 4, dtype=torch.int8))),
    ("applied delta", tensor("a.weight", torch.ones(3, 4, dtype=torch.complex64))),
    ("applied delta", tensor("a.weight", torch.full((3, 4), float("inf")))),
    ("applied delta", tensor("a.weight", torch.full((3, 4), 7e4))),
    ("record of an edit", text('{"changes": []}')),
    ("checkpoint", tensor("gram.one", torch.ones(10).double())),
    ("checkpoint", tensor("delta.a", torch.ones(3, 4, dtype=torch.float8_e4m3fn))),
    ("kept statistics", tensor("keys", torch.ones(3).double())),
    ("kept statistics", tensor("gram", torch.ones(9).double())),
    ("held-out facts", text(DEEP)),
    ("weights of words", lambda data: data.replace(b"(2,)", b"(9,)")),
    ("weights of words", lambda data: data[:-16] + b"\xff" * 16),
    ("report", text("null")),
    ("report", lambda _: b"\xff"),
    ("report", text('{"runs": [{"metric": []}]}')),
    ("connection of a run", lambda _: b"\xff"),
    ("Flower's configuration", lambda _: b"\xff"),
    ("Flower's configuration", text(f"a = {DEEP}")),
    ("model configuration", text('{"model_type": "gpt2", "initializer_range": []}')),
    ("tokenizer", text('{"version": "1.0", "padding": -1}')),
    ("tokenizer settings", text('{"tokenizer_class": 3}')),
)


@pytest.mark.parametrize(("name", "change"), FOUND)
def test_what_was_found_is_refused(name: str, change: Change, tmp_path: Path) -> None:
    """In one plain line, where there was a traceback once."""
    kind = KINDS[name]
    file = kind.make(tmp_path)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError, match=r"\w"):
        kind.read(file)


MISSED: tuple[tuple[str, Change], ...] = (
    ("cached targets", tensor("hidden", torch.tensor(1.0))),
    ("kept update", tensor("update", torch.ones(2, dtype=torch.float8_e4m3fn))),
)


@pytest.mark.parametrize(("name", "change"), MISSED)
def test_what_is_broken_in_a_cache_counts_as_missing(
    name: str, change: Change, tmp_path: Path
) -> None:
    """It is made again."""
    kind = KINDS[name]
    file = kind.make(tmp_path)
    file.write_bytes(change(file.read_bytes()))
    assert kind.read(file) is None


def test_metadata_that_nests_deeply_stays_a_text(tmp_path: Path) -> None:
    """It says nothing that is needed, so the update is read."""
    file = KINDS["delta"].make(tmp_path)
    file.write_bytes(fact("base", NESTED)(file.read_bytes()))
    assert inspect_delta(file).metadata["base"] == NESTED
