"""A client reads the run's settings, and over them its node's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.settings import ClientConfig, NodeSettingsError
from editing.base.errors import InputError
from editing.hyperparameters.config import EditingConfig
from strategies.scenario import FlatValue, PriorConfig

Node = dict[str, str | int | float | bool]


def test_a_node_reads_the_run_s_settings(
    configure: Callable[..., ClientConfig], world: Path
) -> None:
    """Those that are the server's business are left alone."""
    config = configure(
        run={"seed": 5, "min-parties": 2},
        editing={"batch-size": 3},
        merge={"name": "x"},
    )
    assert config.model.path == str(world)
    assert (config.model.dtype, config.seed, config.batch_size) == ("float64", 5, 3)
    assert (config.party, config.parties.sizes_of(1)) == (1, (2, 2, 2))
    assert config.own_requests is None


def test_a_node_may_have_its_own_model_folder_device_and_requests(
    configure: Callable[..., ClientConfig],
) -> None:
    """Only this node knows where they lie."""
    config = configure(
        {"model-path": "/models/here", "device": "meta", "requests-path": "/mine.json"}
    )
    assert (config.model.path, config.model.device) == ("/models/here", "meta")
    assert config.model.dtype == "float64"
    assert config.own_requests == Path("/mine.json")
    assert config.party == -1
    assert (config.key, config.target_cache) == (None, None)


def test_a_node_may_have_its_own_key_files_and_cache(
    configure: Callable[..., ClientConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the node says goes before what the environment or the run says."""
    prior = {"covariance": "/the/server's", "weight": 2.0}
    monkeypatch.setenv("COLLABEDIT_CACHE", "/shared")
    plain = configure(prior=prior)
    assert plain.prior == PriorConfig(covariance="/the/server's", weight=2.0)
    assert (plain.target_cache, plain.hypernetwork) == (Path("/shared"), None)
    config = configure(
        {
            "key-path": "/group.key",
            "covariance-path": "/c0.safetensors",
            "hypernetwork-path": "/net.safetensors",
            "target-cache": "/targets",
        },
        prior=prior,
    )
    assert config.prior == PriorConfig(covariance="/c0.safetensors", weight=2.0)
    assert (config.key, config.target_cache) == (Path("/group.key"), Path("/targets"))
    assert config.hypernetwork == "/net.safetensors"


def test_only_simulated_parties_keep_statistics_because_the_server_does(
    configure: Callable[..., ClientConfig],
) -> None:
    """A node with requests of its own does so by its own word."""
    served, real = {"statistics": True}, {"requests-path": "/mine.json"}
    assert configure(output=served).keep_statistics
    assert not configure().keep_statistics
    assert not configure(real, output=served).keep_statistics
    assert configure({**real, "keep-statistics": True}).keep_statistics


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("model", "dtype", "float8"),
        ("model", "colour", "red"),
        ("parties", "requests-per-round", "[1, 2]"),
        ("requests", "limit", -1),
    ],
)
def test_a_setting_that_is_refused_is_named(
    configure: Callable[..., ClientConfig], table: str, key: str, value: FlatValue
) -> None:
    """A client does not trust the server to have checked."""
    with pytest.raises(InputError, match=table):
        configure(**{table: {key: value}})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"model": {"dtyep": "float32"}},
            "`model.dtyep`: unknown key; did you mean `model.dtype`?",
        ),
        (
            {"requests": {"limit": -1}},
            "`requests.limit`: wanted a number greater than 0, got -1.",
        ),
        (
            {"node": {"keep-private": "everything"}},
            "`keep-private`: wanted 'results', 'all' or 'nothing', got 'everything'.",
        ),
        (
            {"node": {"partition-id": "first"}},
            "`partition-id`: wanted a whole number, got 'first'.",
        ),
    ],
)
def test_a_refused_setting_says_what_was_wanted_and_what_to_try(
    configure: Callable[..., ClientConfig], settings: dict[str, Any], said: str
) -> None:
    """In the words of the server's messages, under the key of the node's config."""
    with pytest.raises(InputError) as caught:
        configure(settings.pop("node", {}), **settings)
    assert str(caught.value) == said


def test_a_node_s_party_has_a_name(configure: Callable[..., ClientConfig]) -> None:
    """Or none; one that could forge a log line is refused."""
    assert configure({"name": "hospital-a"}).name == "hospital-a"
    assert configure({}).name == ""
    for name in ("a\nb", "a" * 65):
        with pytest.raises(NodeSettingsError, match="`name`"):
            configure({"name": name})


def test_a_misspelt_key_of_a_node_is_refused(
    configure: Callable[..., ClientConfig],
) -> None:
    """It would be a default, in silence: here requests of the common source."""
    with pytest.raises(NodeSettingsError, match=r"`request-path`.*`requests-path`"):
        configure({"request-path": "/mine.json"})


def test_the_batch_size_has_one_default(configure: Callable[..., ClientConfig]) -> None:
    """The server's settings and the client's agree without a word of either."""
    assert configure().batch_size == EditingConfig().batch_size
