"""Laws of hyperparameter files: published ones are read as they are, no key is lost."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.hyperparameters.config import Hyperparameters
from editing.hyperparameters.files import (
    BOOKKEEPING,
    NUMBERS,
    as_number,
    parse_hyperparameters,
    read_hyperparameter_file,
    read_hyperparameters,
)

PUBLISHED: dict[str, object] = {
    "layers": [3, 4, 5, 6, 7, 8],
    "clamp_norm_factor": 0.75,
    "layer_selection": "all",
    "fact_token": "subject_last",
    "v_num_grad_steps": 25,
    "v_lr": 5e-1,
    "v_loss_layer": 27,
    "v_weight_decay": 1e-3,
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

OPTIONS: dict[str, object] = {"target_of": "streams", "stop": "top-1"}
OPTIONS |= {"top_1_steps": 2, "norm_anchor": 3.5}
"""What no published file for MEMIT has, and any file may."""

EVERY = PUBLISHED | OPTIONS

MACHINE: dict[str, object] = {
    "alg_name": "MEMIT",
    "model_name": "./hugging_cache/gpt-j-6B",
    "stats_dir": "./data/stats",
    "device": 0,
    "model_parallel": False,
    "max_length": 30,
    "batch_size": 1,
    "fp16": True,
}
"""What EasyEdit's files say besides."""

WRITTEN = {"v_lr": "5e-1", "v_weight_decay": "1e-3", "mom2_n_samples": "1e5"}
"""Numbers as EasyEdit's authors write them, which YAML 1.1 takes for texts."""


def write(folder: Path, text: str, name: str) -> Path:
    """Put a text into a file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def to_json(folder: Path, values: Mapping[str, object]) -> Path:
    """Write a file as MEMIT does."""
    return write(folder, json.dumps(values, indent=4), "file.json")


def to_yaml(
    folder: Path, values: Mapping[str, object], written: Mapping[str, str] = WRITTEN
) -> Path:
    """Write a file as EasyEdit does: a key a line, texts quoted, lists in brackets."""
    lines = [
        f"{key}: {written.get(key) or json.dumps(value)}"
        for key, value in values.items()
    ]
    return write(folder, "\n".join(lines), "file.yaml")


def to_toml(folder: Path, values: Mapping[str, object]) -> Path:
    """Write a file as scenarios are written."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return write(folder, "\n".join(lines), "file.toml")


def test_memits_json_easyedits_yaml_and_toml_of_equal_values_are_equal(
    tmp_path: Path,
) -> None:
    """Every field, numbers in scientific notation and bookkeeping included."""
    as_json = read_hyperparameters(to_json(tmp_path, EVERY))
    assert as_json.model_dump(mode="json") == EVERY
    path = to_yaml(tmp_path, MACHINE | EVERY)
    text = path.read_text()
    for number in WRITTEN.values():
        assert isinstance(yaml.safe_load(f"x: {number}")["x"], str), number
        assert number in text
    assert read_hyperparameters(path) == as_json
    assert read_hyperparameters(path.rename(tmp_path / "file.YML")) == as_json
    assert read_hyperparameters(to_toml(tmp_path, EVERY)) == as_json
    nested = "[hyperparameters]\n" + to_toml(tmp_path, EVERY).read_text()
    assert read_hyperparameters(write(tmp_path, nested, "n.toml")) == as_json


def test_what_is_said_of_the_machine_is_kept_and_listed(tmp_path: Path) -> None:
    """Nothing of a file is lost in silence."""
    found = read_hyperparameter_file(to_yaml(tmp_path, MACHINE | PUBLISHED))
    assert found.bookkeeping == MACHINE
    assert {**found.values, **found.bookkeeping}.keys() == {*MACHINE, *PUBLISHED}
    assert set(BOOKKEEPING).isdisjoint(Hyperparameters.model_fields)
    dated = write(tmp_path, "layers: [1]\nmodel_name: 2026-01-31", "dated.yaml")
    assert read_hyperparameter_file(dated).bookkeeping == {"model_name": "2026-01-31"}


@given(
    value=st.floats(min_value=1e-12, max_value=1e12),
    form=st.sampled_from(["{:e}", "{:.3e}", "{!r}", "{:g}", "+{:g}", "{:.0e}"]),
)
def test_a_number_is_read_however_it_is_written(value: float, form: str) -> None:
    """With or without a point, a sign or an exponent."""
    text = form.format(value)
    assert as_number("v_lr", text) == float(text)
    assert as_number("mom2_dtype", text) == text


@pytest.mark.parametrize("text", ["fast", "nan", "inf", "1e", "0x10", "1_000", "", "-"])
def test_what_is_no_number_stays_a_text_and_is_refused(
    tmp_path: Path, text: str
) -> None:
    """By its field."""
    assert as_number("v_lr", text) == text
    path = to_json(tmp_path, PUBLISHED | {"v_lr": text})
    with pytest.raises(InputError, match=r"file\.json: `v_lr`: wanted a number, got"):
        read_hyperparameters(path)


def test_numbers_are_the_fields_that_hold_one() -> None:
    """No more, for a text may look like a number."""
    fields = [k for k, v in EVERY.items() if type(v) in {int, float}]
    assert frozenset(fields) == NUMBERS


EASYEDIT: dict[str, object] = {
    "alg_name": "MEMIT",
    "model_name": "./hugging_cache/some-model",
    "stats_dir": "./data/stats",
    "device": 1,
    **PUBLISHED,
    "lm_head_module": "transformer.wte",
    "model_parallel": False,
}
"""What a file of EasyEdit's for MEMIT looks like; a tied head goes by the embedding."""

OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "AlphaEdit of its authors": (
        {"model_name": "m", **PUBLISHED, "nullspace_threshold": 0.02, "L2": 10},
        r"`nullspace_threshold` and `L2` set up AlphaEdit; .*Name a file for MEMIT, or",
    ),
    "AlphaEdit of EasyEdit": (
        {"alg_name": "AlphaEdit", "P_loc": "p.pt", **PUBLISHED, "L2": 10},
        "`alg_name` is 'AlphaEdit'; wanted the hyperparameters of MEMIT",
    ),
    "EMMET of EasyEdit": (
        {**PUBLISHED, "update_norm_lambda": 0, "emmet_lambda": 0.1},
        "`update_norm_lambda` and `emmet_lambda` set up EMMET",
    ),
    "PMET of EasyEdit": (
        {
            "alg_name": "PMET",
            **PUBLISHED,
            "rewrite_module_tmps": ["model.layers.{}.mlp.down_proj"],
            "nll_loss_factor": 1,
        },
        "`alg_name` is 'PMET'; wanted",
    ),
    "NSE": (
        {**PUBLISHED, "alpha": 2.5, "upper_bound": 50, "neuron_threshold": 1.0},
        "`neuron_threshold` set up NSE",
    ),
    "ROME of EasyEdit": (
        {"alg_name": "ROME", **PUBLISHED, "layers": [5]},
        "`alg_name` is 'ROME'; wanted",
    ),
    "ROME of its authors": (
        {
            **{k: v for k, v in PUBLISHED.items() if k != "mom2_update_weight"},
            "layers": [17],
            "mom2_adjustment": False,
            "context_template_length_params": [[5, 10], [10, 10]],
        },
        "`mom2_adjustment`: wanted true, got false",
    ),
}
"""Files of other methods, as their programs write them, and what is said of each."""


@pytest.mark.parametrize("make", [to_json, to_yaml])
def test_files_for_memit_of_every_program_are_read(
    tmp_path: Path, make: Callable[[Path, Mapping[str, object]], Path]
) -> None:
    """MEMIT's own, which CollabEdit has too, AlphaEdit's with a name, EasyEdit's."""
    files = [PUBLISHED, {"model_name": "m", **PUBLISHED}, MACHINE | PUBLISHED, EASYEDIT]
    for values in files:
        read = read_hyperparameters(make(tmp_path, values))
        wanted = {key: values[key] for key in PUBLISHED}
        assert read.model_dump(mode="json", exclude=set(OPTIONS)) == wanted


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("make", [to_json, to_yaml])
def test_a_file_of_another_method_is_refused_by_the_method(
    tmp_path: Path, name: str, make: Callable[[Path, Mapping[str, object]], Path]
) -> None:
    """Most do not name it; read as MEMIT's, it would edit in another way in silence."""
    values, said = OTHERS[name]
    with pytest.raises(InputError, match=said) as caught:
        read_hyperparameters(make(tmp_path, values))
    assert "unknown key" not in str(caught.value)


@pytest.mark.parametrize("make", [to_json, to_yaml, to_toml])
def test_a_byte_order_mark_is_no_part_of_a_file(
    tmp_path: Path, make: Callable[[Path, Mapping[str, object]], Path]
) -> None:
    """Editors of Windows write one."""
    path = make(tmp_path, EVERY)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_hyperparameters(path).model_dump(mode="json") == EVERY


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"layers": [1], "batch_size": NaN}'),
        ("a.json", '{"layers": [1], "v_lr": Infinity}'),
        ("a.yaml", "layers: [1]\nbatch_size: .nan"),
        ("a.toml", "layers = [1]\nbatch_size = inf"),
    ],
)
def test_no_number_that_is_not_finite_reaches_a_report(
    tmp_path: Path, name: str, text: str
) -> None:
    """What is kept of a file is written as JSON, which has none."""
    path = write(tmp_path, text, name)
    with pytest.raises(InputError, match="finite number"):
        read_hyperparameter_file(path)


@pytest.mark.parametrize("suffix", ["json", "yaml", "toml"])
@pytest.mark.parametrize(
    ("key", "nearest"), [("v_lrr", "v_lr"), ("stat_dir", "stats_dir"), ("Q7", None)]
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    tmp_path: Path, suffix: str, key: str, nearest: str | None
) -> None:
    """A misspelt hyperparameter would be a silent default."""
    make = {"json": to_json, "yaml": to_yaml, "toml": to_toml}[suffix]
    with pytest.raises(InputError) as caught:
        read_hyperparameters(make(tmp_path, PUBLISHED | {key: 1}))
    said = str(caught.value)
    assert f"file.{suffix}: `{key}`: unknown key" in said
    assert ("did you mean" in said) == (nearest is not None)
    assert nearest is None or f"did you mean `{nearest}`?" in said


def test_several_unknown_keys_are_one_message(tmp_path: Path) -> None:
    """And a long list is cut."""
    more = {f"k{number}": 1 for number in range(5)}
    with pytest.raises(InputError, match=r"`k2`: unknown key \(and 2 more\)"):
        read_hyperparameters(to_json(tmp_path, PUBLISHED | more))
    preset = write(tmp_path, "modle = 'x'\n[hyperparameters]\nlayers = [1]", "p.toml")
    with pytest.raises(InputError, match=r"p\.toml: `modle`: unknown key"):
        read_hyperparameters(preset)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.json", None, r"gone\.json: cannot be read \(No such file"),
        ("a.json", "{", r"a\.json: not JSON"),
        ("a.json", "[1]", r"a\.json: wanted a table of keys, got list"),
        ("a.json", '{"v_lr": 1, "v_lr": 2}', r"a\.json: not JSON \(`v_lr` is given tw"),
        ("a.yaml", "v_lr: 1\nv_lr: 2", r"a\.yaml: not YAML \(`v_lr` is given twice"),
        ("a.yaml", "layers: [1\nv_lr: 1", r"a\.yaml line 2: not YAML \(expected"),
        ("a.yaml", "a: 1\nb: 2\n\tc: 3", r"a\.yaml line 3: not YAML \(found"),
        ("a.yaml", "a: 1\n--- \nb: 2", r"a\.yaml line 2: not YAML \(but found"),
        ("a.yaml", "a: !!python/name:os.system", r"a\.yaml line 1: not YAML \(could"),
        ("a.yaml", "a: \x00", r"a\.yaml: not YAML \(unacceptable"),
        ("a.yaml", "a: 2001-99-99", r"a\.yaml: not YAML \(month"),
        ("a.json", "[" * 100_000, r"a\.json: not JSON \(nested too deeply\)\.$"),
        ("a.yaml", "[" * 3_000, r"a\.yaml: not YAML \(nested too deeply\)\.$"),
        ("a.toml", "a = " + "[" * 9_000, r"a\.toml: not TOML \(nested too deeply\)\.$"),
        ("a.yaml", "v_lr: 1\n? [a]\n: b", r"a\.yaml line 2: not YAML \(wanted a text"),
        ("a.yaml", "? {a: 1}\n: b", r"a\.yaml line 1: not YAML \(wanted a text"),
        ("a.yaml", "a:\n  ? [a]\n  : b", r"a\.yaml line 2: not YAML \(found unhash"),
        (
            "a.yaml",
            "device: {2001-01-01: 1}",
            r"a\.yaml: wanted texts .* dates as keys",
        ),
        ("a.yaml", "", r"a\.yaml: wanted a table of keys, got nothing"),
        ("a.yaml", "- 1", r"a\.yaml: wanted a table of keys, got list"),
        ("a.toml", "v_lr = ", r"a\.toml: not TOML \(Invalid value \(at end"),
        ("a.txt", "", r"a\.txt: wanted a hyperparameter file that ends in \.json, "),
        ("a.yaml", "alg_name: ROME", r"a\.yaml: `alg_name` is 'ROME'; .* MEMIT\."),
    ],
)
def test_what_cannot_be_read_is_refused_by_file_and_line(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    """In one line; nothing in a file is ever run."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_hyperparameter_file(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """By its path."""
    path = tmp_path / "a.yaml"
    path.write_bytes(b"layers: [1]\n# \xff\xfe")
    with pytest.raises(InputError, match=r"a\.yaml: is no text in UTF-8"):
        read_hyperparameter_file(path)
    for name in ("a.json", "a.yaml", "a.toml"):
        (tmp_path / name).write_text("{}", "utf-16")
        with pytest.raises(InputError) as caught:
            read_hyperparameter_file(tmp_path / name)
        wanted = f"{tmp_path / name}: is no text in UTF-8 (invalid start byte)."
        assert str(caught.value) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_lrr": 0.5}, r"\[editing\] `v_lrr`: unknown key; did you mean `v_lr`\?"),
        (
            {"layers": None},
            r"`layers`: is missing; wanted a list.*; .*set `editing\.layers`",
        ),
        ({"layers": []}, r"`layers`: wanted at least one entry, got \[\]"),
        ({"layers": [3, 3]}, r"`layers` must be ascending.*\[3, 3\]"),
        ({"layers": [4, 3]}, r"`layers` must be ascending.*\[4, 3\]"),
        ({"layers": [-1, 3]}, r"`layers` must be ascending.*\[-1, 3\]"),
        ({"layers": [1, "b"]}, r"`layers\.1`: wanted a whole number, got 'b'"),
        (
            {"layers": "[1, 2]"},
            r"`layers`: wanted a list of whole numbers, got '\[1, 2\]'",
        ),
        ({"v_lr": 0}, "`v_lr`: wanted a number greater than 0, got 0"),
        ({"v_lr": float("nan")}, "`v_lr`: "),
        ({"v_lr": [1]}, r"`v_lr`: wanted a number, got \[1\]"),
        ({"v_lr": True}, "`v_lr`: wanted a number, got true"),
        ({"v_num_grad_steps": 0}, "`v_num_grad_steps`: "),
        ({"v_num_grad_steps": 2.5}, "_steps`: wanted a whole number, got 2.5"),
        ({"v_weight_decay": -1}, "`v_weight_decay`: "),
        ({"kl_factor": -1}, "`kl_factor`: "),
        ({"clamp_norm_factor": 0}, "`clamp_norm_factor`: "),
        ({"mom2_update_weight": 0}, "`mom2_update_weight`: "),
        ({"v_loss_layer": -1}, "`v_loss_layer`: "),
        ({"fact_token": "last"}, "wanted 'subject_last', got 'last'"),
        ({"layer_selection": "random"}, "`layer_selection`: "),
        ({"mom2_adjustment": False}, "`mom2_adjustment`: wanted true, got false"),
    ],
)
def test_a_bad_field_is_refused_by_name(
    change: dict[str, object], message: str
) -> None:
    """In one line; what we do not do is refused and not ignored."""
    values = {k: v for k, v in (PUBLISHED | change).items() if v is not None}
    with pytest.raises(InputError, match=message) as caught:
        parse_hyperparameters(values)
    said = str(caught.value)
    assert "\n" not in said
    assert "Input should" not in said
    assert ("editing.layers" in said) == (change == {"layers": None})


def test_a_bad_field_of_a_file_is_refused_with_the_file(tmp_path: Path) -> None:
    """Where to look."""
    with pytest.raises(InputError, match=r"file\.json: `v_lr`: "):
        read_hyperparameters(to_json(tmp_path, PUBLISHED | {"v_lr": -1}))
    with pytest.raises(InputError, match=r"file\.yaml: `layers` must be ascending"):
        read_hyperparameters(to_yaml(tmp_path, PUBLISHED | {"layers": [2, 1]}))
