"""Laws of the settings: MEMIT's files are read as they are, and mistakes are named."""

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.config import (
    EditingConfig,
    Hyperparameters,
    Plan,
    Schedule,
    parse_hyperparameters,
    read_context_templates,
    read_hyperparameters,
)
from editing.errors import InputError

PUBLISHED = {
    "layers": [3, 4, 5, 6, 7, 8],
    "clamp_norm_factor": 0.75,
    "layer_selection": "all",
    "fact_token": "subject_last",
    "v_num_grad_steps": 25,
    "v_lr": 5e-1,
    "v_loss_layer": 27,
    "v_weight_decay": 0.5,
    "kl_factor": 0.0625,
    "mom2_adjustment": True,
    "mom2_update_weight": 15000,
    "rewrite_module_tmp": "transformer.h.{}.mlp.fc_out",
    "layer_module_tmp": "transformer.h.{}",
    "mlp_module_tmp": "transformer.h.{}.mlp",
    "attn_module_tmp": "transformer.h.{}.attn",
    "ln_f_module": "transformer.ln_f",
    "lm_head_module": "lm_head",
    "mom2_dataset": "wikipedia",
    "mom2_n_samples": 100000,
    "mom2_dtype": "float32",
}
"""What a file of MEMIT's looks like."""

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
    """Every layer once, in order, whatever the schedule; `alone` walks unseen."""
    parameters = layers_of(count)
    for schedule in get_args(Schedule):
        plan = Plan(parameters=parameters, schedule=schedule, templates=("{}",))
        exchanges = plan.exchanges
        assert sum(exchanges, ()) == parameters.layers
        assert len(exchanges) == (count if schedule == "layerwise" else 1)
        assert sum(plan.steps, ()) == parameters.layers
        walks = schedule in {"layerwise", "alone"}
        assert len(plan.steps) == (count if walks else 1)


def test_a_published_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Every field of it."""
    found = read_hyperparameters(write(tmp_path, PUBLISHED))
    assert found.model_dump(mode="json") == PUBLISHED


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"v_lrr": 0.5}, r"\[editing\] `v_lrr`: Extra inputs"),
        ({"layers": None}, "`layers`: .*set `editing.layers`"),
        ({"layers": []}, "`layers`: "),
        ({"layers": [3, 3]}, r"`layers` must be ascending.*\[3, 3\]"),
        ({"layers": [4, 3]}, r"`layers` must be ascending.*\[4, 3\]"),
        ({"layers": [-1, 3]}, r"`layers` must be ascending.*\[-1, 3\]"),
        ({"layers": [1, "b"]}, r"`layers\.1`: Input should be a valid integer"),
        ({"v_lr": 0}, "`v_lr`: Input should be greater than 0"),
        ({"v_lr": float("nan")}, "`v_lr`: "),
        ({"v_num_grad_steps": 0}, "`v_num_grad_steps`: "),
        ({"v_weight_decay": -1}, "`v_weight_decay`: "),
        ({"kl_factor": -1}, "`kl_factor`: "),
        ({"clamp_norm_factor": 0}, "`clamp_norm_factor`: "),
        ({"mom2_update_weight": 0}, "`mom2_update_weight`: "),
        ({"v_loss_layer": -1}, "`v_loss_layer`: "),
        ({"fact_token": "last"}, "`fact_token`: "),
        ({"layer_selection": "random"}, "`layer_selection`: "),
        ({"mom2_adjustment": False}, "`mom2_adjustment`: "),
    ],
)
def test_a_bad_field_is_refused_by_name(
    change: dict[str, object], complaint: str
) -> None:
    """In one line; what we do not do is refused and not ignored."""
    values = {k: v for k, v in (PUBLISHED | change).items() if v is not None}
    with pytest.raises(InputError, match=complaint) as caught:
        parse_hyperparameters(values)
    assert "\n" not in str(caught.value)


def test_a_bad_field_of_a_file_is_refused_with_the_file(tmp_path: Path) -> None:
    """Where to look."""
    path = write(tmp_path, PUBLISHED | {"v_lr": "fast"})
    with pytest.raises(InputError, match=r"file\.json: `v_lr`: "):
        read_hyperparameters(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, r"gone\.json: cannot be read \(No such file"),
        ("{", r"gone\.json: not JSON"),
        ("[1]", r"gone\.json: wanted a JSON object, got list"),
    ],
)
def test_what_is_no_object_is_refused(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    """By its path."""
    path = tmp_path / "gone.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=complaint):
        read_hyperparameters(path)


def test_the_table_goes_before_the_file_and_the_file_before_defaults(
    tmp_path: Path,
) -> None:
    """A named file goes before the one beside the model."""
    model = tmp_path / "model"
    model.mkdir()
    write(model, {"layers": [0], "v_lr": 0.1}, "hyperparameters.json")
    named = write(tmp_path, {"layers": [1], "kl_factor": 0.5})
    alone = EditingConfig().resolve(model)
    assert (alone.layers, alone.v_lr, alone.kl_factor) == ((0,), 0.1, 0.0625)
    chosen = EditingConfig(hyperparameters=named, v_lr=0.2).resolve(model)
    assert (chosen.layers, chosen.v_lr, chosen.kl_factor) == ((1,), 0.2, 0.5)
    table = EditingConfig(layers=(2, 3), v_weight_decay=0.0).resolve(None)
    assert (table.layers, table.v_weight_decay) == ((2, 3), 0.0)


@pytest.mark.parametrize("field", sorted(Hyperparameters.model_fields))
def test_every_field_that_the_table_shares_with_the_file_overrides_it(
    field: str,
) -> None:
    """None is taken from the file in silence."""
    if field not in EditingConfig.model_fields:
        return
    values = PUBLISHED | {"v_loss_layer": 11}
    given = {"layers": (5,), "fact_token": "subject_last"}.get(field, 7)
    config = EditingConfig.model_validate({"layers": (1,)} | {field: given})
    assert getattr(config.resolve(), field) == given
    assert getattr(parse_hyperparameters(values), field) is not None


@pytest.mark.parametrize("folder", [True, False])
def test_layers_must_come_from_somewhere(tmp_path: Path, folder: bool) -> None:
    """No default could be right for every model."""
    with pytest.raises(InputError, match=r"`layers`: .*`editing.hyperparameters`"):
        EditingConfig().resolve(tmp_path if folder else None)


def test_templates_are_read_with_the_bare_one_first(tmp_path: Path) -> None:
    """The others in their order."""
    path = write(tmp_path, ["One day. {}", "{}", "{} , they said"])
    assert read_context_templates(path) == ("{}", "One day. {}", "{} , they said")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"a": "{}"}, r"wanted a JSON list of strings"),
        (["{}", 1], r"wanted a JSON list of strings"),
        (["{}", "no place"], r"template 2 wants exactly one \{\}: 'no place'"),
        (["{} and {}", "{}"], r"template 1 wants exactly one \{\}"),
        (["One. {}"], r"the bare template \"\{\}\" must be in the list"),
        ([], r"the bare template"),
    ],
)
def test_bad_templates_are_refused(
    tmp_path: Path, value: object, complaint: str
) -> None:
    """By file and place."""
    with pytest.raises(InputError, match=complaint) as caught:
        read_context_templates(write(tmp_path, value))
    assert "file.json" in str(caught.value)
