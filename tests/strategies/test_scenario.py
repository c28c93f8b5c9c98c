"""Laws of the shared settings and of their flat form."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from editing.base.errors import InputError
from editing.base.settings import Settings
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.scenario import FlatValue, ModelConfig, flatten, nest


class Everything(Settings):
    """A field of every kind that settings have."""

    text: str
    number: float
    whole_number: int
    yes: bool
    several: tuple[int, ...] | int
    by_name: dict[str, JsonValue]
    unset: str | None = None
    requests: RequestsConfig
    model: ModelConfig


json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
settings = st.builds(
    Everything,
    # An empty text means "unset", so no field may need one.
    text=st.text(min_size=1) | st.sampled_from(['"quoted"', "[list]", "{", "a=b"]),
    number=st.floats(allow_nan=False, allow_infinity=False),
    whole_number=st.integers(),
    yes=st.booleans(),
    several=st.integers() | st.lists(st.integers()).map(tuple),
    by_name=st.dictionaries(st.text(), json_values),
    unset=st.none() | st.text(min_size=1),
    requests=st.builds(RequestsConfig, limit=st.none() | st.integers(1, 9)),
    model=st.builds(ModelConfig, path=st.text(min_size=1)),
)


@given(written=settings)
def test_nesting_undoes_flattening(written: Everything) -> None:
    """Whatever the settings hold, nothing is lost on the way through Flower."""
    assert Everything.model_validate(nest(flatten(written))) == written


@given(written=settings)
def test_flat_values_are_what_flower_carries(written: Everything) -> None:
    """Kebab-case keys; texts, numbers and booleans alone."""
    for key, value in flatten(written).items():
        assert "_" not in key
        assert type(value) in {str, int, float, bool}


def test_an_empty_text_leaves_the_default() -> None:
    """Flower cannot carry None."""
    nested = nest({"requests.limit": "", "requests.seed": 3})
    assert nested == {"requests": {"seed": 3}}


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"parties.requests-per-round": "[1, 2"}, "`parties.requests-per-round`.*JSON"),
        ({"run": 1, "run.rounds": 2}, "`run.rounds`.*`run` is a value"),
        ({"run.rounds": 2, "run": 1}, "`run`: given twice"),
        ({"run.min-parties": 1, "run.min_parties": 2}, "given twice"),
    ],
)
def test_broken_flat_tables_are_refused(
    flat: Mapping[str, FlatValue], message: str
) -> None:
    """The key is named."""
    with pytest.raises(InputError, match=message):
        nest(flat)


@given(count=st.integers(1, 9), each=st.integers(1, 9))
def test_one_number_is_the_size_of_every_party(count: int, each: int) -> None:
    """As a list of equal sizes is."""
    alike = PartiesConfig(count=count, requests_per_round=each)
    listed = PartiesConfig(count=count, requests_per_round=(each,) * count)
    assert alike.sizes_of(1) == listed.sizes_of(3) == (each,) * count


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((1, 2), "2 sizes for 3 parties"), ((1, 0, 2), "party 1 .*allow-empty")],
)
def test_sizes_must_fit_the_parties(sizes: tuple[int, ...], message: str) -> None:
    """The message says what to change."""
    with pytest.raises(ValidationError, match=message):
        PartiesConfig(count=3, requests_per_round=sizes)


def test_a_party_may_be_empty_when_said_so() -> None:
    """More parties than requests is a choice, not an accident."""
    parties = PartiesConfig(count=2, requests_per_round=(3, 0), allow_empty=True)
    assert parties.sizes_of(1) == (3, 0)


@given(
    listed=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=4
    ),
    number=st.integers(1, 9),
)
def test_sizes_may_differ_by_round_and_the_last_hold_for_all_later_ones(
    listed: list[tuple[int, int]], number: int
) -> None:
    """The form survives Flower's flat table."""
    given = PartiesConfig(count=2, requests_per_round=tuple(listed), allow_empty=True)
    assert given.sizes_of(number) == listed[min(number, len(listed)) - 1]
    flat = json.loads(str(flatten(given)["requests-per-round"]))
    again = PartiesConfig(
        count=2, requests_per_round=tuple(map(tuple, flat)), allow_empty=True
    )
    assert again == given


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"requests_per_round": ((1, 2), (1,))}, "1 sizes for 2 parties"),
        ({"requests_per_round": ((1, 2), (0, 1))}, "party 0 .*allow-empty"),
        ({"priority": (0, 0)}, "each at most once"),
        ({"priority": (2,)}, "0 to 1"),
        ({"conflicts": "priority"}, "wants `priority`"),
        ({"count": 1, "overlap": 1}, "need a next party"),
        ({"requests_per_round": (9, 3), "overlap": 4}, "ask for 4 of a party's 3"),
        ({"overlap": 0.6, "planted_conflicts": 5}, "ask for 11 of a party's 10"),
        ({"alpha": 0.0}, "greater than"),
        ({"overlap": 1.5}, "less than or equal to 1"),
        ({"overlap": -1}, "greater than or equal to 0"),
    ],
)
def test_rounds_and_rankings_must_fit_the_parties(
    settings: dict[str, object], message: str
) -> None:
    """The message says what to change."""
    with pytest.raises(ValidationError, match=message):
        PartiesConfig.model_validate({"count": 2, **settings})


@pytest.mark.parametrize("amount", [0, 1, 2, 0.0, 0.25, 1.0])
def test_one_request_and_all_of_them_stay_apart(amount: float) -> None:
    """1 counts and 1.0 is a share, in the flat form and in JSON, strict or not."""
    given = PartiesConfig(count=2, overlap=amount, planted_conflicts=0)
    flat = nest(flatten(given))
    for strict in (False, True):
        read = PartiesConfig.model_validate_json(json.dumps(flat), strict=strict)
        assert read == given
        assert type(read.overlap) is type(amount)
    wanted = amount if isinstance(amount, int) else int(10 * amount)
    assert given.most_of(1) == (10 + wanted, 10 + wanted)


@pytest.mark.parametrize(
    ("settings", "compares"),
    [
        ({}, False),
        ({"skip_known": 0.1}, False),
        ({"deduplicate": True}, True),
        ({"conflicts": "none"}, True),
        ({"conflicts": "drop"}, True),
    ],
)
def test_tokens_are_compared_only_where_somebody_asked_for_it(
    settings: dict[str, object], compares: bool
) -> None:
    """They tell the server something, and cost an exchange."""
    assert PartiesConfig.model_validate(settings).compares_tokens == compares
