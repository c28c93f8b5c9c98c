"""Laws of the settings: what each schedule writes and sends, and where modules lie."""

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.hyperparameters.config import (
    MODULE_FIELDS,
    Hyperparameters,
    Plan,
    Schedule,
    read_context_templates,
)

COUNTS = st.integers(1, 12)


def layers_of(count: int) -> Hyperparameters:
    """Edit so many layers."""
    return Hyperparameters(layers=tuple(range(2, 2 + count)))


def write(folder: Path, value: object, name: str = "file.json") -> Path:
    """Put JSON into a file."""
    path = folder / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@given(count=COUNTS)
def test_shares_left_to_right_write_all_that_is_left(count: int) -> None:
    """Layer by layer, ``1/(L − i)`` of what is left leaves nothing."""
    left = 1.0
    for index in range(count):
        left -= left * layers_of(count).share(index, "layerwise")
    assert left == pytest.approx(0, abs=1e-12)


@given(count=COUNTS)
def test_frozen_harmonic_asks_for_a_harmonic_number(count: int) -> None:
    """``1/L + … + 1``: 2.28 times what is missing, for five layers."""
    parameters = layers_of(count)
    total = sum(parameters.share(index, "frozen-harmonic") for index in range(count))
    assert total == pytest.approx(sum(1 / n for n in range(1, count + 1)))
    if count == 5:
        assert total == pytest.approx(2.28, abs=0.005)


@given(count=COUNTS)
def test_frozen_uniform_asks_for_what_is_missing(count: int) -> None:
    """``1/L``, as many times as there are layers."""
    shares = [layers_of(count).share(index, "frozen-uniform") for index in range(count)]
    assert shares == [1 / count] * count


@given(count=COUNTS)
def test_layerwise_exchanges_once_a_layer_and_the_others_once(count: int) -> None:
    """Every layer once, in order; `alone` walks unseen, `boundary` has two layers."""
    parameters = layers_of(count)
    ends = Plan(parameters=parameters, schedule="boundary", templates=("{}",))
    both = (parameters.layers[0], parameters.layers[-1])
    assert ends.exchanges == ends.steps == [(each,) for each in dict.fromkeys(both)]
    for schedule in set(get_args(Schedule)) - {"boundary"}:
        plan = Plan(parameters=parameters, schedule=schedule, templates=("{}",))
        exchanges = plan.exchanges
        assert sum(exchanges, ()) == parameters.layers
        assert len(exchanges) == (count if schedule == "layerwise" else 1)
        assert sum(plan.steps, ()) == parameters.layers
        walks = schedule in {"layerwise", "alone"}
        assert len(plan.steps) == (count if walks else 1)


def test_naming_is_what_names_modules_and_nothing_else() -> None:
    """So that a model is loaded once for all hyperparameters that name the same."""
    assert set(MODULE_FIELDS) == {f for f in Hyperparameters.model_fields if "mod" in f}
    named = {field: f"part.{{}}.{field}" for field in MODULE_FIELDS}
    first = Hyperparameters(layers=(1, 2), v_lr=0.1, **named).naming
    second = Hyperparameters(layers=(3,), kl_factor=0.5, **named).naming
    assert first == second
    assert hash(first) == hash(second)
    assert first is not None
    assert first.given == {
        "block": named["layer_module_tmp"],
        "down_projection": named["rewrite_module_tmp"],
        "final_norm": named["ln_f_module"],
        "head": named["lm_head_module"],
    }
    assert Hyperparameters(layers=(1,), v_lr=0.1).naming is None
    assert Hyperparameters(layers=(1,), ln_f_module="norm").naming != first


def test_templates_are_read_with_the_bare_one_first(tmp_path: Path) -> None:
    """The others in their order."""
    path = write(tmp_path, ["One day. {}", "{}", "{} , they said"])
    assert read_context_templates(path) == ("{}", "One day. {}", "{} , they said")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": "{}"}, r"wanted a JSON list of strings"),
        (["{}", 1], r"wanted a JSON list of strings"),
        (["{}", "no place"], r"template 2 wants exactly one \{\}: 'no place'"),
        (["{} and {}", "{}"], r"template 1 wants exactly one \{\}"),
        (["One. {}"], r"the bare template \"\{\}\" must be in the list"),
        ([], r"the bare template"),
    ],
)
def test_bad_templates_are_refused(tmp_path: Path, value: object, message: str) -> None:
    """By file and place."""
    with pytest.raises(InputError, match=message) as caught:
        read_context_templates(write(tmp_path, value))
    assert "file.json" in str(caught.value)
