"""The covariance of all parties' texts is that of the whole text on one machine."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, RecordDict
from flwr.serverapp.exception import AggregationError

from editing.base.errors import InputError
from server.federated_covariance import TextShares
from server.preparation import Preparation
from strategies.wire.failures import write_failure
from strategies.wire.messages import Phase
from tests.federation import TEXT, Federation, on_phase
from tests.laws import ALGEBRA, assert_same
from tests.tiny import LAYERS

Make = Callable[..., Federation]

FEDERATED = {"covariance": "federated"}


def state(name: str, value: float | str | bool) -> Callable[[RecordDict], None]:
    """Put a fact in the place of an honest one."""

    def change(content: RecordDict) -> None:
        content.config_records["facts"][name] = value

    return change


def assert_same_covariance(ours: Preparation, theirs: Preparation) -> None:
    """Hold ``C₀`` of every layer to a tolerance, and the tokens to the number."""
    assert tuple(ours.covariance.moments) == LAYERS
    for layer in LAYERS:
        expected = theirs.covariance.moments[layer]
        assert_same(ours.covariance.moments[layer], expected, ALGEBRA)
    made, other = ours.covariance.provenance, theirs.covariance.provenance
    assert made.tokens == other.tokens
    assert made.fingerprint == other.fingerprint
    assert (made.ranks, made.ridges) == (other.ranks, other.ridges)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_the_covariance_of_shared_out_text_is_the_server_s_own(
    federate: Make, count: int
) -> None:
    """The union law through the protocol, with parties that have no text among them."""
    parties = {"count": count, "requests-per-round": 1}
    ours = federate(parties=parties, prior=FEDERATED).preparation
    assert_same_covariance(ours, federate(parties=parties).preparation)
    assert ours.shares is not None
    assert tuple(ours.shares.tokens) == tuple(range(count))
    assert sum(ours.shares.tokens.values()) == ours.covariance.provenance.tokens
    empty = sum(tokens == 0 for tokens in ours.shares.tokens.values())
    assert empty == max(0, count - len(TEXT))


@pytest.mark.parametrize("cuts", [(1, 2), (0, 4), (3, 3), (2, 5)])
def test_the_covariance_of_any_split_into_files_is_the_server_s_own(
    federate: Make, tmp_path: Path, cuts: tuple[int, int]
) -> None:
    """Each party's text lies at the party alone."""
    configs = {}
    for party, texts in enumerate(split(cuts)):
        file = tmp_path / f"{party}.txt"
        file.write_text("".join(f"{text}\n" for text in texts))
        configs[party] = {"text-path": str(file)}
    prior = {**FEDERATED, "text": "/no/text/at/all"}
    ours = federate(node_configs=configs, prior=prior).preparation
    assert_same_covariance(ours, federate().preparation)


def split(cuts: tuple[int, int]) -> list[tuple[str, ...]]:
    """Cut the text in three."""
    return [TEXT[: cuts[0]], TEXT[cuts[0] : cuts[1]], TEXT[cuts[1] :]]


def test_sums_are_in_the_order_of_the_parties(federate: Make) -> None:
    """Whatever numbers their nodes have, the bits are the same."""
    ours = federate(prior=FEDERATED).preparation
    theirs = federate(prior=FEDERATED, places=(9, 7, 8)).preparation
    for layer in LAYERS:
        assert torch.equal(
            ours.covariance.moments[layer], theirs.covariance.moments[layer]
        )
    assert ours.shares == theirs.shares


def test_one_exchange_asks_every_party_once(federate: Make) -> None:
    """Before the first round, and for nothing in it."""
    federation = federate(prior=FEDERATED)
    federation.run()
    assert len(federation.nodes_asked(Phase.MOMENTS)) == 3
    asked = [message.metadata.message_type for message in federation.messages]
    assert asked.index(Phase.MOMENTS) < asked.index(Phase.TARGETS)
    plain = federate()
    plain.run()
    assert plain.nodes_asked(Phase.MOMENTS) == []


def spoil(content: RecordDict) -> None:
    """Claim a text of other keys."""
    for array in list(content.array_records["moments"]):
        content.array_records["moments"][array] = Array(np.full((2, 24), np.nan))


def fail(content: RecordDict) -> None:
    """Report that there is no memory for the text."""
    content.clear()
    content.update(write_failure("not enough memory"))


def cannot_be_used(content: RecordDict) -> None:
    """Report that the text cannot be used."""
    content.clear()
    content.update(write_failure("texts that cannot be used"))


def stretch(content: RecordDict) -> None:
    """Claim keys of an absurd length."""
    record = content.array_records["moments"]
    for name in list(record):
        record[name] = Array(1e15 * record[name].numpy())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (spoil, "finite|shape"),
        (fail, "not enough memory"),
        (stretch, "keys of norm .*max-key-ratio"),
        (state("tokens", 10**9), "keys of norm .*max-key-ratio"),
        (state("tokens", 10**15), "2\\^40 at most"),
    ],
)
def test_a_party_that_is_refused_does_not_stop_the_run(
    federate: Make,
    tmp_path: Path,
    change: Callable[[RecordDict], None],
    reason: str,
) -> None:
    """The others' texts are averaged, the missing one is named, and all go on."""
    federation = federate(prior=FEDERATED)
    federation.tampers[1] = on_phase(Phase.MOMENTS, change)
    found = federation.preparation
    file = tmp_path / "others.txt"
    # Of five texts, the second of three parties has the second and third.
    file.write_text("\n".join((*TEXT[:1], *TEXT[3:])))
    assert_same_covariance(found, federate(prior={"text": str(file)}).preparation)
    assert found.shares is not None
    assert tuple(found.shares.tokens) == (0, 2)
    (left_out,) = found.shares.left_out
    assert left_out.startswith("party 1: ")
    assert re.search(reason, left_out)
    federation.run()
    assert federation.nodes_asked(Phase.TARGETS) == list(federation.contexts)


def test_without_any_text_the_run_stops_and_says_what_to_set(
    federate: Make, tmp_path: Path
) -> None:
    """There is nothing to average."""
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    federation = federate(prior={**FEDERATED, "text": str(empty)})
    with pytest.raises(AggregationError, match=r"text-path.*nobody"):
        _ = federation.preparation
    federation = federate(prior=FEDERATED)
    federation.tampers |= dict.fromkeys(range(3), on_phase(Phase.MOMENTS, fail))
    with pytest.raises(AggregationError, match="party 1: it reported not enough"):
        _ = federation.preparation


def test_a_party_whose_text_cannot_be_used_ends_the_run(federate: Make) -> None:
    """Its operator can correct the file; an average without it is another prior."""
    federation = federate(prior=FEDERATED)
    federation.tampers[1] = on_phase(Phase.MOMENTS, cannot_be_used)
    with pytest.raises(InputError, match="party 1 is wrong: it reported texts that"):
        _ = federation.preparation


def test_too_few_parties_stop_the_run(federate: Make) -> None:
    """As in any round; a party without a text is not missing."""
    enough = {"min-parties": 3}
    federation = federate(prior=FEDERATED, run=enough)
    federation.tampers[0] = on_phase(Phase.MOMENTS, fail)
    with pytest.raises(AggregationError, match=r"2 parties left and needs 3"):
        _ = federation.preparation
    parties = {"count": 7, "requests-per-round": 1}
    found = federate(prior=FEDERATED, parties=parties, run={"min-parties": 7})
    shares = found.preparation.shares
    assert isinstance(shares, TextShares)
    assert shares.left_out == ()


def test_no_text_leaves_a_node(federate: Make, tmp_path: Path) -> None:
    """Sums and counts do."""
    file = tmp_path / "secret.txt"
    file.write_text("Gus Rivers works for Acme Group and plays every harp in Rome\n")
    federation = federate(node_configs={1: {"text-path": str(file)}}, prior=FEDERATED)
    _ = federation.preparation
    said = federation.said()
    assert b"moments" in said
    for word in (b"Gus", b"Rivers", b"harp", b"secret"):
        assert word not in said


def test_nothing_but_the_count_and_the_sum_is_sent(federate: Make) -> None:
    """Half a matrix, or a row a token: what crosses the wire is known by its names."""
    federation = federate(prior=FEDERATED)
    _ = federation.preparation
    for reply in federation.replies(Phase.MOMENTS):
        content = reply.content
        assert set(content) == {"moments", "facts"}
        assert set(content["facts"]) == {"tokens", "single"}
        forms = {name.split(".")[1] for name in content["moments"]}
        assert forms <= {"triangle", "factor"}
