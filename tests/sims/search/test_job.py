"""The command searches a tiny random model and writes what a run can read."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editing.base.errors import InputError
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig
from sims.cli.hyperparameters import app
from sims.search.bench import SEARCH, VALIDATION
from sims.search.job import SearchOrder, run_search
from sims.search.results import CHOSEN


def test_a_search_leaves_every_trial_and_the_hyperparameters(
    world: Path, tmp_path: Path
) -> None:
    """The same again for the same seed; a run takes the file as it is."""
    records = []
    for name in ("first", "second"):
        words = [
            "search",
            "--model",
            str(world),
            "--requests",
            str(world / "requests.json"),
        ]
        words += ["--count", "2", "--max-trials", "8", "--seed", "3"]
        words += ["--dtype", "float64", "--output", str(tmp_path / name)]
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 0, found.output
        assert f"Hyperparameters: {tmp_path / name / CHOSEN}" in found.output
        record = json.loads((tmp_path / name / "search.json").read_text())
        for trial in record["trials"]:
            trial.pop("seconds")
        records.append(record)
    assert records[0]["trials"] == records[1]["trials"]
    trials, parts = records[0]["trials"], records[0]["parts"]
    assert not set(parts[SEARCH]) & set(parts[VALIDATION])
    assert {each["part"] for each in trials} == {SEARCH, VALIDATION}
    chosen = next(each for each in trials if each["chosen"])
    config = EditingConfig(hyperparameters=str(tmp_path / "first" / CHOSEN))
    parameters = choose_hyperparameters(config, str(world)).parameters
    assert list(parameters.layers) == chosen["layers"]
    assert parameters.mom2_update_weight == chosen["mom2_update_weight"]
    assert parameters.clamp_norm_factor == chosen["clamp_norm_factor"]
    table = (tmp_path / "first" / "search.md").read_text().splitlines()
    assert len(table) == len(trials) + 2
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 3}, "--max-trials 3"),
        ({"requests": "missing.json"}, "missing.json"),
        ({"layers": "0-99"}, "--layers 0-99"),
    ],
)
def test_a_mistake_is_refused_and_nothing_is_left(
    changes: dict[str, object], message: str, world: Path, tmp_path: Path
) -> None:
    """In one line that names it."""
    values: dict[str, object] = {"model": str(world), "requests": "embedded"}
    order = SearchOrder(**{**values, **changes})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        run_search(order, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_exists_is_refused_at_once(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    found = CliRunner().invoke(app, ["search", "--output", str(tmp_path)])
    assert isinstance(found.exception, InputError)
    assert "never overwritten" in str(found.exception)
    assert "loading" not in found.output
