"""A run is held against this machine."""

import os
import shutil
from types import SimpleNamespace

import pytest

from editing.base.errors import InputError
from server.config import read_scenario
from sims.cli.options import DEFAULT_SCENARIO
from sims.dry_run.machine import check_device, check_disk, check_memory, estimate_run
from sims.sizes.shapes import ModelShape

SHAPE = ModelShape("large", 10**9, d_out=1000, d_in=4000, layers=(1, 2), blocks=4)


def test_the_estimate_is_of_the_largest_round() -> None:
    """With further phrasings, and the encoding that the scenario names."""
    config = read_scenario(
        DEFAULT_SCENARIO,
        [
            "parties.count=2",
            "parties.requests-per-round=[[1, 2], [3, 7]]",
            "run.rounds=2",
            "requests.phrasings=1",
            'run.encoding="dense"',
        ],
    )
    order = estimate_run(config, SHAPE).order
    assert (order.parties, order.requests, order.rounds) == (2, 14, 2)
    assert order.encoding == "dense"


def test_too_little_memory_or_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both numbers."""
    config = read_scenario(DEFAULT_SCENARIO)
    estimate = estimate_run(config, SHAPE)
    needed = estimate.server_memory_each + estimate.node_memory
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": needed}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert "this machine has" in check_memory(config, estimate)
    pages["SC_PHYS_PAGES"] = needed - 1
    with pytest.raises(InputError, match="too little"):
        check_memory(config, estimate)
    free = SimpleNamespace(free=10**15)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert "1000.00 TB are free" in check_disk(estimate) or "free" in check_disk(
        estimate
    )
    free.free = 10
    with pytest.raises(InputError, match="too little"):
        check_disk(estimate)


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    """The message names the setting."""
    config = read_scenario(DEFAULT_SCENARIO)
    assert check_device(config) == "cpu"
    other = config.model.model_copy(update={"device": "cuda:99"})
    with pytest.raises(InputError, match=r"`model\.device` 'cuda:99'"):
        check_device(config.model_copy(update={"model": other}))
