"""Laws of validation errors: one clause a fault, what was wanted and what came."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt, ValidationError

from editing.base.settings import Settings
from editing.base.validation import (
    HYPERPARAMETERS,
    MAX_SHOWN_FAULTS,
    RECORD,
    SETTINGS,
    Document,
    explain,
    explain_all,
    find_faults,
    inner_model,
    suggest,
)

Weight = Annotated[float, Field(ge=0)]


class Run(Settings):
    """A table of settings."""

    round_count: PositiveInt = 1
    sizes: PositiveInt | tuple[int, ...] | tuple[tuple[int, ...], ...] = 1
    weight: Weight | Literal["lambda"] = 1.0
    encoding: Literal["factors", "dense", "none"] = "factors"
    name: str | None = Field(None, max_length=3)


class Job(Settings):
    """Settings with tables."""

    run: Run
    runs: tuple[Run, ...] = ()
    by_name: dict[str, Run] = Field(default_factory=dict)


def refusal(values: object) -> ValidationError:
    """Return pydantic's error."""
    with pytest.raises(ValidationError) as caught:
        Job.model_validate(values, strict=False)
    return caught.value


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "`run`: is missing; wanted a table"),
        ({"run": 3}, "`run`: wanted a table, got 3"),
        ({"run": {}, "runs": 3}, "`runs`: wanted a list of tables, got 3"),
        (
            {"run": {"round_cuont": 2}},
            "`run.round-cuont`: unknown key; did you mean `run.round-count`?",
        ),
        (
            {"run": {}, "encodin": 2},
            "`encodin`: unknown key; did you mean `run.encoding`?",
        ),
        (
            {"run": {}, "zzz": 2},
            "`zzz`: unknown key; known are `run`, `runs`, `by-name`",
        ),
        (
            {"run": {"round_count": 0}},
            "`run.round-count`: wanted a number greater than 0, got 0",
        ),
        (
            {"run": {"round_count": 1.5}},
            "`run.round-count`: wanted a whole number, got 1.5",
        ),
        (
            {"run": {"weight": "lamda"}},
            "`run.weight`: wanted a number or 'lambda', got 'lamda'; "
            "did you mean 'lambda'?",
        ),
        (
            {"run": {"weight": -1}},
            "`run.weight`: wanted a number greater than or equal to 0 or 'lambda', "
            "got -1",
        ),
        (
            {"run": {"encoding": "dens"}},
            "`run.encoding`: wanted 'factors', 'dense' or 'none', got 'dens'; "
            "did you mean 'dense'?",
        ),
        (
            {"run": {"encoding": True}},
            "`run.encoding`: wanted 'factors', 'dense' or 'none', got true",
        ),
        (
            {"run": {"sizes": [1, "b"]}},
            "`run.sizes`: wanted a whole number, a list of whole numbers or a list of "
            "lists of whole numbers, got [1, 'b']",
        ),
        (
            {"run": {"name": "long"}},
            "`run.name`: string should have at most 3 characters, got 'long'",
        ),
        (
            {"run": {}, "by_name": {"a": {"nmae": "x"}}},
            "`by-name.a.nmae`: unknown key; did you mean `by-name.a.name`?",
        ),
    ],
)
def test_a_fault_names_the_key_what_was_wanted_and_what_came(
    values: dict[str, object], said: str
) -> None:
    """However pydantic spreads it over the branches of a union."""
    faults = find_faults(refusal(values), Job, SETTINGS)
    assert [str(fault) for fault in faults] == [said]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (RECORD, "`run`: wanted an object, got 3."),
        (HYPERPARAMETERS, "`run`: wanted a table, got 3."),
    ],
)
def test_parts_are_called_as_the_document_calls_them(
    document: Document, said: str
) -> None:
    """A JSON record has objects and fields, a TOML file tables and keys."""
    assert explain(refusal({"run": 3}), Job, document) == said
    misspelt = explain(refusal({"run": {"round_cuont": 2}}), Job, document)
    assert misspelt == (
        f"`run.round_cuont`: unknown {document.field}; did you mean `run.round_count`?"
    )


def test_several_faults_are_one_line_with_where_each_was_written() -> None:
    """At most three, and the number of those left out."""
    wrong = {"run": {"round_count": 0, "weight": "x", "sizes": 0, "encoding": "y"}}
    faults = find_faults(refusal(wrong), Job, SETTINGS)
    assert len(faults) == 4
    said = explain_all(faults, lambda key: f"file {key}")
    assert said.startswith("file run.round-count: `run.round-count`: wanted ")
    assert said.count("; file ") == MAX_SHOWN_FAULTS - 1
    assert said.endswith(" (and 1 more)")
    assert "more)" not in explain_all(faults[:MAX_SHOWN_FAULTS])


def test_a_part_of_a_document_is_named_with_its_table() -> None:
    """The class that refused knows nothing of the table it describes."""
    with pytest.raises(ValidationError) as caught:
        Run.model_validate({"nmae": "x"})
    (fault,) = find_faults(caught.value, Run, SETTINGS, within="merge")
    assert str(fault) == "`merge.nmae`: unknown key; did you mean `merge.name`?"


def test_without_a_form_the_place_and_the_kind_are_still_named() -> None:
    """As for lists that no class describes."""
    assert explain(refusal({"run": {"weight": "x"}})).startswith("`run.weight.")
    assert explain(refusal({"run": 3})) == "`run`: wanted an object, got 3."


@given(text=st.text())
def test_what_came_is_one_short_line(text: str) -> None:
    """Whatever it is."""
    said = explain(refusal({"run": text}), Job)
    assert len(said.splitlines()) == 1
    assert len(said) < 100


def test_a_near_name_is_suggested_and_a_far_one_not() -> None:
    """Under the name by which it is to be written."""
    known = {"layers": "editing.layers", "v_lr": "editing.v_lr"}
    assert suggest("layer", known) == "; did you mean `editing.layers`?"
    assert suggest("zzz", known) == ""


def test_tables_are_distinguished_from_plain_values() -> None:
    """By the class of the field."""
    fields = Job.model_fields
    assert inner_model(fields["run"]) is Run
    assert inner_model(fields["runs"]) is None
    assert inner_model(None) is None
