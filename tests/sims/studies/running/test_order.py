"""What a study is run with."""

from pathlib import Path

from sims.studies.running.order import Order


def test_the_command_runs_the_study_again() -> None:
    """With all that was given."""
    order = Order(Path("my file.toml"), ("run.rounds=3",), (0, 2), "flower")
    assert order.command("overlap") == (
        "python -m sims study overlap --seeds 0,2 --scenario 'my file.toml' "
        "--set run.rounds=3 --engine flower"
    )


def test_the_studys_own_options_are_found_by_their_names() -> None:
    """None where the study was given none."""
    assert Order(options=("--skip-known", "0.2")).own == {"--skip-known": "0.2"}
    assert Order().own == {}
