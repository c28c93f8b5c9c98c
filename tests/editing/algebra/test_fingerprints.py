"""Laws of digests: the same weights, the same digest; any other bit, another one."""

import hashlib

import pytest
import torch
from torch import nn

from editing.algebra.fingerprints import (
    fingerprint_configuration,
    fingerprint_model,
    fingerprint_tensors,
)
from tests.tiny import tiny_model


def drawn(dtype: torch.dtype = torch.float32) -> nn.Linear:
    """Make the same small layer at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(3, 2).to(dtype)


def test_a_fingerprint_is_its_definition() -> None:
    """Names, precisions, shapes and bytes, in order of names."""
    layer, digest = drawn(), hashlib.sha256()
    for name in ("bias", "weight"):
        values = layer.get_parameter(name).detach()
        digest.update(f"{name} torch.float32 {tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    assert fingerprint_model(layer) == digest.hexdigest()


def test_one_bit_tells() -> None:
    """Even the sign of a zero."""
    layer = drawn()
    with torch.no_grad():
        layer.weight[0, 0] = 0.0
        before = fingerprint_model(layer)
        layer.weight[0, 0] = -0.0
    assert fingerprint_model(layer) != before


def test_another_precision_is_digested_as_it_would_be_held() -> None:
    """Without a copy of the model, and with the model left as it was."""
    layer = drawn()
    assert fingerprint_model(layer, torch.bfloat16) == fingerprint_model(
        drawn(torch.bfloat16)
    )
    assert fingerprint_model(layer) == fingerprint_model(drawn())


def test_strides_do_not_matter_and_names_do() -> None:
    """Values and what they are called, not how they lie in memory."""
    matrix = torch.arange(6.0).reshape(2, 3)
    plain = fingerprint_tensors([("a", matrix)])
    assert fingerprint_tensors([("a", matrix.mT.contiguous().mT)]) == plain
    assert fingerprint_tensors([("b", matrix)]) != plain
    assert fingerprint_tensors([("a", matrix.reshape(3, 2))]) != plain


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "relu"},
        {"layer_norm_epsilon": 1.0},
        {"n_head": 1},
        {"rope_parameters": {"rope_theta": 1.0}},
    ],
)
def test_a_configuration_under_which_weights_compute_something_else_tells(
    change: dict[str, object],
) -> None:
    """The weights are the same."""
    own = tiny_model().model.config.to_dict()
    assert fingerprint_configuration(own | change) != fingerprint_configuration(own)


def test_bookkeeping_in_a_configuration_does_not_tell() -> None:
    """Neither its order, nor where it was loaded from and by whom, at any depth."""
    own = {**tiny_model().model.config.to_dict(), "part": {"a": 1, "b": (2, None)}}
    other = {
        **dict(reversed(own.items())),
        "_name_or_path": "/elsewhere",
        "transformers_version": "0",
        "use_cache": False,
        "part": {"b": [2, None], "_name_or_path": "x", "a": 1},
    }
    assert fingerprint_configuration(other) == fingerprint_configuration(own)
