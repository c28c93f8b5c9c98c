"""Trials of attacks and audits, and what is read off them."""

from dataclasses import replace
from pathlib import Path

import pytest

from editing.base.errors import InputError
from server.report.data import LeftOutParty, RoundMetrics
from sims.audit.audit import Audit, Line
from sims.studies.study import TrialResult
from sims.studies.trust import study
from sims.studies.trust.attacks import ATTACKS
from sims.studies.trust.hostile import STOPPED
from sims.studies.trust.study import CHECKS, GATED, OTHERS, UNCHECKED, Trust
from tests.sims.studies.made_up import configure, make_pool, result_of

STUDY = Trust()
SMALL = ("parties.count=3", "parties.requests-per-round=2")
REFUSED, BROKEN = "residuals × 10", "longest residuals"


def audited(_: Path, guesses: str) -> Audit:
    """An audit in which one party's statistics tell all, and their sum nothing."""
    assert guesses == "embedded"
    lines = [
        Line(observer=observer, test="span", accepted=1, guesses=2, auc=auc, recall=auc)
        for observer, auc in (("server, one party", 1.0), ("server, the sum", 0.5))
    ]
    return Audit(run="r", layer=0, widths=(2, 3), edits=6, lines=tuple(lines))


def make_results(folder: Path) -> list[TrialResult]:
    """Two attacks destroy all; one is refused by a bound, one stopped by the gate."""
    found = []
    for trial in STUDY.trials(make_pool(6), configure(STUDY, *SMALL), 0):
        own = folder / trial.name
        own.mkdir()
        attack, check = trial.attack, trial.labels.get("checks")
        refused = attack == REFUSED and check != UNCHECKED
        stopped = attack == BROKEN and check == GATED
        left_out = (LeftOutParty(node=2, reason="too long", name="party 2"),)
        metrics = RoundMetrics(
            held_out_acc=10.0 if attack == BROKEN and not stopped else 90.0,
            refusals=left_out if refused else (),
        )
        if stopped:
            (own / STOPPED).write_text('{"named": [2]}')
        harmed = attack in {REFUSED, BROKEN} and not refused and not stopped
        score = 40.0 if harmed else 95.0
        measured = {OTHERS: {"score": score, "rewrite_success": score}}
        result = result_of(trial, [metrics], own)
        found.append(replace(result, evaluated=measured if attack else {}))
    return found


def test_every_attack_meets_every_check() -> None:
    """Two more trials are honest, and audited; all have the same requests."""
    trials = STUDY.trials(make_pool(6), configure(STUDY, *SMALL), 0)
    assert len(trials) == len(ATTACKS) * len(CHECKS) + 2
    assert len({trial.requests for trial in trials}) == 1
    assert len({trial.name for trial in trials}) == len(trials)
    hostile = [trial for trial in trials if trial.attack]
    assert all(STUDY.executor(trial) is not None for trial in hostile)
    honest = [trial for trial in trials if not trial.attack]
    assert [STUDY.executor(trial) for trial in honest] == [None, None]
    others = [request.subject for request in hostile[0].evaluated[OTHERS]]
    assert others == [request.subject for request in hostile[0].requests[:4]]


def test_two_parties_are_too_few() -> None:
    """The message says which are needed."""
    with pytest.raises(InputError, match="three parties or more"):
        STUDY.trials(make_pool(6), configure(STUDY, "parties.count=2"), 0)


def test_what_checks_save_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what became of the party, and what observers learn."""
    monkeypatch.setattr(study, "audit_run", audited)
    frame = STUDY.tabulate(make_results(tmp_path))
    rows = frame[frame["part"] == "attack"].set_index(["attack", "checks"])
    assert rows.loc[(REFUSED, "bounds"), "outcome"] == "refused: party 2"
    assert rows.loc[(BROKEN, GATED), "outcome"] == "stopped, repeated without 2"
    assert rows.loc[(BROKEN, "bounds"), "outcome"] == "accepted"
    scores, facts, observers = STUDY.draw(frame)
    assert list(scores.table.loc[BROKEN]) == [
        40,
        40,
        95,
        "stopped, repeated without 2",
    ]
    assert list(facts.table.loc[BROKEN])[:3] == [10, 10, 90]
    assert list(observers.table["auc"]) == [100, 50, 100, 50]
    said = STUDY.state(frame)
    assert f"With no check, the worst for the score is “{REFUSED}”: 40.0" in said
    assert f"With bounds, the worst for the score is “{BROKEN}”: 40.0, and 95.0" in said
    assert "server, one party 100.0 (span) and server, the sum 50.0 (span)" in said
