"""No setting of a run is ignored in silence because of its editor."""

from typing import Any

import pytest

from editing.editors.choice import EDITORS, MEMIT, EditorChoice
from editing.hyperparameters.config import EditingConfig, Hyperparameters
from strategies.scenario import PriorConfig
from strategies.unread_settings import READ_BACK, TARGETS, find_unread, name_unread_text

TARGET_KEYS: dict[str, Any] = {
    "editing.v-num-grad-steps": 9,
    "editing.v-lr": 0.1,
    "editing.v-loss-layer": 1,
    "editing.v-weight-decay": 0.1,
    "editing.clamp-norm-factor": 0.9,
    "editing.kl-factor": 0.1,
    "editing.target-of": "streams",
    "editing.stop": "top-1",
    "editing.top-1-steps": 2,
    "editing.norm-anchor": 3.0,
    "editing.fact-token": "subject_last",
    "editing.schedule": "boundary",
}
TEXT_KEYS: dict[str, Any] = {
    "prior.covariance": "c.safetensors",
    "prior.text": "text.txt",
    "prior.tokens": 100,
}
PRIOR_KEYS: dict[str, Any] = {
    "prior.weight": 20.0,
    "prior.memory-weight": 0.5,
    "prior.memory-keys": "edited",
}
READ_BY_ALL: dict[str, Any] = {
    "editing.layers": (1, 2),
    "editing.batch-size": 4,
    "editing.context-seed": 3,
    "editing.schedule": "frozen-uniform",
}
OWN_WEIGHTS = {"alphaedit", "betaedit"}
"""Editors that hold plain text by their own settings and not by the prior weight."""


def unread(
    name: str, *options: tuple[str, Any], merges: tuple[str, ...] = ("collabedit",)
) -> list[str]:
    """List the keys that are refused, of those that are set."""
    tables: dict[str, dict[str, Any]] = {"editing": {}, "prior": {}}
    for key, value in options:
        table, _, own = key.partition(".")
        tables[table][own.replace("-", "_")] = value
    editing, prior = EditingConfig(**tables["editing"]), PriorConfig(**tables["prior"])
    found = find_unread(EditorChoice(name=name), editing, prior, merges)
    return [key for key, _ in found]


def has_targets(name: str) -> bool:
    """Whether an editor solves from targets."""
    return EditorChoice(name=name).build().answers is None


@pytest.mark.parametrize("name", EDITORS)
def test_a_setting_is_refused_if_and_only_if_the_editor_does_not_read_it(
    name: str,
) -> None:
    """One cell of the table a setting; defaults are refused nowhere."""
    assert unread(name, *READ_BY_ALL.items()) == []
    assert unread(name, *TEXT_KEYS.items()) == []
    for option in (*TARGET_KEYS.items(), *PRIOR_KEYS.items()):
        key = option[0]
        ignored = not has_targets(name)
        ignored |= name in OWN_WEIGHTS and key == "prior.weight"
        assert unread(name, option) == [key] * ignored, key


def test_all_that_says_how_targets_are_found_is_in_the_table() -> None:
    """A new hyperparameter of targets cannot be forgotten."""
    known = {f"editing.{name.replace('_', '-')}" for name in TARGETS}
    assert known | {"editing.schedule"} == set(TARGET_KEYS)
    priors = {f"prior.{name.replace('_', '-')}" for name in PriorConfig.model_fields}
    assert priors == {*PRIOR_KEYS, *TEXT_KEYS}
    settable = Hyperparameters.model_fields.keys() & EditingConfig.model_fields.keys()
    assert settable - {"layers"} == set(TARGETS)


@pytest.mark.parametrize("name", sorted(OWN_WEIGHTS))
def test_the_prior_weight_is_read_as_the_memory_s_and_by_the_merge_that_reads_back(
    name: str,
) -> None:
    """Whatever the editor weighs plain text by."""
    weight = ("prior.weight", 20.0)
    assert unread(name, weight, ("prior.memory-weight", "lambda")) == []
    assert unread(name, weight, merges=("collabedit", READ_BACK)) == []


@pytest.mark.parametrize("name", [name for name in EDITORS if not has_targets(name)])
def test_reading_back_needs_a_covariance(name: str) -> None:
    """Editors that read at the answers have none."""
    assert unread(name, merges=(READ_BACK,)) == ["merge.name"]
    assert unread(MEMIT, merges=(READ_BACK,)) == []


def test_a_text_that_is_not_read_is_named() -> None:
    """For the log: a scenario keeps its model's text when another editor is chosen."""
    assert name_unread_text(PriorConfig()) == []
    assert name_unread_text(PriorConfig(text="a.txt")) == ["prior.text"]
    assert name_unread_text(PriorConfig(covariance="c", tokens=9)) == [
        "prior.covariance",
        "prior.tokens",
    ]


def test_keys_of_edited_models_are_for_a_memory() -> None:
    """With γ = 0 there is none."""
    edited = ("prior.memory-keys", "edited")
    assert unread(MEMIT, edited) == []
    found = unread(MEMIT, edited, ("prior.memory-weight", 0))
    assert found == ["prior.memory-keys"]
