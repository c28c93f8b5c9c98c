"""What the parties of a local deployment are given."""

import stat
from pathlib import Path

import pytest

from clients.own_requests import requests_of_round
from clients.settings import read_client_config
from editing.algebra.deltas import load_delta
from editing.base.errors import InputError
from server.config import RunConfig, read_run_config
from sims.runs.deployment import for_real_nodes, give_out, share_out
from sims.runs.engines import IN_PROCESS, WITH_FILES
from sims.runs.in_process import make_contexts
from sims.runs.jobs import execute
from strategies.scenario import FlatValue, flatten
from tests.federation import assert_same_bits, settings_of


def config_of(world: Path, **tables: dict[str, FlatValue]) -> RunConfig:
    """Three parties, two rounds, and records that are left out and shared out oddly."""
    chosen: dict[str, dict[str, FlatValue]] = {
        "run": {"rounds": 2},
        "requests": {"limit": 11, "skip": "[2]", "seed": 3},
        "parties": {"split": "shuffled", "requests-per-round": 1},
    }
    for name, values in tables.items():
        chosen[name] = {**chosen.get(name, {}), **values}
    return read_run_config(settings_of(world, **chosen))


def test_nodes_read_from_their_files_what_a_simulation_shares_out(
    world: Path, tmp_path: Path
) -> None:
    """Request by request in every round; and each file is its owner's alone."""
    config = config_of(world, parties={"overlap": 1, "requests-per-round": 1})
    nodes = give_out(config, tmp_path / "given", tmp_path / "kept")
    real = make_contexts(
        flatten(for_real_nodes(config)),
        3,
        [{key: str(value) for key, value in node.items()} for node in nodes],
    )
    simulated = make_contexts(flatten(config), 3)
    for ours, theirs in zip(real.values(), simulated.values(), strict=True):
        for number in (1, 2):
            found, expected = (
                requests_of_round(read_client_config(each), number, pooled=False)
                for each in (ours, theirs)
            )
            assert [*found.values()] == [*expected.values()]
            assert all(found.values())
    for path in (tmp_path / "given").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len({node["private-folder"] for node in nodes}) == 3


def test_a_party_without_requests_is_refused_before_anything_starts(
    world: Path,
) -> None:
    """A real node takes an empty file for a mistake."""
    sizes: dict[str, FlatValue] = {"requests-per-round": "[2, 0, 1]"}
    config = config_of(world, parties={**sizes, "allow-empty": True})
    with pytest.raises(InputError, match="party 1 has no request"):
        share_out(config)


def test_a_text_for_each_party_is_not_made_up(world: Path) -> None:
    """What would be shared out is nobody's own."""
    config = config_of(world, prior={"covariance": "federated"})
    with pytest.raises(InputError, match=r"`prior.covariance`: .*`text-path`"):
        share_out(config)


def test_parties_with_files_of_their_own_compute_what_each_would_by_itself(
    world: Path, tmp_path: Path
) -> None:
    """To the bit what simulated parties compute that share no batch of targets."""
    config = config_of(world, run={"encoding": "dense"}, model={"dtype": "float32"})
    editing = config.editing.model_copy(update={"batch_size": 1})
    alone = config.model_copy(update={"editing": editing})
    for name, each in ((WITH_FILES, config), (IN_PROCESS, alone)):
        execute(each, tmp_path / name, name)
    with_files, simulated = (
        load_delta(tmp_path / name / "delta.safetensors")[0]
        for name in (WITH_FILES, IN_PROCESS)
    )
    assert_same_bits(with_files, simulated)
    assert len(list((tmp_path / WITH_FILES).glob("case_*.json"))) == 6
