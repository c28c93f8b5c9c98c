"""An audit of a run's files says what each observer could tell."""

import json
import stat
from pathlib import Path

import pytest

from sims.audit.audit import Audit, Line, audit_run
from sims.audit.observers import PARTY, SUM, UPDATE
from sims.audit.tables import lay_out, name_accepted
from strategies.scenario import FlatValue
from tests.federation import write_json
from tests.server.runs import Runs
from tests.sims.cli.test_main import exit_code

KEPT: dict[str, FlatValue] = {"statistics": True}


def simulated(runs: Runs, **tables: dict[str, FlatValue]) -> str:
    """Run with half of the world's requests, and gather a case as a simulation does."""
    runs.run(**tables)
    (runs.output / "case_100.json").write_text("{}")
    return str(runs.world / "requests.json")


def lines_of(found: Audit) -> dict[tuple[str, str], tuple[object, ...]]:
    """Give what matters of each line."""
    return {
        (each.observer, each.test): (each.right, each.recall, each.false_alarms)
        for each in found.lines
    }


def test_server_and_holder_of_the_update_tell_every_guess(runs: Runs) -> None:
    """Whose it is only who sees single parties."""
    guesses = simulated(runs, output=KEPT)
    found = audit_run(runs.output, guesses)
    assert lines_of(found) == {
        (PARTY, "span"): (6, 1, 0),
        (PARTY, "leverage"): (6, 1, 0),
        (SUM, "span"): (6, 1, 0),
        (SUM, "leverage"): (6, 1, 0),
        (UPDATE, "span"): (6, 1, 0),
        (UPDATE, "movement"): (6, None, None),
    }
    assert found.edits == 6
    assert found.objects.keys() == {"the subject alone", "the whole prompt"}
    assert found.chance is not None
    edited = [each for each in found.lines if each.test == "span"]
    assert {len(each.named) for each in edited} == {6}
    assert len({each.named for each in edited}) == 1
    row = [PARTY, "span", "36", "6", "6", "100.0 %", "0.0 %", "1.000"]
    assert row in lay_out(found).rows


def test_a_run_that_kept_nothing_is_tested_by_its_update(runs: Runs) -> None:
    """And the audit says what is missing."""
    guesses = simulated(runs)
    found = audit_run(runs.output, guesses)
    assert lines_of(found).keys() == {(UPDATE, "span"), (UPDATE, "movement")}
    assert "output.statistics" in found.notes[0]


def test_where_the_requests_are_elsewhere_nobody_says_who_is_right(
    runs: Runs,
) -> None:
    """The verdicts are there; a deployment has no more."""
    runs.run(output=KEPT)
    found = audit_run(runs.output, str(runs.world / "requests.json"))
    assert found.objects == {}
    assert found.notes[-1].startswith("The parties' requests are not here")
    assert {each.accepted for each in found.lines if each.test == "span"} == {6}
    assert {each.recall for each in found.lines} == {None}


def test_the_command_writes_for_its_owner_alone(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guesses may be any file of requests, right or wrong."""
    simulated(runs, output=KEPT)
    source = json.loads((runs.world / "requests.json").read_text())
    guesses = write_json(tmp_path / "guesses.json", source[:2] + source[-3:])
    file = tmp_path / "audit.json"
    typed = ("audit", str(runs.output), "--guesses", str(guesses))
    assert exit_code(*typed, "--output", str(file)) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = json.loads(file.read_text())
    assert [line["guesses"] for line in found["lines"][:1]] == [15]
    out = capsys.readouterr().out
    assert "holder of the update" in out
    for guess in (each for line in found["lines"] for each in line["named"]):
        assert repr(guess) in out
    assert "Objects of the run's own requests" in out
    assert exit_code(*typed, "--output", str(file)) == 2


def test_twenty_accepted_guesses_are_named_and_the_others_counted() -> None:
    """In the tests that accept any; controls are escaped."""
    names = [f"guess \x1b {number}" for number in range(23)]
    span = Line(
        observer=UPDATE, test="span", accepted=23, guesses=23, named=tuple(names)
    )
    ranked = Line(observer=UPDATE, test="movement", accepted=None, guesses=23)
    found = Audit(run="run", layer=0, widths=(1, 1), edits=23, lines=(span, ranked))
    (line,) = name_accepted(found)
    for number, name in enumerate(names):
        assert (repr(name) in line) == (number < 20)
    assert line.endswith("; and 3 more")
