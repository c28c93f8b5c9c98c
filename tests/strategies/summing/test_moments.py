"""A covariance of all parties' texts, without the server seeing one party's moment."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import RecordDict

from strategies.summing.moments import TOGETHER
from strategies.summing.pooled import ImpossibleSumError
from strategies.wire.messages import Phase
from tests.clients.nodes import own_files
from tests.federation import Federation, on_phase
from tests.laws import ALGEBRA, assert_same

Make = Callable[..., Federation]

TABLES = {
    "prior": {"covariance": "federated"},
    "parties": {"requests-per-round": 1},
}


def test_masked_moments_give_the_plain_covariance(federate: Make) -> None:
    """Simulated parties share one text; of each nothing but a masked sum leaves."""
    plain = federate(**TABLES).preparation
    federation = federate(privacy={"secure-sum": True}, **TABLES)
    secure = federation.preparation
    assert plain.covariance.moments.keys() == secure.covariance.moments.keys()
    for layer, moment in secure.covariance.moments.items():
        assert_same(moment, plain.covariance.moments[layer], ALGEBRA)
    assert secure.shares is not None
    assert plain.shares is not None
    total = sum(plain.shares.tokens.values())
    assert secure.shares.tokens == {TOGETHER: total}
    assert secure.covariance.provenance.tokens == total
    sent = federation.replies(Phase.MOMENTS)
    assert [set(reply.content) for reply in sent] == [{"statistics"}] * 3


def test_parties_with_files_of_their_own_share_a_secret_rotation(
    federate: Make, tmp_path: Path
) -> None:
    """Real nodes derive it from their key; the update is that of a simulation."""
    nodes = own_files(tmp_path)
    tables = {"parties": {"requests-per-round": 2}}
    plain = federate(nodes, **tables).delta()
    found = federate(nodes, privacy={"secure-sum": True}, **tables).delta()
    for name, update in found.items():
        assert_same(update, plain[name], ALGEBRA)
        assert not torch.equal(update, plain[name])


def test_a_false_moment_stops_the_run(federate: Make) -> None:
    """A sum that no texts can have is not used."""
    federation = federate(privacy={"secure-sum": True}, **TABLES)

    def spoil(content: RecordDict) -> None:
        record = content.array_records["statistics"]
        for name in record:
            record[name] = type(record[name])(record[name].numpy() - (1 << 40))

    federation.tampers[1] = on_phase(Phase.MOMENTS, spoil)
    with pytest.raises(ImpossibleSumError, match="does not show whose"):
        assert federation.preparation
