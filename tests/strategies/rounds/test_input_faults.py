"""A party whose own input is wrong ends the run; it is not left out of it."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from editing.base.errors import InputError
from strategies.rounds.parties import PartyInputError
from strategies.wire.failures import INPUT_FAILURES, Failure
from strategies.wire.messages import Phase
from tests.federation import AT_ONCE, Federation, Recorder, on_phase
from tests.strategies.rounds.test_registry import attend
from tests.strategies.wrongs import disturb, failing, introduced

Make = Callable[..., Federation]

OTHER = {"weights": "another", "tokenizer": "another"}


@pytest.mark.parametrize("failure", sorted(INPUT_FAILURES))
def test_every_fault_of_input_ends_the_run_with_party_and_class(
    federate: Make, failure: Failure
) -> None:
    """Nothing is edited, and the exchange is on record."""
    federation = federate(editing=AT_ONCE, node_configs={1: {"name": "hospital-b"}})
    disturb(federation, Phase.TARGETS, failing(failure))
    recorder = Recorder()
    with pytest.raises(PartyInputError) as caught:
        federation.run(callbacks=recorder)
    assert isinstance(caught.value, InputError)
    start = f"The input of hospital-b is wrong: it reported {failure}."
    assert str(caught.value).startswith(start)
    assert str(caught.value).isprintable()
    assert recorder.rounds == []
    assert federation.strategy.delta == {}
    last = recorder.exchanges[-1]
    assert (last.name, last.outcome) == ("hospital-b", f"it reported {failure}")


@pytest.mark.parametrize("phase", [Phase.DESCRIBE, Phase.STATISTICS, Phase.EVALUATE])
def test_a_fault_of_input_ends_the_run_in_any_phase(
    federate: Make, phase: Phase
) -> None:
    """A file may be replaced while the run goes on."""
    federation = federate()
    disturb(federation, phase, failing("requests that are malformed"))
    with pytest.raises(PartyInputError, match="requests that are malformed"):
        federation.run()


@pytest.mark.parametrize(
    "failure",
    sorted(set(get_args(Failure)) - INPUT_FAILURES - {"updates that are missing"}),
)
def test_other_failures_leave_the_party_out(federate: Make, failure: Failure) -> None:
    """They may pass by the next round."""
    federation = federate(editing=AT_ONCE)
    disturb(federation, Phase.TARGETS, failing(failure))
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.reason == f"it reported {failure}"


def test_a_run_does_not_begin_without_a_party_of_another_model(federate: Make) -> None:
    """Its operator gave it other files, which can be corrected before any work."""
    federation = federate(editing=AT_ONCE, node_configs={1: {"name": "hospital-b"}})
    disturb(federation, Phase.DESCRIBE, introduced(identity=OTHER))
    with pytest.raises(PartyInputError, match=r"hospital-b .* weights, tokenizer"):
        federation.run()
    assert federation.nodes_asked(Phase.TARGETS) == []


def test_a_node_that_fails_in_its_handshake_is_named_all_the_same(
    federate: Make, tmp_path: Path
) -> None:
    """A model that cannot be loaded is found before anything else is said."""
    nodes = {1: {"model-path": str(tmp_path), "name": "hospital-b"}}
    federation = federate(editing=AT_ONCE, node_configs=nodes)
    with pytest.raises(PartyInputError, match=r"hospital-b .* model that cannot be"):
        federation.run()
    unnamed = federate(editing=AT_ONCE, node_configs={1: {"model-path": str(tmp_path)}})
    with pytest.raises(PartyInputError, match=r"party 1 .* model that cannot be"):
        unnamed.run()


@pytest.mark.parametrize("reports", [False, True], ids=["other", "failing"])
def test_a_late_node_that_cannot_join_does_not_end_a_run_that_has_begun(
    federate: Make, *, reports: bool
) -> None:
    """It has contributed nothing, and the rounds so far are worth something."""
    federation = federate(
        editing=AT_ONCE, run={"rounds": 2}, parties={"requests-per-round": 1}
    )
    federation.awaited = 2
    attend(federation, (0, 1), (0, 1), (0, 1, 2))

    change = (
        failing("a model that cannot be loaded")
        if reports
        else introduced(identity=OTHER)
    )
    federation.tampers[2] = on_phase(Phase.DESCRIBE, change)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[2].refusals
    assert refusal.node == federation.node(2)
    assert strategy.completed == 2
