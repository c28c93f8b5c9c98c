"""The law of every editor: parties together are one machine, over splits and rounds."""

import json
from collections.abc import Callable

import pytest
from torch import Tensor

from editing.base.errors import InputError
from editing.editors.choice import EDITORS, MEMIT, EditorChoice
from strategies.scenario import FlatValue
from tests.federation import (
    FLOAT32_PIPELINE,
    Federation,
    Recorder,
    assert_same_bits,
    assert_same_delta,
)
from tests.laws import ALGEBRA

Make = Callable[..., Federation]

SETTINGS: dict[str, dict[str, float]] = {
    "memit": {"ridge": 0.1},
    "alphaedit": {"threshold": 0.1, "ridge": 0.5},
    "betaedit": {"threshold": 0.1, "text_weight": 2.0, "ridge": 0.5, "renew_after": 3},
    "lyaplock": {"budget": 0.5},
    "emmet": {"slack": 0.3},
    "ultraedit": {"learning_rate": 0.02},
    "stableedit": {"learning_rate": 0.02},
}
"""Settings that matter on the tiny model; an editor without any has its own."""

JOINING = "[[1, 0, 2], [1, 1, 0], [0, 2, 1], [1, 0, 0]]"
"""Requests of three parties in four rounds; who has none is not there."""

SCHEDULES = {"layerwise": 2, "frozen-harmonic": 1, "frozen-uniform": 4, "boundary": 2}
"""After how many rounds the law is tested."""


def tables(name: str, schedule: str, rounds: int) -> dict[str, dict[str, FlatValue]]:
    """Choose an editor, and parties that come and go."""
    return {
        "editor": {"name": name, "settings": json.dumps(SETTINGS.get(name, {}))},
        "editing": {"schedule": schedule},
        "run": {"rounds": rounds},
        "parties": {"requests-per-round": JOINING, "allow-empty": True},
    }


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", EDITORS)
def test_parties_together_are_one_machine(
    federate: Make, name: str, schedule: str
) -> None:
    """Through the whole protocol, with parties that join and leave.

    A schedule of targets at two layers is refused where an editor has no targets.
    """
    chosen = tables(name, schedule, SCHEDULES[schedule])
    if schedule == "boundary" and EditorChoice(name=name).build().answers is not None:
        with pytest.raises(InputError, match=r"`editing\.schedule`: the editor"):
            federate(**chosen).delta()
        return
    federation = federate(**chosen)
    assert_same_delta(federation.delta(), federation.delta("global"), ALGEBRA)


@pytest.mark.parametrize("name", EDITORS)
def test_parties_together_are_one_machine_in_single_precision(
    federate: Make, name: str
) -> None:
    """To what float32 passes in other batches leave."""
    chosen = tables(name, "frozen-uniform", 2) | {"model": {"dtype": "float32"}}
    federation = federate(**chosen)
    assert_same_delta(federation.delta(), federation.delta("global"), FLOAT32_PIPELINE)


@pytest.mark.parametrize("name", EDITORS)
def test_a_run_resumes_with_what_its_editor_keeps(federate: Make, name: str) -> None:
    """Bit for bit, after each round."""
    whole, recorder = federate(**tables(name, "frozen-uniform", 3)), Recorder()
    strategy, _ = whole.run(callbacks=recorder)
    for state in recorder.states[:-1]:
        again = federate(**tables(name, "frozen-uniform", 3))
        found, _ = again.run(resume=state)
        assert_same_bits(found.delta, strategy.delta)


def test_editors_are_not_one_another(federate: Make) -> None:
    """Or a law would hold of nothing."""
    found: list[Tensor] = []
    for name in EDITORS:
        delta = federate(**tables(name, "frozen-uniform", 2)).delta()
        found.append(next(iter(delta.values())))
    for place, one in enumerate(found):
        for other in found[:place]:
            assert (one - other).norm() > 1e-3 * other.norm()


@pytest.mark.parametrize("name", [each for each in EDITORS if each != MEMIT])
@pytest.mark.parametrize("merge", ["task-arithmetic", "ties"])
def test_merges_that_solve_for_each_party_take_every_editor(
    federate: Make, name: str, merge: str
) -> None:
    """With one party, task arithmetic is pooling."""
    one = {"requests-per-round": "[[2]]", "count": 1}
    federation = federate(**tables(name, "frozen-uniform", 1) | {"parties": one})
    if merge == "task-arithmetic":
        assert_same_delta(federation.delta(merge), federation.delta(), ALGEBRA)
    else:
        assert all(bool(each.any()) for each in federation.delta(merge).values())


def test_the_budget_in_use_is_reported_after_every_round(federate: Make) -> None:
    """By an editor that has one, the last round included."""
    for name in ("lyaplock", "memit"):
        recorder = Recorder()
        federate(**tables(name, "frozen-uniform", 3)).run(callbacks=recorder)
        budgets = [each.outcome.budget for each in recorder.rounds]
        assert len(budgets) == 3
        assert all((each is not None) == (name == "lyaplock") for each in budgets)
        assert all(each is None or each >= 100 for each in budgets)
