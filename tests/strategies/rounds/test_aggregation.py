"""Statistics are added up as they come, or kept apart, as the merge needs them."""

from typing import Literal

import pytest
import torch
from flwr.app import Message

from editing.algebra.encodings import EncodedStatistics, Encoding, decode, encode
from editing.algebra.statistics import (
    LayerStatistics,
    NormBounds,
    StatisticsError,
    pool,
)
from strategies.rounds.aggregation import Aggregation
from strategies.rounds.memory import Memory
from strategies.rounds.parties import Party
from strategies.rounds.registry import PartyRegistry
from strategies.rounds.state import EditedLayer, RoundOutcome
from strategies.wire.messages import write_statistics
from tests.laws import ALGEBRA, assert_same, draw_pairs
from tests.strategies.transport import over_the_wire

LAYERS, PARTIES = (1, 2), 3


def edited(layer: int) -> EditedLayer:
    """Say how wide a layer is."""
    keys, residuals = draw_pairs(2, seed=layer)
    memory = Memory(torch.eye(keys.shape[1]), 1.0, 1.0)
    return EditedLayer("w", residuals.shape[1], keys.shape[1], memory)


def reply_of(party: int) -> Message:
    """Send statistics of two layers."""
    parts = {k: encode(*draw_pairs(2, seed=10 * party + k), "dense") for k in LAYERS}
    return over_the_wire(write_statistics(parts, 1))


def expected(layer: int) -> list[LayerStatistics]:
    """Statistics of each party."""
    return [
        LayerStatistics.of_pairs(*draw_pairs(2, seed=10 * party + layer))
        for party in range(PARTIES)
    ]


@pytest.mark.parametrize("needs", ["sum", "each"])
def test_what_was_sent_is_there_in_order(needs: Literal["sum", "each"]) -> None:
    """One total, or a part for each party."""
    aggregation = Aggregation(
        1, LAYERS, {layer: edited(layer) for layer in LAYERS}, needs
    )
    for party in range(PARTIES):
        aggregation.add(aggregation.decode(reply_of(party)))
    for layer in LAYERS:
        parts = expected(layer)
        given = [pool(parts)] if needs == "sum" else parts
        assert len(aggregation.statistics(layer)) == len(given)
        for found, wanted in zip(aggregation.statistics(layer), given, strict=True):
            assert_same(found.cross, wanted.cross, ALGEBRA)
        assert_same(aggregation.pooled(layer).gram, pool(parts).gram, ALGEBRA)
        assert aggregation.pooled(layer).count == 2 * PARTIES


@pytest.mark.parametrize("edits", [1, 3])
def test_a_party_kept_apart_costs_its_rows_alone(edits: int) -> None:
    """``n (d_in + d_out)`` numbers, however wide the layer is."""
    wide = EditedLayer("w", 20, 80, Memory(torch.eye(80), 1.0, 1.0))
    aggregation = Aggregation(1, [1], {1: wide}, "each")
    for party in range(PARTIES):
        pairs = draw_pairs(edits, party, 80, 20)
        sent = write_statistics({1: encode(*pairs, "factors")}, 1)
        aggregation.add(aggregation.decode(over_the_wire(sent)))
    parts = aggregation.statistics(1)
    assert all(part.sums is None for part in parts)
    held = sum(part.keys.numel() + part.residuals.numel() for part in parts)
    assert held == PARTIES * edits * (80 + 20)


def test_of_a_reply_with_one_bad_layer_nothing_is_taken() -> None:
    """All layers speak of the same requests."""
    aggregation = Aggregation(1, LAYERS, {layer: edited(layer) for layer in LAYERS})
    aggregation.add(aggregation.decode(reply_of(0)))
    bad = reply_of(1)
    del bad.content.array_records["statistics"]["2.gram"]
    with pytest.raises(StatisticsError, match="layer 2"):
        aggregation.add(aggregation.decode(bad))
    assert aggregation.pooled(1).count == 2


def test_every_layer_of_a_reply_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Decoding checks that a gram is semidefinite, which costs most of the time."""
    widths: list[int] = []

    def count(
        sent: EncodedStatistics,
        d_in: int,
        d_out: int,
        bounds: NormBounds,
        wanted: Encoding | None,
    ) -> LayerStatistics:
        widths.append(d_in)
        return decode(sent, d_in, d_out, bounds, wanted)

    monkeypatch.setattr("strategies.rounds.aggregation.decode", count)
    edits = {layer: edited(layer) for layer in LAYERS}
    aggregation, registry = Aggregation(1, LAYERS, edits), PartyRegistry(1)
    registry.outcomes[1] = RoundOutcome()
    registry.parties.by_node = {
        reply_of(party).metadata.src_node_id: Party(party, party)
        for party in range(PARTIES)
    }
    aggregation.add_all([reply_of(party) for party in range(PARTIES)], registry)
    assert aggregation.pooled(1).count == 2 * PARTIES
    assert len(widths) == len(LAYERS) * PARTIES
