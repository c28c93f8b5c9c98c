"""Laws of the names that a scenario gives to the ways of getting one update."""

import pytest
from pydantic import ValidationError

from editing.base.errors import InputError
from strategies.merges.choice import known_names
from strategies.merges.pooled import CollabEditMerge
from strategies.merges.ties import TiesMerge
from strategies.methods import GLOBAL, Method, known_methods, read_method


def test_every_merge_is_a_method_and_global_comes_last() -> None:
    """The parties have computed all targets by the time of it."""
    assert known_methods() == [*known_names(), GLOBAL]
    assert [read_method(name).name for name in known_methods()] == known_methods()
    assert [read_method(name).pooled for name in known_names()] == [False] * len(
        known_names()
    )


def test_global_is_pooling_with_all_requests_at_one_party() -> None:
    """A way to run and no algebra of its own; reports show its name."""
    method = read_method(GLOBAL)
    assert method == Method(GLOBAL, CollabEditMerge(), pooled=True)
    assert method.settings() == {"name": GLOBAL}


def test_a_method_keeps_the_settings_of_its_merge() -> None:
    """Under the name that a report shows."""
    method = read_method({"name": "ties", "density": 0.5})
    assert method.merge == TiesMerge(density=0.5)
    assert method.settings()["density"] == 0.5
    assert read_method(method.settings()) == method


def test_an_unknown_name_or_setting_is_refused() -> None:
    """Also of `global`, which has no settings."""
    with pytest.raises(InputError, match=r"Unknown merge 'tise'.*`global`"):
        read_method("tise")
    with pytest.raises(ValidationError, match="density"):
        read_method({"name": GLOBAL, "density": 0.5})
