"""Settings as a scenario."""

from pathlib import Path

from server.config import read_scenario
from sims.studies.running.scenario_file import write_scenario

SETTINGS = (
    'requests.source="a \\"pool\\" ü.json"',
    "parties.count=2",
    "parties.requests-per-round=[[1,2],[3,4]]",
    "merge.name=ties",
    "merge.density=0.25",
    "editor.name=alphaedit",
    "prior.memory-weight=0.5",
    "run.rounds=2",
    "evaluation.every=2",
)


def test_a_written_scenario_reads_as_the_settings_it_was_made_of(
    tmp_path: Path,
) -> None:
    """All of them, those of merges and editors included."""
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text("")
    overrides = (*SETTINGS, f"requests.source={tmp_path / 'pool ü.json'}")
    config = read_scenario(before, overrides)
    after.write_text(write_scenario(config, "pool ü.json"))
    assert read_scenario(after) == config
